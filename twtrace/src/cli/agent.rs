//! Arguments of `agent`.

use super::{FailOn, KernelArgs, parse};
use crate::agent::listen::Address;
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use std::path::PathBuf;
use std::time::Duration;
use twtrace_core::snapshot::GroupBy;
use twtrace_recording::writer::Keep;
use twtrace_view::metrics::LABELS;

/// Arguments of `agent`.
#[derive(Clone, Debug, Args)]
pub struct AgentArgs {
    /// Where to answer: ADDRESS:PORT or unix:/PATH; may be repeated
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9790")]
    pub listen: Vec<Address>,

    /// Folder of the flight recorder and of what is kept of it; it must exist [default: nothing is recorded]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,

    /// How much the flight recorder keeps, by time or by size: 30m, 6h, 500MiB, 2GiB
    #[arg(long, value_name = "TIME|SIZE", value_parser = parse::keep, default_value = "6h", requires = "dir")]
    pub keep: Keep,

    /// Keep the last minutes when one of these findings begins: names separated by commas, or any, warning, critical
    #[arg(long, value_name = "ID", requires = "dir")]
    pub freeze: Option<FailOn>,

    /// How much of the time before a finding to keep
    #[arg(long, value_name = "TIME", value_parser = parse::duration, default_value = "10m", requires = "freeze")]
    pub freeze_last: Duration,

    /// Labels of metrics about processes, separated by commas
    #[arg(long, value_name = "LABEL", value_delimiter = ',', value_parser = label(), default_value = "program,user")]
    pub metrics_by: Vec<GroupBy>,

    /// Maximum series of each metric about processes, and of each about destinations; the rest is in one more, "(other)"
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000), default_value_t = 200)]
    pub metrics_series: u32,

    /// File with a token that clients must present: Authorization: Bearer TOKEN
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Certificate chain for TLS, in PEM form
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// Its private key, in PEM form
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Listen on addresses that other hosts reach without a token, or without TLS: who reaches them reads command lines,
    /// users, addresses and traffic of this host
    #[arg(long)]
    pub expose: bool,

    /// Become this user and its group, with the capabilities that tracing needs; the folder of --dir must be its own
    #[arg(long, value_name = "NAME", conflicts_with = "unconfined")]
    pub user: Option<String>,

    /// Keep all privileges, filter no system calls and limit no files
    #[arg(long)]
    pub unconfined: bool,

    /// How long to run: 500ms, 5s, 2m, 1h, or seconds [default: until stopped]
    #[arg(long, value_name = "TIME", value_parser = parse::duration)]
    pub duration: Option<Duration>,

    /// How to trace.
    #[command(flatten)]
    pub kernel: KernelArgs,
}

/// The groupings that can be labels, by name.
fn label() -> impl TypedValueParser<Value = GroupBy> {
    let values = LABELS.iter().map(|by| PossibleValue::new(by.name()).help(by.grouping().doc.trim()));
    PossibleValuesParser::new(values).map(|name| GroupBy::of(&name).unwrap_or_default())
}

pub(super) const AGENT_EXAMPLES: &str = "\
Examples:
  twtrace agent                                          trace, and answer on 127.0.0.1:9790: a live page at /, metrics at
                                                         /metrics
  twtrace agent --dir /var/lib/twtrace --freeze warning  with a flight recorder of six hours, of which the last ten minutes
                                                         are kept when something goes wrong
  twtrace agent --metrics-by unit,container              metrics by systemd unit and container
  twtrace agent --listen unix:/run/twtrace.sock          on a Unix socket
  twtrace agent --user twtrace --dir /var/lib/twtrace    as another user, with five capabilities at most
  twtrace agent --listen 10.0.0.5:9790 --token-file /etc/twtrace/token \\
      --tls-cert /etc/twtrace/cert.pem --tls-key /etc/twtrace/key.pem
                                                         for other hosts";
