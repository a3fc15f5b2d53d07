//! Failures and findings in JSON.

use super::rows::{PlaceJson, rounded};
use crate::failures::{self, Failure};
use crate::text;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::net::IpAddr;
use twtrace_core::event::Comm;
use twtrace_core::evidence::{Evidence, Value};
use twtrace_core::failure::Call;
use twtrace_core::finding::{Advice, Confidence, Effect, Finding, Rule, Severity, Subject};
use twtrace_core::snapshot::Snapshot;
use twtrace_core::snapshot::Summary;

/// Failures of one kind of one process.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct FailureJson {
    /// Null for those that found no room, together.
    pid: Option<u32>,
    /// Name of the process.
    command: Option<String>,
    /// Nanoseconds since boot at which it started.
    start_ns: Option<u64>,
    /// Which call failed.
    call: Call,
    /// Name of the error.
    errno: String,
    /// Why, by a stable name.
    cause: &'static str,
    /// Whether TIME_WAIT sockets are the cause; null when that is not known.
    is_time_wait: Option<bool>,
    /// How many calls.
    count: u64,
    /// The first of them, RFC 3339.
    first: String,
    /// The last of them, RFC 3339.
    last: String,
    /// Network namespace, by inode number; null when it is not known.
    netns: Option<u32>,
    /// Address on this host.
    local_addr: Option<IpAddr>,
    /// Address of the peer; null of a bind.
    remote_addr: Option<IpAddr>,
    /// Port of the peer, or that of the bind.
    port: Option<u16>,
}

/// All failures, the most first.
pub(crate) fn failures(model: &Snapshot) -> Vec<FailureJson> {
    failures::of(model).iter().map(|failure| FailureJson::of(failure, model.summary())).collect()
}

impl FailureJson {
    fn of(failure: &Failure, summary: &Summary) -> Self {
        let row = &failure.row;
        let time = |at_ns| text::rfc3339(failures::unix_ns(&summary.window, at_ns));
        let key = row.destination.as_ref();
        Self {
            pid: row.owner.map(|owner| owner.key.tgid),
            command: row.owner.map(|owner| text::lossless(owner.comm.bytes()).into_owned()),
            start_ns: row.owner.map(|owner| owner.key.start_ns),
            call: row.call,
            errno: text::errno(row.errno),
            cause: row.cause.name(),
            is_time_wait: failure.is_time_wait,
            count: row.count,
            first: time(row.first_ns),
            last: time(row.last_ns),
            netns: key.map(|key| summary.inode(key.netns)).filter(|inode| *inode != 0),
            local_addr: key.map(|key| key.local_addr),
            remote_addr: key.and_then(|key| key.remote_addr),
            port: key.map(|key| key.port),
        }
    }
}

/// A finding. Its texts are the core's own, except names in `process` and in evidence, which processes choose.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct FindingJson<'a> {
    /// Stable name; `twtrace explain` has more on each.
    #[cfg_attr(test, schemars(extend("enum" = Rule::ALL.iter().map(|rule| rule.name()).collect::<Vec<_>>())))]
    id: &'static str,
    /// How severe.
    severity: Severity,
    /// It still goes on.
    active: bool,
    /// What is wrong, in one sentence.
    title: &'a str,
    /// Which process; null when it is no particular one.
    process: Option<PartyJson<'a>>,
    /// Which destination; null when it is no particular one.
    destination: Option<PlaceJson>,
    /// Id of what lies behind it.
    cause: Option<&'static str>,
    /// What it rests on.
    evidence: EvidenceJson<'a>,
    /// What to change, the cause first.
    advice: Vec<AdviceJson<'a>>,
    /// How sure.
    confidence: Confidence,
    /// How to see whether it is gone.
    recheck: &'a str,
}

/// Who.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct PartyJson<'a> {
    /// Null when it is several processes.
    pid: Option<u32>,
    /// Nanoseconds since boot at which it started; null when it is several.
    start_ns: Option<u64>,
    /// Name of the process.
    command: Cow<'a, str>,
    /// Process id of the parent.
    ppid: u32,
    /// Name of the parent.
    parent_command: Cow<'a, str>,
    /// How many processes.
    processes: u64,
    /// User id.
    uid: u32,
    /// Its name; null when it is not known.
    user: Option<&'a str>,
}

impl<'a> PartyJson<'a> {
    fn of(subject: &'a Subject, model: &'a Snapshot) -> Self {
        let name = |comm: &'a Comm| text::lossless(comm.bytes());
        Self {
            pid: subject.process.map(|key| key.tgid),
            start_ns: subject.process.map(|key| key.start_ns),
            command: name(&subject.command),
            ppid: subject.ppid,
            parent_command: name(&subject.parent_command),
            processes: subject.processes,
            uid: subject.uid,
            user: model.user_name(subject.uid),
        }
    }
}

/// Named values, the most important first, by the names of [`EVIDENCE`](twtrace_core::evidence::EVIDENCE).
pub(crate) struct EvidenceJson<'a>(&'a [Evidence]);

impl Serialize for EvidenceJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for evidence in self.0 {
            let name = evidence.kind().name;
            match evidence.value() {
                Value::Count(count) => map.serialize_entry(name, &count)?,
                Value::Number(number) => map.serialize_entry(name, &rounded(number))?,
                Value::Text(text) => map.serialize_entry(name, &text)?,
            }
        }
        map.end()
    }
}

/// Something to change.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct AdviceJson<'a> {
    /// Stable name.
    id: &'static str,
    /// What to change.
    text: &'a str,
    /// The exact command or setting; null where there is none.
    command: Option<&'a str>,
    /// What it does, in figures.
    effect: Vec<EffectJson>,
    /// What it costs or may break.
    risk: &'a str,
}

/// What a change does.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct EffectJson {
    /// Which figure changes.
    figure: &'static str,
    /// Its value now.
    from: f64,
    /// Its value then.
    to: f64,
}

impl<'a> AdviceJson<'a> {
    fn of(advice: &'a Advice) -> Self {
        let effect =
            |effect: &Effect| EffectJson { figure: effect.figure, from: rounded(effect.from), to: rounded(effect.to) };
        Self {
            id: advice.id,
            text: &advice.text,
            command: advice.command.as_deref(),
            effect: advice.effect.iter().map(effect).collect(),
            risk: &advice.risk,
        }
    }
}

impl<'a> FindingJson<'a> {
    pub(crate) fn of(finding: &'a Finding, model: &'a Snapshot) -> Self {
        Self {
            id: finding.rule.name(),
            severity: finding.severity,
            active: finding.active,
            title: &finding.title,
            process: finding.process.as_ref().map(|subject| PartyJson::of(subject, model)),
            destination: finding.destination.as_ref().map(|key| PlaceJson::of_key(key, model.summary())),
            cause: finding.cause.map(Rule::name),
            evidence: EvidenceJson(&finding.evidence),
            advice: finding.advice.iter().map(AdviceJson::of).collect(),
            confidence: finding.confidence,
            recheck: &finding.recheck,
        }
    }
}
