//! Each scenario of real software gives its finding, and no other; its remedy takes it away.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stdout, reason = "figures for whoever runs the test")]

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;

use twtrace_tests::scenes::{ALL, dump, play};

#[test]
fn dumps() {
    let only = std::env::var("TWTRACE_SCENE").unwrap_or_default();
    for scene in ALL.iter().filter(|scene| scene.name.contains(&only)) {
        let mut text = String::new();
        for (when, take) in [("before", Some(&scene.before)), ("after", scene.after.as_ref())] {
            let Some(take) = take else { continue };
            let played = play::play(take);
            let _ = writeln!(text, "== {}, {when}\n{}", scene.name, dump::of(&played));
        }
        println!("{text}");
        if let Ok(path) = std::env::var("TWTRACE_DUMPS") {
            File::options().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
        }
    }
}
