#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use super::*;

#[test]
fn strings_are_whole_and_harmless() {
    let hostile = "a\u{1b}[2J\u{9b}\u{202e}\u{7f}\"\\\n\u{200b}日\u{e0041}";
    let mut bytes = Vec::new();
    hostile.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, Plain)).unwrap();
    let written = String::from_utf8(bytes).unwrap();
    assert!(written.chars().all(text::is_plain), "{written}");
    assert_eq!(serde_json::from_str::<String>(&written).unwrap(), hostile);
}
