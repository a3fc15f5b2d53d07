//! The evidence of findings, in one table: [`Evidence`], and [`EVIDENCE`], the source of names, labels, units and the
//! documentation. A new kind needs a line here and a rule that uses it.

/// The value of a piece of evidence.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number of things.
    Count(u64),
    /// A measure, in its kind's unit.
    Number(f64),
    /// Text, possibly from an untrusted source.
    Text(String),
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// What values of a kind are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// [`Value::Count`].
    Count,
    /// [`Value::Number`].
    Number,
    /// [`Value::Text`].
    Text,
}

/// What a value is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A count, or text.
    Plain,
    /// A count per second.
    PerSecond,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// Bytes.
    Bytes,
    /// A fraction from 0 to 1.
    Share,
    /// A process id.
    Pid,
}

/// A kind of evidence.
#[derive(Debug, PartialEq, Eq)]
pub struct EvidenceKind {
    /// Its name in JSON, which includes the unit.
    pub name: &'static str,
    /// The label that users read; the unit is printed with the value.
    pub label: &'static str,
    /// What its values are.
    pub value: Type,
    /// What its value is measured in.
    pub unit: Unit,
    /// It is a forecast.
    pub is_estimated: bool,
    /// What it means.
    pub doc: &'static str,
}

macro_rules! value_type {
    (u64) => {
        Type::Count
    };
    (f64) => {
        Type::Number
    };
    (String) => {
        Type::Text
    };
}

macro_rules! kind {
    ([$($doc:literal)+] $type:ident $name:literal $label:literal $unit:ident $($estimated:ident)?) => {
        EvidenceKind {
            name: $name,
            label: $label,
            value: value_type!($type),
            unit: Unit::$unit,
            is_estimated: [$(stringify!($estimated),)? ""][0].eq_ignore_ascii_case("estimated"),
            doc: concat!($($doc),+),
        }
    };
}

