#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use super::*;
use crate::view::text::is_plain;
use twtrace_core::engine::Engine;

/// A report on one recording.
pub(super) fn with_report<T>(engine: &Engine, options: Options, then: impl FnOnce(&Report<'_>) -> T) -> T {
    let info = fixture::info("/var/lib/web.twt", engine);
    let source = Source { info: &info, losses: &[], model: engine.model() };
    then(&Report::new(&[source], options))
}

pub(super) fn written(write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.lines().all(|line| line.chars().all(is_plain)), "{text}");
    text
}

fn all_groupings() -> [By; 6] {
    [By::Process, By::Command, By::Parent, By::User, By::Cgroup, By::Destination]
}

#[test]
fn the_text_is_as_it_was() {
    let by = |by| {
        with_report(&fixture::short(), Options { by, top: Some(8) }, |report| written(|out| text::write(report, out)))
    };
    insta::assert_snapshot!(by(By::Process));
    insta::assert_snapshot!("text_by_command", by(By::Command));
}

#[test]
fn the_document_is_as_it_was() {
    let options = Options { by: By::Command, top: Some(8) };
    insta::assert_snapshot!(with_report(&fixture::short(), options, |report| written(|out| markdown::write(
        report, out
    ))));
}
