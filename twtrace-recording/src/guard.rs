//! Bytes from elsewhere must not crash the program: a panic inside a decoder becomes an ordinary error.

use anyhow::anyhow;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs code on untrusted bytes. A panic prints nothing, and becomes an error.
pub(super) fn guarded<T>(what: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                usual(panic);
            }
        }));
    });
    let before = GUARDED.replace(true);
    // The data that it touched is not used again after an error.
    let result = catch_unwind(AssertUnwindSafe(what));
    GUARDED.set(before);
    result.unwrap_or_else(|_| Err(anyhow!("is damaged in a way that the decoder does not know")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error() {
        assert!(guarded::<()>(|| panic!("not to be seen")).is_err());
        assert_eq!(guarded(|| Ok(1)).ok(), Some(1));
    }
}
