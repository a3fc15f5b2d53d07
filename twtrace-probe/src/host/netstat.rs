//! `/proc/net/sockstat` and `/proc/net/netstat`.

/// TIME_WAIT sockets of both substates: `tw` in the `TCP:` line of `/proc/net/sockstat`.
pub fn time_wait(sockstat: &str) -> Option<u64> {
    figure(sockstat, "TCP:", "tw")
}

/// Sockets of this network namespace that are connected or listen (`sock_prot_inuse_get`): `inuse` in `TCP:` of
/// `/proc/net/sockstat`, or in `TCP6:` of `/proc/net/sockstat6`.
pub fn in_use(sockstat: &str, protocol: &str) -> Option<u64> {
    figure(sockstat, protocol, "inuse")
}

fn figure(sockstat: &str, protocol: &str, name: &str) -> Option<u64> {
    let mut words = sockstat.lines().find_map(|line| line.strip_prefix(protocol))?.split_ascii_whitespace();
    words.find(|word| *word == name)?;
    words.next()?.parse().ok()
}

/// TCP sockets that exist, in all network namespaces: `alloc` in the same line (`proto_sockets_allocated_sum_positive`).
pub fn sockets(sockstat: &str) -> Option<u64> {
    figure(sockstat, "TCP:", "alloc")
}

/// Closed sockets that no process has, in all network namespaces: `orphan` in the same line (`tcp_orphan_count_sum`).
pub fn orphans(sockstat: &str) -> Option<u64> {
    figure(sockstat, "TCP:", "orphan")
}

/// A column of `/proc/net/stat/nf_conntrack`, summed up: a line of names, then one of hexadecimal numbers for each CPU.
pub fn conntrack(table: &str, name: &str) -> Option<u64> {
    let mut lines = table.lines();
    let at = lines.next()?.split_ascii_whitespace().position(|column| column == name)?;
    let value = |line: &str| u64::from_str_radix(line.split_ascii_whitespace().nth(at)?, 16).ok();
    lines.map(value).try_fold(0_u64, |sum, value| Some(sum.saturating_add(value?)))
}

/// A counter of `/proc/net/netstat` or `/proc/net/snmp`: a line of names is followed by a line of values, both with the
/// same prefix.
pub fn counter(netstat: &str, prefix: &str, name: &str) -> Option<u64> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix(prefix)?.strip_prefix(':'));
    while let (Some(names), Some(figures)) = (lines.next(), lines.next()) {
        let index = names.split_ascii_whitespace().position(|candidate| candidate == name);
        if let Some(index) = index {
            return figures.split_ascii_whitespace().nth(index)?.parse().ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOCKSTAT: &str = "sockets: used 12\nTCP: inuse 1 orphan 0 tw 417 alloc 1 mem 134\nUDP: inuse 0 mem 0\n";
    const NETSTAT: &str = "TcpExt: SyncookiesSent TW TCPTimeWaitOverflow\nTcpExt: 0 51 9\n\
                           IpExt: InNoRoutes InTruncatedPkts\nIpExt: 3 4\n";

    #[test]
    fn tw_is_found_by_name() {
        for (text, expected) in [
            (SOCKSTAT, Some(417)),
            ("TCP: tw", None),
            ("TCP: inuse 1", None),
            ("TCP6: inuse 1 tw 3", None),
            ("", None),
            ("TCP: tw many", None),
        ] {
            assert_eq!(time_wait(text), expected, "{text:?}");
        }
        assert_eq!((sockets(SOCKSTAT), sockets("TCP: tw 3")), (Some(1), None));
        assert_eq!((in_use(SOCKSTAT, "TCP:"), in_use("TCP6: inuse 2", "TCP6:")), (Some(1), Some(2)));
    }

    #[test]
    fn columns_of_conntrack_are_summed_up() {
        let table = "entries found insert_failed drop\n0000000a  00000000 00000010 00000002\n0000000a  00000000 00000001 00000000\n";
        assert_eq!((conntrack(table, "insert_failed"), conntrack(table, "drop")), (Some(17), Some(2)));
        for table in ["", "entries\n1\n", "entries drop\n1 x\n", "entries drop\n1\n"] {
            assert_eq!(conntrack(table, "drop"), None, "{table:?}");
        }
        assert_eq!((orphans(SOCKSTAT), orphans("")), (Some(0), None));
    }

    #[test]
    fn counters_are_found_by_name() {
        for (prefix, name, expected) in [
            ("TcpExt", "TCPTimeWaitOverflow", Some(9)),
            ("TcpExt", "SyncookiesSent", Some(0)),
            ("IpExt", "InTruncatedPkts", Some(4)),
            ("IpExt", "TW", None),
            ("Tcp", "TW", None),
        ] {
            assert_eq!(counter(NETSTAT, prefix, name), expected, "{prefix} {name}");
        }
        assert_eq!(counter("TcpExt: A B\nTcpExt: 1\n", "TcpExt", "B"), None);
        assert_eq!(counter("TcpExt: A\n", "TcpExt", "A"), None);
    }
}
