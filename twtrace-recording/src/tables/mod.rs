//! The four tables: for each, its columns and how Inputs get into them and out again.

pub(super) mod connections;
pub(super) mod processes;
pub(super) mod samples;
pub(super) mod sockets;
