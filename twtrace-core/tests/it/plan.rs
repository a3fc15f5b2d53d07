//! Port arithmetic: known figures, and properties of every plan.

use proptest::prelude::*;
use twtrace_core::event::KernelFacts;
use twtrace_core::plan::{Change, Outcome, Plan, Remedy, connections_needed, remedies};
use twtrace_core::ports::{Budget, TIME_WAIT_SECONDS, Usable, Use};

/// To one destination, without reuse.
fn plan(rate_per_s: f64) -> Plan {
    Plan { rate_per_s, tw_reuse: 0, max_tw_buckets: Some(131_072), ..Plan::default() }
}

fn close(number: f64, to: f64) -> bool {
    (number - to).abs() <= 1e-6 * to.abs().max(1.0)
}

fn of(plan: &Plan, id: &str) -> Remedy {
    remedies(plan).into_iter().find(|remedy| remedy.id == id).unwrap()
}

#[test]
fn a_thousand_a_second_last_for_28_seconds() {
    let outcome = plan(1000.0).outcome();
    assert_eq!(outcome.ports_available, 28_232);
    assert_eq!(outcome.ports_needed, 60_000.0);
    assert!(close(outcome.max_rate_per_s.unwrap(), 470.533_333), "{outcome:?}");
    assert_eq!(outcome.seconds_to_exhaustion, Some(28.232));
    assert_eq!((outcome.time_wait_wanted, outcome.time_wait), (60_000.0, 28_232.0), "no more than there are ports");
    assert!(!outcome.overflows);
    // 256 bytes each, and two buckets of 128 for each port.
    assert_eq!(outcome.memory_bytes, 28_232 * 512);
}

#[test]
fn three_destinations_share_a_thousand() {
    let outcome = Plan { destinations: 3, ..plan(1000.0) }.outcome();
    assert_eq!(outcome.seconds_to_exhaustion, None);
    assert_eq!(outcome.ports_needed, 20_000.0);
    assert!(close(outcome.max_rate_per_s.unwrap(), 3.0 * 470.533_333), "{outcome:?}");
    assert_eq!(Plan { source_addresses: 3, ..plan(1000.0) }.outcome().ports_needed, 20_000.0);
    assert!(Plan { destinations: 2, ..plan(1000.0) }.outcome().seconds_to_exhaustion.is_some());
}

#[test]
fn the_rate_that_is_sustained_is_sustained() {
    let max = plan(1.0).max_rate_per_s().unwrap();
    assert_eq!(plan(max).outcome().seconds_to_exhaustion, None);
    assert!(plan(max * 1.001).outcome().seconds_to_exhaustion.is_some());
}

#[test]
fn open_connections_use_ports_too() {
    // 40 seconds open and 60 in TIME_WAIT: 100 seconds per port.
    let outcome = Plan { lifetime_s: 40.0, ..plan(400.0) }.outcome();
    assert_eq!((outcome.open, outcome.ports_needed), (16_000.0, 40_000.0));
    assert_eq!(outcome.seconds_to_exhaustion, Some(70.58));
    assert!(close(outcome.max_rate_per_s.unwrap(), 282.32), "{outcome:?}");
    // Ports in other use are not available.
    let outcome = Plan { standing: 28_000, ..plan(100.0) }.outcome();
    assert_eq!((outcome.ports_available, outcome.seconds_to_exhaustion), (232, Some(2.32)));
}

#[test]
fn reuse_keeps_a_port_for_a_second_or_the_delay() {
    let reuse = Plan { tw_reuse: 1, ..plan(1000.0) };
    let outcome = reuse.outcome();
    assert_eq!((outcome.hold_seconds, outcome.ports_needed, outcome.seconds_to_exhaustion), (1.0, 1000.0, None));
    assert_eq!(outcome.max_rate_per_s, Some(28_232.0));
    let quick = Plan { tw_reuse_delay_ms: Some(100), ..reuse.clone() };
    assert!(close(quick.max_rate_per_s().unwrap(), 282_320.0));
    for plan in [
        Plan { timestamps: false, ..reuse.clone() },
        Plan { tw_reuse: 2, ..reuse.clone() },
        Plan { tw_reuse: 0, loopback: true, ..reuse.clone() },
        Plan { tw_reuse_delay_ms: Some(60_000), ..reuse.clone() },
    ] {
        assert_eq!(plan.outcome().hold_seconds, TIME_WAIT_SECONDS, "{plan:?}");
    }
    assert_eq!(Plan { tw_reuse: 2, loopback: true, ..reuse }.hold_seconds(), 1.0);
}

