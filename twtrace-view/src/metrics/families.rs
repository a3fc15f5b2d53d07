//! The families that are no figure of a row and no kernel-side counter.

use super::exposition::Kind;

/// A family of metrics.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Its name, without `twtrace_` and without `_total`.
    pub name: &'static str,
    /// It only grows, and its samples end in `_total`.
    pub is_counter: bool,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it is.
    pub doc: &'static str,
}

impl Family {
    pub(super) fn kind(&self) -> Kind {
        if self.is_counter { Kind::Counter } else { Kind::Gauge }
    }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], doc: &'static str) -> Family {
    Family { name, is_counter: false, labels, doc }
}

const fn counter(name: &'static str, labels: &'static [&'static str], doc: &'static str) -> Family {
    Family { name, is_counter: true, labels, doc }
}

const PLACE: &[&str] = &super::PLACE;

/// All of them.
pub const FAMILIES: [Family; 25] = [
    gauge(
        "build_info",
        &["version", "tier", "kernel"],
        "Always 1. The tier says how good the trace can be on this kernel.",
    ),
    gauge("traced_seconds", &[], "How long the trace has lasted, seconds."),
    gauge(
        "kernel_core_ratio",
        &[],
        "Processor time of the tracer's programs in the kernel as a share of one core, in the second of each minute in which the kernel times them.",
    ),
    gauge(
        "kernel_seconds_per_connection",
        &[],
        "The same for each connection that ended in that second; both ends of one on this host count.",
    ),
    counter("connections", &[], "TCP connections that have ended."),
    gauge("ports", PLACE, "Local ports that connect(2) may choose for the destination, reserved ones left out."),
    gauge("ports_used", PLACE, "Of these, those in use: bound, open and in TIME_WAIT."),
    gauge(
        "ports_available",
        PLACE,
        "Of these, those that connect(2) can choose now, reusable TIME_WAIT sockets included.",
    ),
    gauge(
        "ports_taken_per_second",
        PLACE,
        "Ports taken per second recently, by new TIME_WAIT sockets and by growth of open connections.",
    ),
    gauge(
        "sustainable_connections_per_second",
        PLACE,
        "Connections per second that the ports sustain for good, with what else uses ports now.",
    ),
    gauge(
        "slow_connect_seconds",
        PLACE,
        "Seconds until half of the ports are in use at the present rate, from when on connect(2) gets slower; 0 if they are, +Inf if that never happens. Inferred.",
    ),
    gauge(
        "exhaustion_seconds",
        PLACE,
        "Seconds until no port is left at the present rate; 0 if none is, +Inf if that never happens. Inferred.",
    ),
    counter(
        "port_failures",
        &["call", "errno", "cause"],
        "Calls of connect(2) and bind(2) that failed because there was no free address or port, by cause.",
    ),
    gauge(
        "findings",
        &["finding"],
        "Active findings of a kind; 0 where there is none. `twtrace explain` has more on each.",
    ),
    gauge(
        "finding",
        &["finding", "severity", "program", "destination"],
        "Active findings about a program and a destination, at most 64 series, the most severe ones.",
    ),
    gauge(
        "census_sockets",
        &["owner"],
        "TIME_WAIT sockets in the last census: with a known closer, from before the trace, and those that the tracer should have seen.",
    ),
    gauge("coverage_ratio", &[], "Share of the TIME_WAIT sockets created during the trace whose closer is known."),
    gauge("census_age_seconds", &[], "Age of the oldest census of a namespace that matters, seconds."),
    counter("lost", &[], "What the tracer knows that it missed. While it grows, figures are too low."),
    gauge(
        "netns_time_wait",
        &["netns"],
        "TIME_WAIT sockets of a network namespace by the kernel's own count, of the 64 namespaces with the most.",
    ),
    gauge("netns_time_wait_max", &["netns"], "Its net.ipv4.tcp_max_tw_buckets."),
    gauge("time_wait", &[], "TIME_WAIT sockets of all network namespaces by the kernel's own count."),
    gauge(
        "series_left_out",
        &["of"],
        "Owners, or destinations, without a series of their own: they are in the series labelled (other).",
    ),
    gauge("recording_failed", &[], "1 if the agent should record, and cannot any more."),
    counter("frozen_recordings", &[], "Recordings that were kept because of a finding."),
];
