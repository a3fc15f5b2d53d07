//! The commands of `cargo xtask`, one module each, and what they share.
//!
//! This is a library as well as a program so that the build script of `twtrace` (feature `build-ebpf`) can use
//! [`ebpf::build`], the only recipe for the eBPF object.

pub mod bench;
pub mod build_ebpf;
pub mod check;
mod cross;
pub mod digest;
pub mod dist;
pub mod ebpf;
pub mod fuzz;
mod harness;
mod instructions;
pub mod process;
pub mod python;
pub mod setup;
pub mod soak;
pub mod test;
mod tested;
pub mod tidy;
pub mod tools;
pub mod vm;
pub mod workspace;