macro_rules! evidence {
    ($(
        $(#[doc = $doc:literal])+
        $variant:ident($type:ident) = $name:literal, $label:literal, $unit:ident $($estimated:ident)?;
    )*) => {
        /// A figure or a fact that a finding is based on.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Evidence {
            $($(#[doc = $doc])+ $variant($type),)*
        }

        /// All kinds of evidence.
        pub const EVIDENCE: &[EvidenceKind] = &[$(kind!([$($doc)+] $type $name $label $unit $($estimated)?)),*];

        impl Evidence {
            /// What kind it is.
            pub fn kind(&self) -> &'static EvidenceKind {
                match self {
                    $(Self::$variant(_) => const { &kind!([$($doc)+] $type $name $label $unit $($estimated)?) },)*
                }
            }

            /// Its value.
            pub fn value(&self) -> Value {
                match self {
                    $(Self::$variant(value) => value.clone().into(),)*
                }
            }
        }
    };
}

// Type, name in JSON, label for people, unit; `estimated` for forecasts.
evidence! {
    /// Calls that failed.
    Failures(u64) = "failures", "failures", Plain;
    /// Connects that got no answer: they timed out, or were given up after a second at least.
    Unanswered(u64) = "unanswered", "unanswered", Plain;
    /// Connects that were refused.
    Refused(u64) = "refused", "refused", Plain;
    /// Connects that have waited for an answer for three seconds at least.
    SynSentFor3S(u64) = "syn_sent_for_3_s", "SYN_SENT for 3 s", Plain;
    /// Connections that the kernel's connection tracking has in its table.
    ConntrackCount(u64) = "conntrack_count", "nf_conntrack_count", Plain;
    /// How many it takes.
    ConntrackMax(u64) = "conntrack_max", "nf_conntrack_max", Plain;
    /// Connections that it could not enter since the trace began, as where source NAT finds no port.
    ConntrackInsertFailed(u64) = "conntrack_insert_failed", "conntrack insert_failed", Plain;
    /// Calls that failed per second, between the first and the last failure.
    FailuresPerS(f64) = "failures_per_s", "failures", PerSecond;
    /// Of the failures, those of sockets with a port range of their own (IP_LOCAL_PORT_RANGE).
    FailuresInOwnRange(u64) = "failures_in_own_range", "failures in own range", Plain;
    /// The process with most of the failures, where it is not the finding's.
    FailingPid(u64) = "failing_pid", "failing pid", Pid;
    /// Its name.
    FailingCommand(String) = "failing_command", "failing command", Plain;
    /// Ports that a program tried one after the other.
    PortsTried(u64) = "ports_tried", "ports tried", Plain;
    /// The process that has the port.
    HolderPid(u64) = "holder_pid", "holder pid", Pid;
    /// Its name.
    HolderCommand(String) = "holder_command", "holder", Plain;
    /// The peer of the connection that has the port.
    HolderPeer(String) = "holder_peer", "holder's peer", Plain;
    /// For how long the TIME_WAIT socket has the port yet.
    HeldSeconds(f64) = "held_seconds", "held for another", Seconds;
    /// Error that the calls returned.
    Errno(String) = "errno", "errno", Plain;
    /// Why they failed, by a stable name.
    Reason(String) = "reason", "reason", Plain;
    /// `this is not TIME_WAIT`, where that is certain.
    Verdict(String) = "verdict", "verdict", Plain;
    /// Ports of the range, reserved ones taken off.
    PortsTotal(u64) = "ports_total", "ports", Plain;
    /// Ports of TIME_WAIT sockets.
    PortsTimeWait(u64) = "ports_time_wait", "ports in TIME_WAIT", Plain;
    /// TIME_WAIT sockets whose peer sent no timestamps: `tcp_tw_reuse` changes nothing for them.
    PortsWithoutTimestamps(u64) = "ports_without_timestamps", "ports in TIME_WAIT without timestamps", Plain;
    /// Ports of connections in ESTABLISHED.
    PortsEstablished(u64) = "ports_established", "ports established", Plain;
    /// Ports of connections in other states.
    PortsOther(u64) = "ports_other", "ports in other states", Plain;
    /// Of these, ports of connections in CLOSE_WAIT.
    PortsCloseWait(u64) = "ports_close_wait", "of these in CLOSE_WAIT", Plain;
    /// Of these, ports of connects that wait for an answer.
    PortsSynSent(u64) = "ports_syn_sent", "of these in SYN_SENT", Plain;
    /// Ports that are bound, so that no connect chooses them for any destination.
    PortsBound(u64) = "ports_bound", "ports bound", Plain;
    /// Ports that connect can choose.
    PortsAvailable(u64) = "ports_available", "ports available", Plain;
    /// Ports in use when a connect found none that the last census had not seen.
    PortsNotSeen(u64) = "ports_not_seen", "ports newer than the last census", Plain;
    /// Ports taken per second recently.
    PortRatePerS(f64) = "port_rate_per_s", "ports taken", PerSecond;
    /// Ports taken per second by the growing number of open connections; these do not come free.
    OpenGrowthPerS(f64) = "open_growth_per_s", "growth of open connections", PerSecond;
    /// Connections per second that the ports sustain indefinitely.
    MaxRatePerS(f64) = "max_rate_per_s", "ports sustain", PerSecond;
    /// How long a connection keeps its port after this host closed it.
    HoldSeconds(f64) = "hold_seconds", "port held for", Seconds;
    /// Half of the connects took at most this long.
    ConnectP50Ms(f64) = "connect_ms_p50", "connect p50", Milliseconds;
    /// 99 of 100 connects took at most this long.
    ConnectP99Ms(f64) = "connect_ms_p99", "connect p99", Milliseconds;
    /// Until half of the ports are in use, at the present rate: from then on connect(2) takes longer.
    SecondsToSlow(f64) = "seconds_to_slow_estimated", "connect slow in", Seconds estimated;
    /// Until no port is left, at the present rate.
    SecondsToExhaustion(f64) = "seconds_to_exhaustion_estimated", "exhausted in", Seconds estimated;
    /// Until no port is left, at the fastest rate that fits what was seen.
    SoonestSeconds(f64) = "soonest_seconds_estimated", "exhausted at the soonest in", Seconds estimated;
    /// Until no port is left, at the slowest rate that fits what was seen.
    LatestSeconds(f64) = "latest_seconds_estimated", "exhausted at the latest in", Seconds estimated;
    /// TIME_WAIT sockets created.
    TimeWaitCreated(u64) = "time_wait_created", "TIME_WAIT created", Plain;
    /// Of the TIME_WAIT sockets that the process created, those that an unrelated process opened.
    OpenedByOthers(u64) = "opened_by_others", "opened by others", Plain;
    /// The process that opened most of these.
    OpenerPid(u64) = "opener_pid", "opener pid", Pid;
    /// The process on this host that accepts the connections.
    ServerPid(u64) = "server_pid", "server pid", Pid;
    /// Its name.
    ServerCommand(String) = "server_command", "server", Plain;
    /// PID of the relay that opens another connection for each one.
    RelayPid(u64) = "relay_pid", "relay pid", Pid;
    /// Its command. Hostile input.
    RelayCommand(String) = "relay_command", "relay", Plain;
    /// The process that closed most of the sockets, where it is not the one that opened them.
    ClosedByPid(u64) = "closed_by_pid", "closed by pid", Pid;
    /// Its name.
    ClosedByCommand(String) = "closed_by_command", "closed by", Plain;
    /// The process that passes the connections on, where another end is at fault.
    RelayedBy(String) = "relayed_by", "relayed by", Plain;
    /// TIME_WAIT sockets alive now.
    TimeWaitLive(u64) = "time_wait_live", "TIME_WAIT alive", Plain;
    /// Most TIME_WAIT sockets alive at one time.
    TimeWaitLivePeak(u64) = "time_wait_live_peak", "most TIME_WAIT alive", Plain;
    /// TIME_WAIT sockets that are alive at a time if it goes on at this rate.
    TimeWaitAtThisRate(f64) = "time_wait_at_this_rate_estimated", "TIME_WAIT at this rate", Plain estimated;
    /// TIME_WAIT sockets that the kernel counts.
    TimeWait(u64) = "time_wait", "TIME_WAIT", Plain;
    /// TIME_WAIT sockets that were due and not created.
    Overflowed(u64) = "overflowed", "overflowed", Plain;
    /// The limit of `net.ipv4.tcp_max_tw_buckets`.
    MaxTwBuckets(u64) = "max_tw_buckets", "tcp_max_tw_buckets", Plain;
    /// Connections that have ended.
    Connections(u64) = "connections", "connections", Plain;
    /// Most connections that were open at a time; there may have been more.
    AtATime(u64) = "at_a_time", "open at a time", Plain;
    /// Connections that began in the largest burst.
    BurstConnections(u64) = "burst_connections", "at once", Plain;
    /// How long the largest burst was, from its first connect to its last.
    BurstSeconds(f64) = "burst_seconds", "within", Seconds;
    /// From the end of one burst to the beginning of the next, on average.
    QuietSeconds(f64) = "quiet_seconds", "then none for", Seconds;
    /// Connections that the process has accepted.
    Accepted(u64) = "accepted", "accepted", Plain;
    /// Short connections in which the opener sent no more than a request.
    OneRequestConnections(u64) = "one_request_connections", "one-request connections", Plain;
    /// Connections of the pool that the process keeps.
    PoolConnections(u64) = "pool_connections", "pool connections", Plain;
    /// Connections whose port bind(2) had taken.
    BoundConnections(u64) = "bound_connections", "bound connections", Plain;
    /// Destinations of connections whose port bind(2) had taken.
    Destinations(u64) = "destinations", "destinations", Plain;
    /// Source addresses of these connections. Each can bind all ports of the range: the figures are of the fullest.
    SourceAddresses(u64) = "source_addresses", "source addresses", Plain;
    /// Processes that the finding is about.
    Processes(u64) = "processes", "processes", Plain;
    /// Connections per second.
    RatePerS(f64) = "rate_per_s", "rate", PerSecond;
    /// Mean lifetime of a connection.
    LifetimeMs(f64) = "lifetime_ms", "lifetime", Milliseconds;
    /// Mean size of a request.
    RequestBytes(u64) = "request_bytes", "request", Bytes;
    /// Mean size of a response.
    ResponseBytes(u64) = "response_bytes", "response", Bytes;
    /// Connections of which this side sent its FIN first.
    ClosedFirst(u64) = "closed_first", "closed first", Plain;
    /// Mean time from one connection to the next.
    IntervalS(f64) = "interval_s", "interval", Seconds;
    /// Standard deviation of the interval as a share of its mean.
    IntervalSpread(f64) = "interval_spread", "interval spread", Share;
    /// Connections that this host ended by a reset.
    Aborts(u64) = "aborts", "aborts", Plain;
    /// Aborts by SO_LINGER with a time of 0.
    BySoLinger(u64) = "by_so_linger", "by SO_LINGER", Plain;
    /// Aborts with received data that the process had not read.
    WithUnreadData(u64) = "with_unread_data", "with unread data", Plain;
    /// Connections in the queue of the listener.
    Queued(u64) = "queued", "in the accept queue", Plain;
    /// Of these, those that have been there for three seconds at least.
    QueuedFor3S(u64) = "queued_for_3_s", "in the queue for 3 s", Plain;
    /// Of those in the queue, those that their peer has closed meanwhile.
    QueuedHungUp(u64) = "queued_hung_up", "hung up in the queue", Plain;
    /// How many the queue takes.
    Backlog(u64) = "backlog", "backlog", Plain;
    /// Connections that found the queue of a listener of this namespace full since the trace began (`ListenOverflows`).
    ListenOverflows(u64) = "listen_overflows", "ListenOverflows", Plain;
    /// All that its listeners dropped since then (`ListenDrops`).
    ListenDrops(u64) = "listen_drops", "ListenDrops", Plain;
    /// Sockets in CLOSE_WAIT.
    CloseWait(u64) = "close_wait", "CLOSE_WAIT", Plain;
    /// Sockets that have been in CLOSE_WAIT for three seconds at least.
    CloseWaitFor3S(u64) = "close_wait_for_3_s", "CLOSE_WAIT for 3 s", Plain;
    /// Sockets that have been in CLOSE_WAIT for a minute at least.
    CloseWaitFor60S(u64) = "close_wait_for_60_s", "CLOSE_WAIT for 60 s", Plain;
    /// Sockets in FIN_WAIT1 and LAST_ACK.
    FinWait1(u64) = "fin_wait1", "FIN_WAIT1", Plain;
    /// Of these, those that have been there for three seconds at least.
    FinWait1For3S(u64) = "fin_wait1_for_3_s", "FIN_WAIT1 for 3 s", Plain;
    /// Closed sockets that are not yet gone, of all namespaces (`orphan` of `/proc/net/sockstat`).
    Orphans(u64) = "orphans", "orphans", Plain;
    /// Sockets that the kernel reset since the trace began, for too many orphans or too little memory (`TCPAbortOnMemory`).
    AbortsOnMemory(u64) = "aborts_on_memory", "TCPAbortOnMemory", Plain;
    /// Sockets in FIN_WAIT2, TIME_WAIT sockets in that substate included.
    FinWait2(u64) = "fin_wait2", "FIN_WAIT2", Plain;
    /// Sockets that have been in FIN_WAIT2 for three seconds at least.
    FinWait2For3S(u64) = "fin_wait2_for_3_s", "FIN_WAIT2 for 3 s", Plain;
    /// Sockets in FIN_WAIT2 that a process still has open.
    FinWait2OfOpenSockets(u64) = "fin_wait2_of_open_sockets", "FIN_WAIT2 of open sockets", Plain;
    /// How long orphaned sockets stay in FIN_WAIT2 (`net.ipv4.tcp_fin_timeout`).
    FinTimeoutS(u64) = "fin_timeout_s", "tcp_fin_timeout", Seconds;
    /// Events that the tracer lost.
    Lost(u64) = "lost", "lost", Plain;
    /// Events that the tracer read.
    Records(u64) = "records", "records", Plain;
    /// TIME_WAIT sockets of the census whose owner is not known.
    Unattributed(u64) = "unattributed", "unattributed", Plain;
    /// Share of the census whose owner is known.
    Coverage(f64) = "coverage", "coverage", Share;
    /// What the kernel's missing type information (BTF) hides.
    NoBtf(String) = "no_btf", "no BTF", Plain;
    /// What is not seen without socket cookies.
    NoCookies(String) = "no_cookies", "no cookies", Plain;
    /// Network namespaces whose census could not be taken.
    NamespacesWithoutCensus(u64) = "namespaces_without_census", "namespaces without census", Plain;
    /// Findings that are not reported, because there are too many.
    FindingsLeftOut(u64) = "findings_left_out", "findings left out", Plain;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_kind_has_a_name_of_its_own_that_says_its_unit() {
        let names: BTreeSet<&str> = EVIDENCE.iter().map(|kind| kind.name).collect();
        assert_eq!(names.len(), EVIDENCE.len());
        for EvidenceKind { name, label, unit, is_estimated, doc, .. } in EVIDENCE {
            assert!(name.is_ascii() && label.is_ascii() && doc.ends_with('.'), "{name}");
            assert_eq!(*is_estimated, name.ends_with("_estimated"), "{name}");
            let says: &[&str] = match unit {
                Unit::PerSecond => &["_per_s"],
                Unit::Seconds => &["_s", "seconds"],
                Unit::Milliseconds => &["_ms"],
                Unit::Bytes => &["_bytes"],
                Unit::Pid => &["_pid"],
                Unit::Plain | Unit::Share => continue,
            };
            assert!(says.iter().any(|unit| name.contains(unit)), "{name}");
        }
    }

    #[test]
    fn evidence_knows_its_kind_and_its_value() {
        let evidence = Evidence::LifetimeMs(8.5);
        assert_eq!((evidence.kind().name, evidence.value()), ("lifetime_ms", Value::Number(8.5)));
        assert!(EVIDENCE.contains(evidence.kind()));
    }
}
