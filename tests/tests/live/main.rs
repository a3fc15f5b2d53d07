//! Live tests: real sockets, the real kernel.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stdout, reason = "figures for the person who runs the test")]

mod agent;
mod audit;
mod bindings;
mod budget;
mod common;
mod cost;
mod errors;
mod exact;
mod export;
mod failures;
mod findings;
mod fleet;
mod ground_truth;
mod identity;
mod instances;
mod kernel_log;
mod kernel_sockets;
mod keys;
mod losses;
mod million;
mod mptcp;
mod namespaces;
mod older;
mod one_shots;
mod prometheus;
mod readme;
mod real_software;
mod record;
mod recordings;
mod replay;
mod scale;
mod screen;
mod socket_owners;
mod sockets;
mod terminals;
mod what_if;
