//! The kernel side's totals.

use twtrace_core::event::KernelCounters;

macro_rules! define {
    (kernel { $($(#[$_doc:meta])* $name:ident,)* } user { $($(#[$_user_doc:meta])* $user:ident,)* }) => {
        /// Totals that take their values from `next`, in the order of declaration.
        pub fn counters(mut next: impl FnMut() -> u64) -> KernelCounters {
            KernelCounters { $($name: next(),)* $($user: next(),)* }
        }
    };
}
twtrace_common::for_each_counter!(define);