#[test]
fn bound_ports_are_taken_for_all_destinations() {
    let bound = Plan { bound_share: 1.0, destinations: 3, tw_reuse: 1, ..plan(1000.0) };
    let outcome = bound.outcome();
    assert_eq!((outcome.ports_needed, outcome.seconds_to_exhaustion), (60_000.0, Some(28.232)));
    assert_eq!(of(&bound, "bind-address-no-port").outcome.seconds_to_exhaustion, None);
    assert!(of(&bound, "more-destinations").without_effect.is_some());
    assert!(of(&bound, "tcp-tw-reuse").without_effect.is_some());
    // Half of them bound: those fill the range within a minute, less one second's worth of ports for the others.
    let half = Plan { bound_share: 0.5, destinations: 1, ..bound };
    let outcome = half.outcome();
    assert_eq!(outcome.ports_needed, 30_500.0);
    assert_eq!(outcome.seconds_to_exhaustion, Some((28_232.0 - 500.0) / 500.0));
}

#[test]
fn a_bucket_limit_frees_ports_by_dropping_sockets() {
    let outcome = Plan { max_tw_buckets: Some(4096), ..plan(1000.0) }.outcome();
    assert!(outcome.overflows);
    assert_eq!((outcome.time_wait, outcome.ports_needed), (4096.0, 4096.0));
    assert_eq!(outcome.seconds_to_exhaustion, None, "connects succeed, without TIME_WAIT's protection");
    let remedy = of(&Plan { max_tw_buckets: Some(4096), ..plan(400.0) }, "bucket-limit");
    assert_eq!(remedy.command, "sysctl -w net.ipv4.tcp_max_tw_buckets=30000");
    assert!(!remedy.outcome.overflows && remedy.without_effect.is_none());
    assert!(of(&plan(1000.0), "bucket-limit").without_effect.is_some());
}

#[test]
fn a_pool_is_as_large_as_rate_times_lifetime() {
    for (rate, lifetime, needed) in [
        (1000.0, 0.005, 5),
        (1000.0, 0.0051, 6),
        (300.0, 0.1, 30),
        (10.0, 0.001, 1),
        (0.0, 5.0, 0),
        (7.0, 0.0, 1),
        (f64::NAN, 1.0, 0),
    ] {
        assert_eq!(connections_needed(rate, lifetime), needed, "{rate} x {lifetime}");
    }
    let pool = of(&Plan { lifetime_s: 0.005, ..plan(1000.0) }, "pool-connections");
    assert_eq!(pool.text, "reuse 5 pooled connections");
    let Outcome { open, connections_per_s, time_wait, seconds_to_exhaustion, .. } = pool.outcome;
    assert_eq!((open, connections_per_s, time_wait, seconds_to_exhaustion), (5.0, 0.0, 0.0, None));
}

#[test]
fn remedies_of_a_thousand_a_second() {
    let plan = Plan { lifetime_s: 0.005, ..plan(1000.0) };
    let max = |id: &str| of(&plan, id).outcome.max_rate_per_s.map(f64::floor);
    // 28,232 ports, each in use for 60.005 seconds per request, or per hundred requests.
    assert_eq!(plan.max_rate_per_s().map(f64::floor), Some(470.0));
    assert_eq!(max("keep-alive"), Some(46_664.0));
    assert_eq!(max("tcp-tw-reuse"), Some(28_091.0));
    assert_eq!(max("wider-port-range"), Some(1075.0));
    assert_eq!(max("more-source-addresses"), Some(940.0));
    assert_eq!(max("more-destinations"), Some(940.0));
    assert_eq!(max("let-peer-close"), Some(5_646_400.0));
    assert_eq!(max("pool-connections"), Some(5_646_400.0));
    assert_eq!(of(&plan, "wider-port-range").outcome.seconds_to_exhaustion, None);
    assert!(of(&plan, "more-destinations").outcome.seconds_to_exhaustion.is_some());
}

