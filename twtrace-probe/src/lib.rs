//! The live host: loads and attaches the eBPF programs, queries sock_diag and `/proc`, and passes on the results.
//!
//! [`source::kernel_source::KernelSource`] combines all of it. `twtrace-core` decides what the events mean.

pub mod confine;
pub mod host;
pub mod kernel;
pub mod source;
