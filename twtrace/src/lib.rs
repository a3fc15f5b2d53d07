//! twtrace: which process creates these TIME_WAIT sockets?
//!
//! The edges of the program: the kernel, the host, the terminal. `twtrace-core` decides what the events mean.

mod batch;
pub mod cli;
pub mod cmd;
mod event_loop;
mod exit_code;
mod recorded;
mod tracer;
pub mod tui;