#[test]
fn what_is_so_already_is_no_remedy() {
    let fits = |plan: &Plan, id: &str| of(plan, id).without_effect.is_none();
    assert!(!fits(&Plan { tw_reuse: 1, ..plan(1.0) }, "tcp-tw-reuse"));
    assert!(!fits(&Plan { tw_reuse: 2, loopback: true, ..plan(1.0) }, "tcp-tw-reuse"));
    assert!(fits(&Plan { tw_reuse: 2, ..plan(1.0) }, "tcp-tw-reuse"));
    assert!(!fits(&Plan { range: (1024, 65_535), ..plan(1.0) }, "wider-port-range"));
    assert!(!fits(&plan(1.0), "bind-address-no-port"));
    assert!(!fits(&plan(1.0).after(Change::PeerCloses), "let-peer-close"));
    assert!(!fits(&plan(1.0).after(Change::Pool), "pool-connections"));
    assert!(!fits(&plan(1.0).after(Change::KeepAlive(1000)), "keep-alive"));
    let without = Plan { timestamps: false, ..plan(1000.0) };
    assert!(of(&without, "tcp-tw-reuse").command.contains("tcp_timestamps=1"));
}

#[test]
fn no_remedy_is_folklore() {
    for remedy in remedies(&Plan { bound_share: 0.5, max_tw_buckets: Some(10), ..plan(1000.0) }) {
        let words = format!("{} {} {}", remedy.text, remedy.command, remedy.risk).to_lowercase();
        for never in ["tw_recycle", "fin_timeout", "linger"] {
            assert!(!words.contains(never), "{words}");
        }
        assert!(!remedy.risk.is_empty() && remedy.risk.ends_with('.'), "{remedy:?}");
    }
}

#[test]
fn a_plan_of_this_kernel_has_its_settings() {
    let kernel = KernelFacts {
        port_range: (1000, 1999),
        reserved_ports: "1500-1509".to_owned(),
        tw_reuse: 1,
        tw_reuse_delay_ms: Some(500),
        timestamps: Some(0),
        max_tw_buckets: 0,
        ..KernelFacts::default()
    };
    let plan = Plan::of(&kernel);
    assert_eq!((plan.outcome().ports_available, plan.timestamps, plan.max_tw_buckets), (990, false, None));
    assert_eq!(plan.after(Change::Reuse).hold_seconds(), 0.5);
}

prop_compose! {
    fn any_plan()(
        rate_per_s in prop_oneof![0.0..5000.0_f64, any::<f64>()],
        lifetime_s in prop_oneof![Just(0.0), 0.0..100.0_f64, any::<f64>()],
        requests_per_connection in prop_oneof![Just(1.0), 1.0..1000.0_f64, any::<f64>()],
        (pooled, closes_first) in (prop::bool::weighted(0.1), prop::bool::weighted(0.9)),
        (destinations, source_addresses) in (0_u32..50, 0_u32..50),
        range: (u16, u16),
        reserved in prop::sample::select(vec!["", "8080,9000-9100", "1-65535"]),
        standing in prop_oneof![Just(0_u32), 0_u32..70_000],
        bound_share in prop_oneof![Just(0.0), Just(1.0), 0.0..1.0_f64, any::<f64>()],
        tw_reuse in 0_u8..4,
        tw_reuse_delay_ms in prop::option::of(0_u32..70_000),
        (timestamps, loopback) in (any::<bool>(), any::<bool>()),
        max_tw_buckets in prop::option::of(0_u64..200_000),
    ) -> Plan {
        Plan {
            rate_per_s,
            lifetime_s,
            requests_per_connection,
            pooled,
            closes_first,
            destinations,
            source_addresses,
            range,
            reserved: reserved.to_owned(),
            standing,
            bound_share,
            tw_reuse,
            tw_reuse_delay_ms,
            time_wait_seconds: TIME_WAIT_SECONDS,
            timestamps,
            loopback,
            max_tw_buckets,
        }
    }
}

fn infinite(seconds: Option<f64>) -> f64 {
    seconds.unwrap_or(f64::INFINITY)
}

