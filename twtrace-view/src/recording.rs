//! What a recording says about itself, in words.

use crate::text;
use std::time::Duration;
use twtrace_core::recording::{Info, Loss};

/// Its name: the name of its directory.
pub fn name(info: &Info) -> String {
    let name = info.path.file_name().unwrap_or(info.path.as_os_str());
    text::clean_bytes(name.as_encoded_bytes()).into_owned()
}

/// What is missing from it, one line each, the amount first.
pub fn warnings(info: &Info) -> Vec<String> {
    let covers = covers(info).map(|covers| format!("{} {covers}", name(info)));
    covers.into_iter().chain(losses(&info.losses)).chain(state(info)).collect()
}

/// How much of the recorded connections can be read; `None` when nothing is missing.
pub fn covers(info: &Info) -> Option<String> {
    if !info.is_cut() {
        return None;
    }
    let (read, share) = (text::count(info.connections), text::percent(info.covers()));
    let all = text::count(info.connections.saturating_add(info.connections_lost));
    Some(if info.lost_more {
        format!("covers at most {share} of the recorded connections: {read} of {all} or more")
    } else {
        format!("covers {share} of the recorded connections: {read} of {all}")
    })
}

/// What is missing at its beginning and its end, one line each.
pub fn state(info: &Info) -> Vec<String> {
    let mut state = Vec::new();
    if !info.finished {
        state.push("the recording was not closed properly: its end may be missing".to_owned());
    }
    if info.segments_dropped > 0 {
        let dropped = text::count(info.segments_dropped);
        state.push(format!("--keep has dropped {dropped} segments from its beginning"));
    }
    state
}

/// What a recording that has ended cannot know about the present.
pub fn ended(ago: Duration) -> String {
    format!("the recording ended {} ago: who created TIME_WAIT sockets since then is not known", text::duration(ago))
}

/// Parts that cannot be read, one line each.
pub fn losses(losses: &[Loss]) -> impl Iterator<Item = String> {
    losses.iter().map(|loss| format!("{}: {}", text::clean(&loss.file), text::clean(&loss.what)))
}
