//! What is wrong, why, and what to change: findings with their evidence and advice.
//!
//! A [`Rule`] looks at the model alone. Its check, evidence, advice, confidence and recheck are in one file of
//! `rules/` each. Texts here name no process and no address: views put those in front, sanitised.

use crate::event::{Comm, ProcessKey};
use crate::evidence::Evidence;
use crate::keys::DestKey;
use strum::VariantArray as _;

/// What can be found. The names are an interface: `--fail-on` takes them and JSON has them.
///
/// In their order: the gravest kinds first.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "kebab-case")]
pub enum Rule {
    /// Connects fail: no port is left towards a destination.
    ExhaustionReached,
    /// Ports towards a destination run out within minutes at this rate, or nearly all are, or were, timewait sockets'.
    ExhaustionNear,
    /// bind(2) with port 0 fails: every port of the range is bound.
    BoundPoolExhausted,
    /// EADDRNOTAVAIL or EADDRINUSE for a reason that has nothing to do with TIME_WAIT.
    NotTimeWait,
    /// A server cannot bind its port: timewait sockets have it.
    PortHeldByTimeWait,
    /// Timewait sockets are refused: `tcp_max_tw_buckets` is reached.
    BucketOverflow,
    /// One request per connection.
    NoConnectionReuse,
    /// A process keeps a pool of connections and opens others beside it, to the same destination.
    PoolBypassed,
    /// Many short-lived processes under one parent, a connection or two each.
    ForkPerRequest,
    /// The server closes first, so that it keeps the timewait sockets.
    ServerClosesFirst,
    /// A few connections at regular intervals.
    PeriodicChecks,
    /// bind(2) before connect(2) takes a port towards all destinations.
    BindBeforeConnect,
    /// Connections are thrown away with a reset instead of being closed.
    ResetInsteadOfClose,
    /// Sockets whose peer has closed, and whose process does not.
    CloseWaitLeak,
    /// Sockets that wait for the peer's FIN, which does not come.
    FinWait2PileUp,
    /// The tracer doubts its own figures.
    IncompleteTrace,
}

impl Rule {
    /// All of them.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// Stable name for JSON and the command line.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// How grave, by consequence and never by a bare count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Costs something, breaks nothing.
    Info,
    /// Breaks something before long, or loses data now and then.
    Warning,
    /// Something fails now, or within a minute.
    Critical,
}

/// How sure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// A guess from a pattern that others may leave as well.
    Low,
    /// The pattern fits, and nothing seen speaks against it.
    Medium,
    /// Seen in the kernel.
    High,
}

/// Who.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The process; of several, `None`.
    pub process: Option<ProcessKey>,
    /// Its command; of several the one of most of them.
    pub command: Comm,
    /// PID of the parent.
    pub ppid: u32,
    /// The parent's command: who to look at when `process` is `None`.
    pub parent_command: Comm,
    /// How many processes it stands for.
    pub processes: u64,
    /// Real uid.
    pub uid: u32,
}

/// What a change does, in numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effect {
    /// What changes: `time_wait_created_per_s`, `ports_total`, `max_rate_per_s`, `connect_failures_per_s`,
    /// `connections_needed`, `ports_bound`, `time_wait_live`, `max_tw_buckets`, `resets_per_s`, `close_wait`,
    /// `fin_wait2`.
    pub figure: &'static str,
    /// As it is.
    pub from: f64,
    /// As it will be.
    pub to: f64,
}

/// Something to change. It is printed and never executed.
#[derive(Clone, Debug, PartialEq)]
pub struct Advice {
    /// Stable name: `pool-connections`, `keep-alive`, `let-peer-close`, `bind-address-no-port`, `tcp-tw-reuse`,
    /// `wider-port-range`, `more-addresses`, `bucket-limit`, `close-sockets`, `read-before-close`, `fix-address`,
    /// `so-reuseaddr`, `slow-down`, `trace-more`.
    pub id: &'static str,
    /// What to do, one sentence.
    pub text: String,
    /// The exact command or setting, where there is one.
    pub command: Option<String>,
    /// What it will change.
    pub effect: Vec<Effect>,
    /// What it costs or may break.
    pub risk: String,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Which rule.
    pub rule: Rule,
    /// How grave.
    pub severity: Severity,
    /// It still goes on. False for what happened earlier in the trace and has stopped since.
    pub holds: bool,
    /// Who, where one can be named.
    pub process: Option<Subject>,
    /// Towards where, or on which port, where one can be named.
    pub destination: Option<DestKey>,
    /// What lies behind it, where it is a consequence of something that another rule knows.
    pub cause: Option<Rule>,
    /// What is wrong, one sentence without its subject: `opens a new connection for each request`.
    pub title: String,
    /// What it rests on, the weightiest first.
    pub evidence: Vec<Evidence>,
    /// What to change, the best first.
    pub advice: Vec<Advice>,
    /// How sure.
    pub confidence: Confidence,
    /// How to see that a change has helped, one sentence.
    pub recheck: String,
}
