//! The texts of `twtrace explain`, each in a file of its own under `explain/`, and the search for a topic.

use crate::text;
use std::io::{self, Write};

/// Something that can be explained.
#[derive(Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name, and its aliases.
    pub names: &'static [&'static str],
    /// Messages of errors that lead to it, in lower case and without punctuation.
    pub errors: &'static [&'static str],
    /// One line for the list.
    pub summary: &'static str,
    /// Its explanation.
    pub text: &'static str,
}

impl Topic {
    /// Its name in the list.
    pub fn name(&self) -> &'static str {
        self.names.first().copied().unwrap_or_default()
    }
}

macro_rules! topics {
    ($($file:literal: [$($name:literal),+] $summary:literal $({ $($error:literal),+ })?;)+) => {
        &[$(Topic {
            names: &[$($name),+],
            errors: &[$($($error),+)?],
            summary: $summary,
            text: include_str!(concat!("explain/", $file, ".txt")),
        }),+]
    };
}

/// Topics other than findings: errors, states, ports, settings, remedies.
pub const GENERAL: &[Topic] = topics! {
    "eaddrnotavail": ["eaddrnotavail", "noroutetohostexception"] "cannot assign requested address" {
        "cannot assign requested address", "can t assign requested address", "address not available", "errno 99",
        "os error 99", "socketexception 99", "error 99", "noroutetohostexception", "eaddrnotavail"
    };
    "eaddrinuse": ["eaddrinuse", "bindexception"] "address already in use" {
        "address already in use", "errno 98", "os error 98", "socketexception 98", "error 98", "bindexception", "eaddrinuse",
        "only one usage of each socket address"
    };
    "conntrack": ["conntrack", "nf_conntrack", "snat", "masquerade", "nat"] "tables and ports of a NAT: the other limits" {
        "nf conntrack table full", "table full dropping packet", "insert failed"
    };
    "ipv6-off": ["ipv6-off", "disable_ipv6"] "localhost is ::1, and there is none" {
        "address family not supported", "eafnosupport", "errno 97", "os error 97", "socketexception 97"
    };
    "privileged-ports": ["privileged-ports", "bindresvport", "noresvport", "resvport"] "NFS and RPC: a thousand ports below 1024" {
        "can t bind reserved port", "cannot bind to reserved port", "mount nfs connection timed out",
        "mount nfs address already in use"
    };
    "time-wait": ["time-wait", "timewait", "tw"] "why the side that closes first waits for 60 seconds";
    "fin-wait2": ["fin-wait2", "fin-wait-2", "finwait2"] "closed here, not yet by the peer";
    "close-wait": ["close-wait", "closewait"] "closed by the peer, not yet by the process here";
    "ports": ["ports", "4-tuple", "tuple", "port-exhaustion"] "what a connection takes, and when ports run out";
    "tcp-tw-reuse": ["tcp_tw_reuse", "tw_reuse", "tcp_tw_reuse_delay"] "connect() may take over a port in TIME_WAIT";
    "tcp-tw-recycle": ["tcp_tw_recycle", "tw_recycle"] "gone since Linux 4.12, and why";
    "tcp-fin-timeout": ["tcp_fin_timeout", "fin_timeout"] "bounds FIN_WAIT2; it does not shorten TIME_WAIT";
    "so-linger": ["so_linger", "linger", "reset"] "a reset instead of a close loses data";
    "tcp-max-tw-buckets": ["tcp_max_tw_buckets", "max_tw_buckets"] "the limit on TIME_WAIT sockets, and what exceeds it" {
        "time wait bucket table overflow"
    };
    "ip-local-port-range": ["ip_local_port_range", "port_range", "ip_local_reserved_ports"] "the ports that connect() chooses from";
    "ip-bind-address-no-port": ["ip_bind_address_no_port"] "a source address without a port for all destinations";
    "keep-alive": ["keep-alive", "keepalive", "so_keepalive"] "HTTP keep-alive helps, TCP keep-alive does not" {
        "nohttpresponseexception", "upstream prematurely closed connection", "socket hang up"
    };
    "connection-pool": ["connection-pool", "pool", "pooling"] "how many connections are needed: rate x lifetime";
    "coverage-and-tiers": ["coverage-and-tiers", "coverage", "tiers", "tier"] "how far the figures of twtrace can be trusted";
    "thresholds": ["thresholds", "how-many", "severity"] "1,000 to 60,000: why a count is not a severity";
};

