//! The running kernel: loading the programs, the census, what the kernel allows and how to explain what it does not.

mod attach;
pub mod btf;
pub mod census;
pub mod cost;
mod counting;
pub mod execs;
pub mod explain;
pub mod hooks;
pub mod load;
pub mod log;
pub mod offsets;
mod plain;
pub mod probe;
pub mod room;
mod situation;
pub mod sweep;
pub mod tracefs;
