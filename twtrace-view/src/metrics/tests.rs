#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use super::*;
use crate::report::fixture;
use twtrace_testkit::web;

fn options() -> Options {
    Options { by: vec![GroupBy::Program, GroupBy::User], series: 100 }
}

fn page(snapshot: &Snapshot, options: &Options, dialect: Dialect) -> String {
    let cost = OwnCost { cpu_seconds: 1.5, resident_bytes: 4096, ..OwnCost::default() };
    Metrics::new(options).write(snapshot, cost, dialect)
}

/// The values of a metric.
fn values<'a>(page: &'a str, name: &str) -> Vec<(&'a str, f64)> {
    let of = |line: &'a str| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        (labels.is_empty() || labels.starts_with('{')).then(|| (labels, value.parse().unwrap()))
    };
    page.lines().filter_map(of).collect()
}

fn sum(page: &str, name: &str) -> u64 {
    values(page, name).iter().map(|(_, value)| *value as u64).sum()
}

#[test]
fn series_of_each_figure_add_up_to_its_total() {
    let snapshot = web::snapshot();
    for series in [1, 2, 100] {
        let page = page(&snapshot, &Options { series, ..options() }, Dialect::OpenMetrics);
        let totals = &snapshot.summary().totals.counts;
        for field in FIELDS.iter().filter(|field| field.is_total) {
            let all = (field.get)(totals).size() as u64;
            for prefix in ["", "destination_"] {
                let name = format!("twtrace_{prefix}{}_total", field.name);
                assert_eq!(sum(&page, &name), all, "{name} with {series} series");
            }
        }
        let live = sum(&page, "twtrace_time_wait_live");
        assert_eq!(live, totals.time_wait_live, "{series}");
    }
}

#[test]
fn page_has_every_family_once_with_all_of_its_samples() {
    let snapshot = fixture::short();
    for dialect in [Dialect::OpenMetrics, Dialect::Prometheus] {
        let page = page(&snapshot, &options(), dialect);
        let families: Vec<&str> =
            page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let unique: std::collections::BTreeSet<&str> = families.iter().copied().collect();
        assert_eq!(unique.len(), families.len(), "a family is there twice");
        for family in &FAMILIES {
            assert!(families.iter().any(|name| name.contains(&format!("twtrace_{}", family.name))), "{}", family.name);
        }
        // A sample follows the head of its own family.
        let mut family = "";
        for line in page.lines() {
            match line.strip_prefix("# TYPE ") {
                Some(head) => family = head.split(' ').next().unwrap(),
                None => assert!(line.starts_with('#') || line.starts_with(family), "{line} below {family}"),
            }
        }
    }
}

#[test]
fn findings_of_every_kind_have_a_number() {
    let page = page(&fixture::short(), &options(), Dialect::Prometheus);
    assert_eq!(values(&page, "twtrace_findings").len(), Rule::ALL.len());
    assert!(sum(&page, "twtrace_findings") > 0);
    let quiet = self::page(&fixture::quiet(5).with_findings(Vec::new()), &options(), Dialect::Prometheus);
    assert_eq!((values(&quiet, "twtrace_findings").len(), sum(&quiet, "twtrace_findings")), (Rule::ALL.len(), 0));
}

#[test]
fn names_from_processes_stay_inside_their_labels() {
    let page = page(&fixture::hostile(), &options(), Dialect::OpenMetrics);
    assert!(
        page.lines().all(|line| line.starts_with("# ") || line.starts_with("twtrace_") || line.starts_with("process_")),
        "{page}"
    );
    assert!(!page.contains('\u{1b}') && !page.contains('\u{202e}'));
    assert!(page.ends_with("# EOF\n"));
}

#[test]
fn counter_of_the_kernel_side_never_falls() {
    let mut metrics = Metrics::new(&options());
    let mut write = |snapshot: &Snapshot| metrics.write(snapshot, OwnCost::default(), Dialect::OpenMetrics);
    let before = write(&web::lossy());
    let after = write(&web::snapshot());
    assert!(sum(&before, "twtrace_lost_total") > 0);
    for name in ["twtrace_lost_total", "twtrace_kernel_records_total", "twtrace_kernel_recursion_total"] {
        assert!(sum(&after, name) >= sum(&before, name), "{name}");
    }
}

#[test]
fn what_never_happens_is_infinitely_far() {
    let page = page(&web::snapshot(), &options(), Dialect::OpenMetrics);
    assert!(page.contains("twtrace_exhaustion_seconds{") && page.contains(" +Inf\n"), "{page}");
}
