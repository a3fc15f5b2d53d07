//! The live host: loads and attaches the eBPF programs, asks sock_diag and `/proc`, and hands over what it learns.
//!
//! [`source::kernel_source::KernelSource`] puts it all together. What the events mean is decided in `twtrace-core`.

pub mod host;
pub mod kernel;
pub mod source;
