//! The texts of `twtrace explain`, each in a file of its own under `explain/`, and the search for a topic.

use crate::text;
use std::io::{self, Write};

/// Something that can be explained.
#[derive(Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name, and its aliases.
    pub names: &'static [&'static str],
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
    ($($file:literal: [$($name:literal),+] $summary:literal;)+) => {
        &[$(Topic { names: &[$($name),+], summary: $summary, text: include_str!(concat!("explain/", $file, ".txt")) }),+]
    };
}

/// Topics other than findings: states, ports, settings, remedies.
pub const GENERAL: &[Topic] = topics! {
    "time-wait": ["time-wait", "timewait", "tw"] "why the side that closes first waits for 60 seconds";
    "fin-wait2": ["fin-wait2", "fin-wait-2", "finwait2"] "closed here, not yet by the peer";
    "close-wait": ["close-wait", "closewait"] "closed by the peer, not yet by the process here";
    "ports": ["ports", "4-tuple", "tuple", "port-exhaustion"] "what a connection takes, and when ports run out";
    "tcp-tw-reuse": ["tcp_tw_reuse", "tw_reuse", "tcp_tw_reuse_delay"] "connect() may take over a port in TIME_WAIT";
    "tcp-tw-recycle": ["tcp_tw_recycle", "tw_recycle"] "gone since Linux 4.12, and why";
    "tcp-fin-timeout": ["tcp_fin_timeout", "fin_timeout"] "bounds FIN_WAIT2; it does not shorten TIME_WAIT";
    "so-linger": ["so_linger", "linger", "reset"] "a reset instead of a close loses data";
    "tcp-max-tw-buckets": ["tcp_max_tw_buckets", "max_tw_buckets"] "the limit on TIME_WAIT sockets, and what exceeds it";
    "ip-local-port-range": ["ip_local_port_range", "port_range", "ip_local_reserved_ports"] "the ports that connect() chooses from";
    "ip-bind-address-no-port": ["ip_bind_address_no_port"] "a source address without a port for all destinations";
    "keep-alive": ["keep-alive", "keepalive", "so_keepalive"] "HTTP keep-alive helps, TCP keep-alive does not";
    "connection-pool": ["connection-pool", "pool", "pooling"] "how many connections are needed: rate x lifetime";
    "coverage-and-tiers": ["coverage-and-tiers", "coverage", "tiers", "tier"] "how far the figures of twtrace can be trusted";
    "thresholds": ["thresholds", "how-many", "severity"] "1,000 to 60,000: why a count is not a severity";
};

/// Findings: each has a text, and some share one.
pub const FINDINGS: &[Topic] = topics! {
    "exhaustion": ["exhaustion-reached"] "connects fail: no port is left for a destination";
    "exhaustion": ["exhaustion-near", "exhaustion"] "ports run out within minutes at this rate";
    "bound-pool-exhausted": ["bound-pool-exhausted"] "bind() with port 0 fails: every port is bound";
    "not-time-wait": ["not-time-wait", "eaddrnotavail", "eaddrinuse"] "a failure that looks like port exhaustion and is not";
    "port-held-by-time-wait": ["port-held-by-time-wait", "so_reuseaddr"] "a server cannot bind its port again";
    "bucket-overflow": ["bucket-overflow", "tcptimewaitoverflow"] "TIME_WAIT sockets are not created at the limit";
    "no-connection-reuse": ["no-connection-reuse"] "a new connection for each request";
    "pool-bypassed": ["pool-bypassed"] "connections that bypass the pool";
    "pool-too-small": ["pool-too-small", "maxidleconnsperhost", "pool_maxsize"] "a pool that keeps fewer than are used at a time";
    "relay": ["relay", "relays", "tcp-proxy"] "a connection opened for each one accepted";
    "fork-per-request": ["fork-per-request"] "a process and a connection for each request";
    "server-closes-first": ["server-closes-first"] "the server keeps the TIME_WAIT sockets";
    "periodic-checks": ["periodic-checks", "health-checks"] "a few connections at regular intervals";
    "bind-before-connect": ["bind-before-connect"] "bind() takes a port for all destinations";
    "reset-instead-of-close": ["reset-instead-of-close"] "connections are aborted with a reset";
    "not-accepting": ["not-accepting", "accept-queue", "backlog", "listenoverflows", "listendrops"] "connections wait in the queue of a listener";
    "close-wait-leak": ["close-wait-leak"] "sockets that the process forgot to close";
    "fin-wait2-pile-up": ["fin-wait2-pile-up"] "sockets that wait for a peer that does not close";
    "incomplete-trace": ["incomplete-trace"] "what twtrace did not see";
};

/// The topic of a name, ignoring case and dashes; if there is no such name, the error is a similar one.
///
/// # Errors
/// There is no such topic.
pub fn topic(asked: &str) -> Result<&'static Topic, &'static str> {
    let asked = plain(asked);
    let all = || GENERAL.iter().chain(FINDINGS);
    let found = all().find(|topic| topic.names.iter().any(|name| plain(name) == asked));
    found.ok_or_else(|| {
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

#[cfg(test)]
mod tests;
