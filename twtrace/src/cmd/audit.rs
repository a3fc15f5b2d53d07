//! `twtrace doctor --audit`: traces for a while and holds what it saw against the kernel's own counters.

use crate::host::{self, clock, netstat};
use crate::source::live::{Live, LiveOptions};
use crate::view::doctor as view;
use anyhow::Context as _;
use serde::Serialize;
use std::io::{ErrorKind, Write};
use std::thread;
use std::time::{Duration, Instant};
use twtrace_core::audit::{Audit, Reading, Verdict};
use twtrace_core::input::Tier;
use twtrace_core::source::Source as _;

/// How often the ring buffer is read.
const PUMP: Duration = Duration::from_millis(100);

/// The whole answer. The field names are the JSON form's.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Layout of this object.
    pub schema: u32,
    /// Tier in force.
    pub tier: Tier,
    /// Network namespace looked at: this process's own.
    pub netns: u32,
    /// Time between the two readings.
    pub seconds: f64,
    /// What came out.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// Audits for that long, writes the report, and says whether trace and kernel agree.
///
/// # Errors
/// It cannot trace here, or the kernel's counters cannot be read.
pub fn run(duration: Duration, json: bool, out: &mut dyn Write) -> anyhow::Result<bool> {
    let mut live = Live::start(&LiveOptions::default())?;
    let netns = host::own_netns().context("cannot tell the own network namespace")?;
    let first = reading()?;
    let mut audit = Audit::new(netns, live.tier(), first);
    let began = Instant::now();
    while began.elapsed() < duration {
        live.pump(&mut |input| audit.apply(&input))?;
        thread::sleep(PUMP.min(duration.saturating_sub(began.elapsed())));
    }
    let last = reading()?;
    audit.end(last);
    live.final_pump(&mut |input| audit.apply(&input))?;
    let report = Report {
        schema: 1,
        tier: live.tier(),
        netns,
        seconds: last.before_ns.saturating_sub(first.after_ns) as f64 / 1e9,
        verdict: audit.verdict(),
    };
    if json {
        serde_json::to_writer_pretty(&mut *out, &report)?;
        writeln!(out)?;
    } else {
        view::write_audit(&report, out)?;
    }
    Ok(report.verdict.agrees)
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
