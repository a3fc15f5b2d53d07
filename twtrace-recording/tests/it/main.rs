//! Recordings from the outside: events in, the same events out.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stdout, reason = "figures for the person who runs the test")]

mod common;
mod crash;
mod damage;
mod dataset;
mod figures;
mod recording;
mod segments;
