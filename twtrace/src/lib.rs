//! twtrace: which process creates these TIME_WAIT sockets?
//!
//! The edges of the program: the kernel, the host, the terminal. What the events mean is decided in `twtrace-core`.

pub mod cli;
pub mod cmd;
pub mod tui;
