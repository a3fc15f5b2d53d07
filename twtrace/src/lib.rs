//! twtrace: which process creates these TIME_WAIT sockets?
//!
//! The edges of the program: the kernel, the host, the terminal. `twtrace-core` decides what the events mean.

pub(crate) mod agent;
pub(crate) mod attach;
mod batch;
pub mod cli;
mod clock;
pub mod cmd;
pub mod config;
mod event_loop;
mod exit_code;
mod recorded;
mod tracer;
pub mod tui;
mod watching;
