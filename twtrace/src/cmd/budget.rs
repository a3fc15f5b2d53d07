//! `twtrace budget`: does a rate of connections run out of ports, when, and how much does each remedy help?
//!
//! Only arithmetic ([`twtrace_core::plan`]): nothing is traced, and values that are not given are read from this host,
//! which needs no privileges.

use crate::cli::BudgetArgs;
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write as _};
use twtrace_core::event::KernelFacts;
use twtrace_core::plan::report::{From, Inputs, Name, Report, SCHEMA};
use twtrace_core::plan::{Plan, remedies};
use twtrace_probe::host;
use twtrace_view::budget as view;

/// Reads the values that are not given, calculates the result and writes it.
///
/// # Errors
/// The output cannot be written to.
pub fn run(args: &BudgetArgs) -> anyhow::Result<()> {
    // Without /proc, the kernel's defaults are used, and the report says so.
    let report = report(args, host::kernel_facts().ok().as_ref());
    let mut out = BufWriter::new(io::stdout().lock());
    if args.json {
        view::write_json(&report, &mut out)?;
    } else {
        view::write_text(&report, &mut out)?;
    }
    Ok(out.flush()?)
}

/// Calculates the result. Pure: the same arguments and facts give the same report.
pub fn report(args: &BudgetArgs, kernel: Option<&KernelFacts>) -> Report {
    let mut from = BTreeMap::new();
    let mut note = |name, given: bool, host: bool| {
        let origin = match (given, host) {
            (true, _) => From::Given,
            (false, true) => From::Host,
            (false, false) => From::Assumed,
        };
        from.insert(name, origin);
    };
    if args.rate.is_some() {
        note(Name::RatePerS, true, false);
    }
    note(Name::LifetimeSeconds, args.lifetime.is_some(), false);
    note(Name::Destinations, args.destinations.is_some(), false);
    note(Name::SourceIps, args.source_ips.is_some(), false);
    note(Name::Loopback, args.loopback, false);
    note(Name::BindFirst, args.bind_first, false);
    note(Name::Range, args.range.is_some(), kernel.is_some_and(|kernel| kernel.port_range != (0, 0)));
    note(Name::Reserved, args.reserved.is_some(), kernel.is_some());
    note(Name::TwReuse, args.tw_reuse.is_some(), kernel.is_some());
    note(Name::TwReuseDelayMs, false, kernel.is_some_and(|kernel| kernel.tw_reuse_delay_ms.is_some()));
    note(Name::Timestamps, false, kernel.is_some_and(|kernel| kernel.timestamps.is_some()));
    let limit = kernel.is_some_and(|kernel| kernel.max_tw_buckets > 0);
    note(Name::MaxTwBuckets, args.max_tw_buckets.is_some(), limit);

    let default = Plan::default();
    let host = kernel.map_or_else(|| default.clone(), Plan::of);
    let host_range = if host.range == (0, 0) { default.range } else { host.range };
    let plan = Plan {
        rate_per_s: args.rate.unwrap_or(0.0),
        lifetime_s: args.lifetime.unwrap_or_default().as_secs_f64(),
        destinations: args.destinations.unwrap_or(1),
        source_addresses: args.source_ips.unwrap_or(1),
        range: args.range.unwrap_or(host_range),
        reserved: args.reserved.clone().unwrap_or(host.reserved),
        tw_reuse: args.tw_reuse.unwrap_or(host.tw_reuse),
        loopback: args.loopback,
        bound_share: if args.bind_first { 1.0 } else { 0.0 },
        max_tw_buckets: args.max_tw_buckets.or(host.max_tw_buckets),
        tw_reuse_delay_ms: host.tw_reuse_delay_ms,
        timestamps: host.timestamps,
        ..default
    };
    let outcome = plan.outcome();
    let remedies = remedies(&plan);
    let inputs = Inputs {
        rate_per_s: args.rate,
        lifetime_seconds: plan.lifetime_s,
        destinations: plan.destinations,
        source_ips: plan.source_addresses,
        range: plan.range,
        ports_reserved: plan.usable().map_or(0, |usable| usable.reserved()),
        reserved: plan.reserved,
        tw_reuse: plan.tw_reuse,
        tw_reuse_delay_ms: plan.tw_reuse_delay_ms,
        timestamps: plan.timestamps,
        loopback: plan.loopback,
        bind_first: args.bind_first,
        max_tw_buckets: plan.max_tw_buckets,
    };
    Report { schema: SCHEMA, verdict: view::verdict(&inputs, &outcome), inputs, from, outcome, remedies }
}

#[cfg(test)]
mod tests;
