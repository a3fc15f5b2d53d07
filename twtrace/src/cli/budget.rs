//! Arguments of `budget` and `explain`, which trace nothing.

use super::parse;
use clap::Args;
use std::time::Duration;
use twtrace_view::explain::Topic;

pub(super) const BUDGET_EXAMPLES: &str = "\
Examples:
  twtrace budget                                   what this host sustains to one destination
  twtrace budget --rate 1000 --lifetime 5ms        will 1,000 connections a second last, and if not, what helps?
  twtrace budget --rate 1000 --destinations 3      the same, spread evenly over three
  twtrace budget --rate 1000 --range 32768-60999 --reserved '' --tw-reuse 0 --max-tw-buckets 131072
                                                   for another host
  twtrace budget --rate 1000 --json                one JSON object

What is not given is this host's own setting. Nothing is traced, nothing is changed, and no rights are needed.";

pub(super) const EXPLAIN_EXAMPLES: &str = "\
Examples:
  twtrace explain                        the list of topics
  twtrace explain tcp_tw_reuse           a sysctl
  twtrace explain 'bind: address already in use'
                                         an error, as it was seen
  twtrace explain no-connection-reuse    a finding: what it means, what helps, how to check";

/// Arguments of `budget`.
#[derive(Clone, Debug, Args)]
pub struct BudgetArgs {
    /// Connections per second that this host opens and closes first [default: none; shows what is sustainable]
    #[arg(long, value_name = "N", value_parser = parse::rate)]
    pub rate: Option<f64>,

    /// How many different addresses and ports they go to, evenly [default: 1]
    #[arg(long, value_name = "N", value_parser = parse::several)]
    pub destinations: Option<u32>,

    /// Local ports to choose from, as in net.ipv4.ip_local_port_range: 32768-60999 [default: this host's]
    #[arg(long, value_name = "LOW-HIGH", value_parser = parse::range)]
    pub range: Option<(u16, u16)>,

    /// Ports never to choose, as in net.ipv4.ip_local_reserved_ports: 8080,9000-9100 [default: this host's]
    #[arg(long, value_name = "PORTS", value_parser = parse::reserved)]
    pub reserved: Option<String>,

    /// How many source addresses they come from, evenly [default: 1]
    #[arg(long, value_name = "N", value_parser = parse::several)]
    pub source_ips: Option<u32>,

    /// net.ipv4.tcp_tw_reuse: 0, 1, or 2 for loopback alone [default: this host's]
    #[arg(long, value_name = "0|1|2", value_parser = parse::tw_reuse)]
    pub tw_reuse: Option<u8>,

    /// How long a connection is open; its port is in use meanwhile: 5ms, 2s [default: 0s]
    #[arg(long, value_name = "TIME", value_parser = parse::span)]
    pub lifetime: Option<Duration>,

    /// The connections stay on this host (127.0.0.0/8, ::1): what --tw-reuse 2 is for
    #[arg(long)]
    pub loopback: bool,

    /// Sockets are bound before they connect, without IP_BIND_ADDRESS_NO_PORT
    #[arg(long)]
    pub bind_first: bool,

    /// net.ipv4.tcp_max_tw_buckets [default: this host's]
    #[arg(long, value_name = "N", value_parser = parse::buckets)]
    pub max_tw_buckets: Option<u64>,

    /// Write JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `explain`.
#[derive(Clone, Debug, Args)]
pub struct ExplainArgs {
    /// A topic, or an error message as it was seen [default: the list of topics]
    #[arg(value_name = "TOPIC", num_args = 0..)]
    words: Vec<String>,
}

impl ExplainArgs {
    /// The topic that is asked for; `None` for the list of topics.
    ///
    /// # Errors
    /// There is no such topic.
    pub fn topic(&self) -> Result<Option<&'static Topic>, clap::Error> {
        if self.words.is_empty() {
            return Ok(None);
        }
        let asked = self.words.join(" ");
        parse::topic(&asked).map(Some).map_err(|message| super::usage(&message))
    }
}
