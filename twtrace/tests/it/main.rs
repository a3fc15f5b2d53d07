//! The program from the outside. Nothing here needs root.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stdout, reason = "figures for the person who runs the test")]

#[path = "../../../twtrace-recording/tests/it/common/mod.rs"]
mod common;
mod deploy;
mod golden;
mod report;
mod schema;
mod usage;
