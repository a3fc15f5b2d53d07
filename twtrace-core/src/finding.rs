//! What is wrong, why, and what to change: findings with their evidence and advice.
//!
//! A [`Rule`] reads only the model. Each rule has one file in `rules/` with its check, evidence, advice, confidence and
//! recheck. Texts contain no process names and no addresses: views put those in front, sanitised.

use crate::event::{Comm, ProcessKey};
use crate::evidence::Evidence;
use crate::keys::DestKey;
use strum::VariantArray as _;

/// The kinds of findings. The names are an interface: `--fail-on` takes them and JSON contains them.
///
/// In order of gravity, the most serious kinds first.
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
    /// connect(2) fails: no local port is left for a destination.
    ExhaustionReached,
    /// Local ports for a destination run out within minutes at this rate, or TIME_WAIT sockets use or used nearly all.
    ExhaustionNear,
    /// connect(2) takes long: more than half of the local ports for a destination are in use, and it searches them.
    SlowConnect,
    /// bind(2) with port 0 fails: every port of the range is bound.
    BoundPoolExhausted,
    /// EADDRNOTAVAIL or EADDRINUSE for a reason that has nothing to do with TIME_WAIT.
    NotTimeWait,
    /// Connects time out or are refused although there are ports.
    ConnectsFail,
    /// A server cannot bind its port: TIME_WAIT sockets still use it.
    PortHeldByTimeWait,
    /// TIME_WAIT sockets overflow: `tcp_max_tw_buckets` is reached.
    BucketOverflow,
    /// One request per connection.
    NoConnectionReuse,
    /// A process keeps a pool of connections and opens others outside it, to the same destination.
    PoolBypassed,
    /// A process needs more connections at a time than its pool keeps, and closes the others after use.
    PoolTooSmall,
    /// A process opens a connection for each one that it accepts.
    Relay,
    /// Many short-lived processes under one parent, with one or two connections each.
    ForkPerRequest,
    /// The server closes first and so keeps the TIME_WAIT sockets.
    ServerClosesFirst,
    /// A few connections at regular intervals.
    PeriodicChecks,
    /// bind(2) before connect(2) takes a port for all destinations.
    BindBeforeConnect,
    /// Connections are aborted with a reset instead of closed.
    ResetInsteadOfClose,
    /// Connections that wait to be accepted, and are not.
    NotAccepting,
    /// Sockets whose peer has closed but whose own process has not.
    CloseWaitLeak,
    /// Sockets that were closed, and of which the peer acknowledges nothing.
    FinWait1PileUp,
    /// Sockets that wait for the peer's FIN, which does not arrive.
    FinWait2PileUp,
    /// The trace is incomplete, so its figures are uncertain.
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

/// How severe, by the consequence and never by a mere count.
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
    /// The pattern fits, and nothing contradicts it.
    Medium,
    /// Seen in the kernel.
    High,
}

/// The process or processes that a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subject {
    /// The process; `None` if there are several.
    pub process: Option<ProcessKey>,
    /// Its command; of several processes, the most common one.
    pub command: Comm,
    /// PID of the parent.
    pub ppid: u32,
    /// The parent's command: the process to look at when `process` is `None`.
    pub parent_command: Comm,
    /// How many processes it stands for.
    pub processes: u64,
    /// Real uid.
    pub uid: u32,
}

/// What a change does, in numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effect {
    /// What changes: `time_wait_created_per_s`, `ports_total`, `max_rate_per_s`, `connect_failures_per_s`, `bind_failures_per_s`,
    /// `connections_needed`, `ports_bound`, `time_wait_live`, `max_tw_buckets`, `resets_per_s`, `close_wait`,
    /// `fin_wait1`, `fin_wait2`, `accept_queue`, `connect_ms`.
    pub figure: &'static str,
    /// The current value.
    pub from: f64,
    /// The value after the change.
    pub to: f64,
}

/// Something to change. It is printed and never executed.
#[derive(Clone, Debug, PartialEq)]
pub struct Advice {
    /// Stable name: `pool-connections`, `keep-alive`, `let-peer-close`, `bind-address-no-port`, `tcp-tw-reuse`,
    /// `wider-port-range`, `more-addresses`, `bucket-limit`, `close-sockets`, `read-before-close`, `fix-address`,
    /// `so-reuseaddr`, `reserve-port`, `limit-connects`, `accept-connections`, `keep-alive-clients`, `unix-socket`, `no-userland-proxy`, `slow-down`, `trace-more`,
    /// `find-who-drops`, `start-listener`, `conntrack-limit`, `nat-ports`, `fix-peers`,
    /// `any-source-port`, `tcp-timestamps`, `other-ports`.
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
    /// How severe.
    pub severity: Severity,
    /// The problem still exists. False if it happened earlier in the trace and has stopped since.
    pub active: bool,
    /// The process that the finding names, if any.
    pub process: Option<Subject>,
    /// The destination, or the port of this host, if one can be named.
    pub destination: Option<DestKey>,
    /// The rule that found the cause, if this finding is a consequence.
    pub cause: Option<Rule>,
    /// What is wrong, one sentence without its subject: `opens a new connection for each request`.
    pub title: String,
    /// The evidence, most important first.
    pub evidence: Vec<Evidence>,
    /// What to change, best advice first.
    pub advice: Vec<Advice>,
    /// How sure.
    pub confidence: Confidence,
    /// How to see that a change has helped, one sentence.
    pub recheck: String,
}
