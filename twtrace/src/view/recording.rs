//! What a recording says of itself, in words.

use crate::trace::{Info, Loss};
use crate::view::text;
use std::time::Duration;

/// Its name: that of its directory.
pub fn name(info: &Info) -> String {
    let name = info.path.file_name().unwrap_or(info.path.as_os_str());
    text::clean_bytes(name.as_encoded_bytes()).into_owned()
}

/// What is missing of it, one line each.
pub fn warnings(info: &Info) -> Vec<String> {
    let mut warnings = Vec::new();
    if !info.finished {
        warnings.push("the recording was not ended in order: its last second may be missing".to_owned());
    }
    if info.segments_dropped > 0 {
        let dropped =
            text::counted(usize::try_from(info.segments_dropped).unwrap_or(usize::MAX), "segment", "segments");
        warnings.push(format!("the recording begins later than the trace: {dropped} were dropped to keep its size"));
    }
    warnings.extend(losses(&info.losses));
    warnings
}

/// What a recording that has ended cannot know of the present.
pub fn ended(ago: Duration) -> String {
    format!("the recording ended {} ago: who made a timewait socket since then is not known", text::duration(ago))
}

/// Parts that cannot be read, one line each.
pub fn losses(losses: &[Loss]) -> impl Iterator<Item = String> {
    losses.iter().map(|loss| format!("{}: {}", text::clean(&loss.file), text::clean(&loss.what)))
}