/// Findings: each has a text, and some share one.
pub const FINDINGS: &[Topic] = topics! {
    "exhaustion": ["exhaustion-reached"] "connects fail: no port is left for a destination";
    "exhaustion": ["exhaustion-near", "exhaustion"] "ports run out within minutes at this rate";
    "slow-connect": ["slow-connect", "slow-connects", "connect-latency"] "connect() searches long for a local port";
    "bound-pool-exhausted": ["bound-pool-exhausted"] "bind() with port 0 fails: every port is bound";
    "not-time-wait": ["not-time-wait"] "a failure that looks like port exhaustion and is not";
    "no-answer": ["connects-fail", "no-answer", "etimedout", "econnrefused"] "connects time out or are refused, ports are free" {
        "connection timed out", "connect timed out", "connect timeout", "operation timed out", "i o timeout",
        "connection refused", "etimedout", "econnrefused", "errno 110", "errno 111", "os error 110", "os error 111",
        "socketexception 110", "socketexception 111", "sockettimeoutexception", "connectexception"
    };
    "port-held-by-time-wait": ["port-held-by-time-wait", "so_reuseaddr"] "a server cannot bind its port again";
    "bucket-overflow": ["bucket-overflow", "tcptimewaitoverflow"] "TIME_WAIT sockets are not created at the limit";
    "no-connection-reuse": ["no-connection-reuse"] "a new connection for each request";
    "pool-bypassed": ["pool-bypassed"] "connections that bypass the pool";
    "pool-too-small": ["pool-too-small", "maxidleconnsperhost", "pool_maxsize"] "a pool that keeps fewer than are used at a time" {
        "connection pool is full discarding connection"
    };
    "relay": ["relay", "relays", "tcp-proxy", "docker-proxy", "userland-proxy", "sidecar"] "a connection opened for each one accepted";
    "fork-per-request": ["fork-per-request"] "a process and a connection for each request";
    "server-closes-first": ["server-closes-first"] "the server keeps the TIME_WAIT sockets";
    "periodic-checks": ["periodic-checks", "health-checks"] "a few connections at regular intervals";
    "bind-before-connect": ["bind-before-connect"] "bind() takes a port for all destinations";
    "reset-instead-of-close": ["reset-instead-of-close"] "connections are aborted with a reset" {
        "connection reset by peer", "econnreset", "errno 104", "os error 104", "socketexception 104"
    };
    "not-accepting": ["not-accepting", "accept-queue", "backlog", "listenoverflows", "listendrops"] "connections wait in the queue of a listener" {
        "possible syn flooding", "times the listen queue of a socket overflowed"
    };
    "close-wait-leak": ["close-wait-leak"] "sockets that the process forgot to close" {
        "too many open files", "emfile", "errno 24", "os error 24"
    };
    "fin-wait1": ["fin-wait1-pile-up", "fin-wait1", "fin-wait-1", "finwait1", "orphans", "tcp_orphan_retries", "tcp_max_orphans"] "closed here, and not acknowledged" {
        "too many orphaned sockets", "out of memory consider tuning tcp mem", "tcpabortonmemory"
    };
    "fin-wait2-pile-up": ["fin-wait2-pile-up"] "sockets that wait for a peer that does not close";
    "incomplete-trace": ["incomplete-trace"] "what twtrace did not see";
};

/// The topic of a name, ignoring case and dashes, or of an error message that contains the words of one; if there is no such
/// name, the error is a similar one.
///
/// # Errors
/// There is no such topic.
pub fn topic(asked: &str) -> Result<&'static Topic, &'static str> {
    let message = words(asked);
    let asked = plain(asked);
    let all = || GENERAL.iter().chain(FINDINGS);
    let named = || all().find(|topic| topic.names.iter().any(|name| plain(name) == asked));
    // Of several messages, the one that says the most.
    let in_message = |topic: &Topic| {
        topic.errors.iter().filter(|error| message.contains(&format!(" {error} "))).map(|error| error.len()).max()
    };
    let said = || all().filter_map(|topic| Some((in_message(topic)?, topic))).max_by_key(|(length, _)| *length);
    named().or_else(|| said().map(|(_, topic)| topic)).ok_or_else(|| {
        let names = all().flat_map(|topic| topic.names.iter().copied());
        names.min_by_key(|name| strsim::levenshtein(&asked, &plain(name))).unwrap_or_default()
    })
}

/// Writes the text of a topic.
///
/// # Errors
/// The output cannot be written to.
pub fn write(topic: &Topic, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(topic.text.as_bytes())
}

/// Writes the list of topics, one per line.
///
/// # Errors
/// The output cannot be written to.
pub fn write_list(out: &mut dyn Write) -> io::Result<()> {
    for (title, topics) in [("Topics (twtrace explain TOPIC):", GENERAL), ("\nFindings:", FINDINGS)] {
        writeln!(out, "{title}")?;
        for topic in topics {
            writeln!(out, "  {}  {}", text::pad(topic.name(), 23, false), topic.summary)?;
        }
    }
    Ok(())
}

/// A name without the differences in how people write it: `net.ipv4.tcp_tw_reuse`, `TIME_WAIT`, `TIME-WAIT`.
fn plain(name: &str) -> String {
    // Text longer than any name is similar to none of them.
    let lower: String = name.chars().take(64).flat_map(char::to_lowercase).collect();
    let lower = lower.strip_prefix("net.ipv4.").unwrap_or(&lower);
    lower.chars().map(|letter| if matches!(letter, '_' | ' ') { '-' } else { letter }).collect()
}

/// A message in lower case, with a space in place of what is neither a letter nor a digit, and one at each end.
fn words(message: &str) -> String {
    let lower: String = message.chars().take(1024).flat_map(char::to_lowercase).collect();
    let words = lower.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
    words.fold(" ".to_owned(), |text, word| text + word + " ")
}

#[cfg(test)]
mod tests;
