//! Connections per second on the loopback interface without and with `twtrace top`, in turn.
//! `cargo xtask bench rates` builds and runs it; it needs root.

#![allow(clippy::print_stdout, reason = "the figures are the purpose")]

use twtrace_tests::record::ROOMY;
use twtrace_tests::top::{Top, churn, hidden, number, own, quiet_place};

/// Pairs of runs, one without and one with a tracer.
const PAIRS: usize = 12;

const CONNECTIONS: u64 = 15_000;

/// Median rates without and with a tracer, and the median of their ratios. The two take turns, so that other work of
/// the machine affects both.
fn rates(load: &[&str]) -> [f64; 3] {
    let mut figures = [const { Vec::new() }; 3];
    for _ in 0..PAIRS {
        let without = churn(&quiet_place(), load).rate_per_s;
        let place = quiet_place();
        let top = Top::start(&place, &[&["--limit", "20", "--interval", "1s"], &ROOMY[..]].concat());
        let with = churn(&place, load).rate_per_s;
        let report = top.end();
        // All are attributed, except those that are hidden from tracers: otherwise the figures are of another trace.
        let unattributed = CONNECTIONS - number(own(&report), "/coverage/attributed");
        let lost = &report["tracing"]["lost"];
        assert!(unattributed <= hidden(&report, CONNECTIONS), "{unattributed} unattributed: {lost}");
        for (all, one) in figures.iter_mut().zip([without, with, with / without]) {
            all.push(one);
        }
    }
    figures.map(|mut all| {
        all.sort_by(f64::total_cmp);
        all[PAIRS / 2]
    })
}

fn main() {
    // One client, one server, 64 destinations.
    let load = ["--processes", "1", "--connections", &CONNECTIONS.to_string()];
    for (what, more) in [("a byte each way", Some("--exchange")), ("nothing but connect and close", None)] {
        let load: Vec<&str> = load.into_iter().chain(more).collect();
        let [without, with, ratio] = rates(&load);
        let share = 100.0 * ratio;
        println!("loopback connections/s, {what}: {without:.0} without, {with:.0} with top; median ratio {share:.1}%");
    }
}
