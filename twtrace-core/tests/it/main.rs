//! The core from the outside: lists of events in, state, snapshots and findings out.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stdout, reason = "figures for the person who runs the test")]

mod audit;
mod changes;
mod classify;
mod common;
mod decode;
mod engine;
mod groups;
mod history;
mod image;
mod kernel_sockets;
mod late;
mod likely;
mod memory;
mod namespaces;
mod no_btf;
mod parts;
mod plan;
mod properties;
mod restart;
mod rules;
mod shared;
mod what_if;