proptest! {
    #[test]
    fn never_negative_and_never_nan(plan in any_plan()) {
        let outcomes = remedies(&plan).into_iter().map(|remedy| remedy.outcome).chain([plan.outcome()]);
        for outcome in outcomes {
            let Outcome {
                connections_per_s, open, hold_seconds, ports_needed, time_wait_wanted, time_wait, ..
            } = outcome;
            for figure in [connections_per_s, open, hold_seconds, ports_needed, time_wait_wanted, time_wait] {
                prop_assert!(figure.is_finite() && figure >= 0.0, "{outcome:?}");
            }
            for figure in [outcome.max_rate_per_s, outcome.seconds_to_exhaustion].into_iter().flatten() {
                prop_assert!(figure.is_finite() && figure >= 0.0, "{outcome:?}");
            }
            prop_assert!(time_wait <= time_wait_wanted);
        }
        if let Some(limit) = plan.max_tw_buckets {
            prop_assert!(plan.outcome().time_wait <= limit as f64);
        }
    }

    #[test]
    fn ports_run_out_when_more_are_needed_than_there_are(plan in any_plan()) {
        let outcome = plan.outcome();
        let available = f64::from(outcome.ports_available);
        let steady_fits = outcome.ports_needed <= available * (1.0 + 1e-9) && (available > 0.0 || outcome.ports_needed == 0.0);
        let idle = plan.rate_per_s.is_nan() || plan.rate_per_s <= 0.0;
        prop_assert_eq!(outcome.seconds_to_exhaustion.is_none(), steady_fits && (available > 0.0 || idle));
        // Without a bucket limit, and with connections that end, ports run out above that rate.
        let plain = Plan { max_tw_buckets: None, pooled: false, ..plan };
        let (outcome, max) = (plain.outcome(), infinite(plain.max_rate_per_s()));
        let rate = if plain.rate_per_s > 0.0 { plain.rate_per_s.min(f64::from(u32::MAX)) } else { 0.0 };
        if rate < max * (1.0 - 1e-6) {
            prop_assert_eq!(outcome.seconds_to_exhaustion, None);
        } else if rate > max * (1.0 + 1e-6) {
            prop_assert!(outcome.seconds_to_exhaustion.is_some());
        }
    }

    #[test]
    fn more_of_anything_sustains_no_less(plan in any_plan(), wider: u16, more in 1_u32..10) {
        let max = infinite(plan.max_rate_per_s()) * (1.0 - 1e-9);
        let (low, high) = plan.range;
        let wide = plan.after(Change::Range(low, high.saturating_add(wider)));
        prop_assert!(infinite(wide.max_rate_per_s()) >= max);
        let sources = plan.after(Change::Sources(plan.source_addresses.max(1) + more));
        prop_assert!(infinite(sources.max_rate_per_s()) >= max);
        let destinations = plan.after(Change::Destinations(plan.destinations.max(1) + more));
        prop_assert!(infinite(destinations.max_rate_per_s()) >= max);
        for change in [Change::Pool, Change::PeerCloses, Change::NoPortAtBind] {
            prop_assert!(infinite(plan.after(change).max_rate_per_s()) >= max, "{change:?}");
        }
    }

    #[test]
    fn a_budget_says_the_same(
        rate in 1.0..5000.0_f64,
        range in (1_u16..60_000, 1_u16..5000),
        standing in 0_u32..200,
        tw_reuse in 0_u8..3,
    ) {
        let range = (range.0, range.0 + range.1);
        let plan = Plan { rate_per_s: rate, range, standing, tw_reuse, max_tw_buckets: None, ..Plan::default() };
        let usable = Usable::new(range, "").unwrap();
        let used = Use { bound: standing, rate_per_s: rate, ..Use::default() };
        let (budget, outcome) = (Budget::of(&usable, &used, plan.hold_seconds()), plan.outcome());
        prop_assert_eq!(outcome.ports_available, budget.available);
        prop_assert!(close(outcome.max_rate_per_s.unwrap(), budget.max_rate_per_s));
        // Exactly at the sustained rate, one of them says that the last port is taken just as the first comes free.
        if (rate / budget.max_rate_per_s - 1.0).abs() > 1e-6 {
            prop_assert_eq!(outcome.seconds_to_exhaustion.is_some(), budget.seconds_to_exhaustion.is_some());
            let (ours, theirs) = (outcome.seconds_to_exhaustion, budget.seconds_to_exhaustion);
            prop_assert!(close(ours.unwrap_or(0.0), theirs.unwrap_or(0.0)), "{ours:?} {theirs:?}");
        }
    }
}
