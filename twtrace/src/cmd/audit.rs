//! `twtrace doctor --audit`: traces for a while and compares the result with the kernel's own counters.

use anyhow::Context as _;
use std::collections::HashMap;
use std::io::{ErrorKind, Write};
use std::thread;
use std::time::{Duration, Instant};
use twtrace_core::audit::{Audit, Other, Reading, Report, SCHEMA};
use twtrace_core::event::Event;
use twtrace_core::source::Source as _;
use twtrace_probe::host::namespaces::{Found, Searcher, within};
use twtrace_probe::host::{self, clock, netstat};
use twtrace_probe::source::kernel_source::{KernelSource, KernelSourceOptions};
use twtrace_view::doctor as view;
use twtrace_view::text;

/// How often the ring buffer is read.
const PUMP: Duration = Duration::from_millis(100);

/// How long the search for network namespaces may take.
const SEARCH: Duration = Duration::from_secs(5);

/// A namespace under audit.
struct Audited {
    found: Found,
    audit: Audit,
}

/// Audits for that long, writes the report, and returns whether trace and kernel agree.
///
/// # Errors
/// This host cannot be traced, or the kernel's counters cannot be read.
pub fn run(duration: Duration, json: bool, out: &mut dyn Write) -> anyhow::Result<bool> {
    // Its thread needs the mounts that this one may leave next.
    let searcher = Searcher::start().context("cannot start a thread")?;
    let mut live = KernelSource::start(&KernelSourceOptions::default())?;
    let netns = host::own_netns().context("cannot read this process's network namespace")?;
    let first = reading()?;
    let mut own = Audit::new(netns, live.tier(), first);
    let mut others = HashMap::new();
    let found = searcher.fresh(SEARCH).unwrap_or_default().found;
    for found in found.into_iter().filter(|found| found.inode != netns) {
        // A namespace that cannot be entered cannot be audited; `top` lists these.
        if let Ok(Ok(first)) = within(&found, reading) {
            let id = live.netns_id(&found);
            let audit = Audit::new(id, live.tier(), first);
            others.insert(id, Audited { found, audit });
        }
    }
    let began = Instant::now();
    while began.elapsed() < duration {
        live.pump(&mut |event| apply(&mut own, &mut others, &event))?;
        thread::sleep(PUMP.min(duration.saturating_sub(began.elapsed())));
    }
    // One that has gone meanwhile took its counters with it.
    others.retain(|_, other| match within(&other.found, reading) {
        Ok(Ok(last)) => {
            other.audit.end(last);
            true
        }
        _ => false,
    });
    let last = reading()?;
    own.end(last);
    live.final_pump(&mut |event| apply(&mut own, &mut others, &event))?;
    let mut namespaces: Vec<Other> = others
        .into_values()
        .map(|Audited { found: Found { inode, name, .. }, audit }| Other {
            netns: inode,
            name: text::clean(&name).into_owned(),
            verdict: audit.verdict(),
        })
        .collect();
    namespaces.sort_by(|left, right| (&left.name, left.netns).cmp(&(&right.name, right.netns)));
    let report = Report {
        schema: SCHEMA,
        tier: live.tier(),
        netns,
        seconds: last.before_ns.saturating_sub(first.after_ns) as f64 / 1e9,
        verdict: own.verdict(),
        namespaces,
    };
    if json {
        view::write_audit_json(&report, out)?;
    } else {
        view::write_audit(&report, out)?;
    }
    Ok(report.agrees())
}

/// Passes each event to the audit of its namespace, everything else to all audits.
fn apply(own: &mut Audit, others: &mut HashMap<u32, Audited>, event: &Event) {
    let netns = match event {
        Event::Connection(connection) => Some(connection.tuple.netns),
        Event::TimewaitEnd(end) => Some(end.tuple.netns),
        Event::Counters(_) => None,
        _ => return,
    };
    match netns.map(|netns| others.get_mut(&netns)) {
        Some(Some(other)) => other.audit.apply(event),
        Some(None) => own.apply(event),
        None => {
            own.apply(event);
            others.values_mut().for_each(|other| other.audit.apply(event));
        }
    }
}

fn reading() -> anyhow::Result<Reading> {
    let before_ns = clock::monotonic_ns()?;
    let netstat = host::read_text("/proc/thread-self/net/netstat").context("cannot read /proc/net/netstat")?;
    let sockstat = host::read_text("/proc/thread-self/net/sockstat").context("cannot read /proc/net/sockstat")?;
    let after_ns = clock::monotonic_ns()?;
    let counter = |name| {
        netstat::counter(&netstat, "TcpExt", name)
            .ok_or_else(|| std::io::Error::new(ErrorKind::InvalidData, format!("/proc/net/netstat has no {name}")))
    };
    Ok(Reading {
        before_ns,
        after_ns,
        timers: counter("TW")? + counter("TWKilled")?,
        recycled: counter("TWRecycled")?,
        overflow: counter("TCPTimeWaitOverflow")?,
        time_wait: netstat::time_wait(&sockstat).context("/proc/net/sockstat has no TCP `tw` figure")?,
    })
}
