//! Arguments of every command that traces.

use super::parse;
use clap::Args;
use twtrace_probe::host::runtimes::Runtimes;
use twtrace_probe::kernel::load::LoadOptions;
use twtrace_probe::kernel::log::LogFilter;
use twtrace_probe::source::kernel_source::KernelSourceOptions;

/// Settings of the kernel side.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Kernel side")]
pub struct KernelArgs {
    /// Sockets that can be followed at a time; of further ones, less is known [default: by the host, see doctor]
    #[arg(long, value_name = "N", value_parser = parse::max_sockets)]
    pub max_sockets: Option<u32>,

    /// Size of the ring buffer, a power of two: 524288, 512K, 8M [default: by the host, see doctor]
    #[arg(long, value_name = "SIZE", value_parser = parse::ring_bytes)]
    pub ring_bytes: Option<u32>,

    /// Log what the kernel side does with some sockets to standard error: port=8080,addr=10.0.0.1,pid=1234. All parts
    /// must match; port and address are local or remote
    #[arg(long, value_name = "FILTER", value_parser = parse::log_filter)]
    pub debug_kernel: Option<LogFilter>,

    /// Ask container runtimes for names, images and pods: auto tries the usual sockets, off asks none, or the paths of
    /// sockets with commas. Containers are only listed
    #[arg(long, value_name = "auto|off|PATH,...", default_value = "auto", hide_default_value = true)]
    pub runtimes: Runtimes,
}

impl KernelArgs {
    /// Whether any of them is given.
    pub fn is_given(&self) -> bool {
        self.max_sockets.is_some()
            || self.ring_bytes.is_some()
            || self.debug_kernel.is_some()
            || self.runtimes != Runtimes::Auto
    }

    /// How to trace.
    pub fn options(&self) -> KernelSourceOptions {
        let load = LoadOptions {
            max_sockets: self.max_sockets,
            ring_bytes: self.ring_bytes,
            log: self.debug_kernel,
            ..LoadOptions::default()
        };
        KernelSourceOptions { load, runtimes: self.runtimes.clone() }
    }
}
