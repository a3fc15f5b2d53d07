//! `--debug-kernel`: which sockets the kernel side logs, and where its lines go.

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::Log;
use std::io::{IsTerminal as _, Write as _, stderr};
use std::net::{IpAddr, Ipv6Addr};
use twtrace_common::LogFilter as WireFilter;

/// The map of log lines.
pub(super) const MAP: &str = "AYA_LOGS";

/// Its size while something is logged, for the lines between two reads: the kernel side drops what does not fit.
pub(super) const MAP_BYTES: u32 = 1 << 20;

/// Which sockets are logged. Each given part must match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// Local or remote port.
    pub port: Option<u16>,
    /// Local or remote address. An IPv4 address also matches IPv6 sockets.
    pub addr: Option<IpAddr>,
    /// Process that opened or closed the connection.
    pub pid: Option<u32>,
}

impl LogFilter {
    /// As the kernel side takes it.
    pub(super) fn wire(filter: Option<Self>) -> WireFilter {
        let Some(Self { port, addr, pid }) = filter else { return WireFilter::OFF };
        let mapped = addr.map(|addr| match addr {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        });
        let bytes = mapped.unwrap_or(Ipv6Addr::UNSPECIFIED).octets();
        // Words are compared as they are in memory.
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        WireFilter {
            on: 1,
            port: port.unwrap_or(0).into(),
            tgid: pid.unwrap_or(0),
            has_addr: mapped.is_some().into(),
            addr: [word(0), word(4), word(8), word(12)],
        }
    }
}

/// Writes what the kernel side logs to standard error.
pub(super) struct KernelLog(EbpfLogger<StderrLog>);

impl KernelLog {
    /// Of an object that was loaded with a filter.
    ///
    /// # Errors
    /// It has no such map.
    pub(super) fn of(ebpf: &mut Ebpf) -> anyhow::Result<Self> {
        let log = StderrLog { is_terminal: stderr().is_terminal() };
        Ok(Self(EbpfLogger::init_with_logger(ebpf, log)?))
    }

    /// Writes what there is.
    pub(super) fn flush(&mut self) {
        self.0.flush();
    }
}

/// One line each.
struct StderrLog {
    is_terminal: bool,
}

impl Log for StderrLog {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        // Over a progress line, which is drawn again.
        let over = if self.is_terminal { "\r\x1b[K" } else { "" };
        // A log that cannot be written is no reason to stop tracing.
        let _ = writeln!(stderr(), "{over}kernel: {}", tidy(&record.args().to_string()));
    }

    fn flush(&self) {}
}

/// The kernel side's words have a fixed length, and all its addresses are IPv6.
fn tidy(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().map(|word| word.trim_start_matches("::ffff:")).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_names_an_address_as_ipv6_in_the_kernels_order() {
        assert_eq!(LogFilter::wire(None), WireFilter::OFF);
        let v4 = LogFilter { addr: Some(IpAddr::from([10, 0, 0, 1])), ..LogFilter::default() };
        let word = |bytes: [u8; 4]| u32::from_ne_bytes(bytes);
        let expected = [0, 0, word([0, 0, 0xff, 0xff]), word([10, 0, 0, 1])];
        let wire = LogFilter::wire(Some(v4));
        assert_eq!((wire.on, wire.port, wire.tgid, wire.has_addr, wire.addr), (1, 0, 0, 1, expected));
        let other = LogFilter { port: Some(8080), addr: None, pid: Some(9) };
        let wire = LogFilter::wire(Some(other));
        assert_eq!((wire.on, wire.port, wire.tgid, wire.has_addr, wire.addr), (1, 8080, 9, 0, [0; 4]));
    }

    #[test]
    fn lines_are_without_padding_and_ipv4_is_ipv4() {
        assert_eq!(
            tidy("sk:1f active  ::ffff:10.0.0.1.80 > fd00::1.443 SYN_SENT    -> ESTABLISHED  opener 5"),
            "sk:1f active 10.0.0.1.80 > fd00::1.443 SYN_SENT -> ESTABLISHED opener 5"
        );
    }
}
