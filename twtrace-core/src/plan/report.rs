//! The answer of `twtrace budget`, and its inputs.

use super::{Outcome, Remedy};
use serde::Serialize;
use std::collections::BTreeMap;

/// Version of the JSON form.
pub const SCHEMA: u32 = 1;

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum From {
    /// The command line.
    Given,
    /// This host.
    Host,
    /// Neither: a default.
    Assumed,
}

/// One of [`Inputs`], under the name of its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[allow(missing_docs, reason = "the fields say what they are")]
pub enum Name {
    BindFirst,
    Destinations,
    LifetimeSeconds,
    Loopback,
    MaxTwBuckets,
    Range,
    RatePerS,
    Reserved,
    SourceIps,
    Timestamps,
    TwReuse,
    TwReuseDelayMs,
}

/// The inputs of the calculation.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Inputs {
    /// Connections per second; `None` when only the sustainable rate was asked for.
    pub rate_per_s: Option<f64>,
    /// How long a connection is open, seconds.
    pub lifetime_seconds: f64,
    /// Different destination addresses and ports.
    pub destinations: u32,
    /// Source addresses.
    pub source_ips: u32,
    /// Local ports, both inclusive.
    pub range: (u16, u16),
    /// Reserved ports, in the sysctl's own syntax.
    pub reserved: String,
    /// How many ports of the range are reserved.
    pub ports_reserved: u32,
    /// `tcp_tw_reuse`.
    pub tw_reuse: u8,
    /// `tcp_tw_reuse_delay`, milliseconds; `null` where the kernel has none and the delay is one second.
    pub tw_reuse_delay_ms: Option<u32>,
    /// `tcp_timestamps`, assumed for both sides.
    pub timestamps: bool,
    /// Connections stay on this host.
    pub loopback: bool,
    /// Sockets are bound before they connect.
    pub bind_first: bool,
    /// `tcp_max_tw_buckets`; `null` without limit.
    pub max_tw_buckets: Option<u64>,
}

/// What `twtrace budget --json` writes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Report {
    /// Version of this form.
    #[cfg_attr(feature = "schema", schemars(extend("const" = SCHEMA)))]
    pub schema: u32,
    /// The answer in one sentence.
    pub verdict: String,
    /// The inputs of the calculation.
    pub inputs: Inputs,
    /// Where each of `inputs` comes from.
    pub from: BTreeMap<Name, From>,
    /// The result. Without a rate, its usage figures are 0.
    pub outcome: Outcome,
    /// What each remedy gains.
    pub remedies: Vec<Remedy>,
}
