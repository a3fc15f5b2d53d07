//! The two limits that a host runs into: the ports of a destination, and TIME_WAIT sockets.

use super::bar::{self, CELLS, Mark, Part};
use super::budgets::{self, Budgeted};
use super::{Span, top};
use crate::focus::Focus;
use crate::ports::{self, Share};
use crate::timeline::Timeline;
use crate::{label, text, words};
use maud::{Markup, html};
use twtrace_core::finding::Severity;
use twtrace_core::snapshot::{DestRow, Snapshot};

/// Share of the ports in use from which connects get slow.
const HALF: f64 = 0.5;

/// A gauge.
struct Gauge {
    title: &'static str,
    /// What it is of.
    of: String,
    value: String,
    unit: &'static str,
    severity: Option<Severity>,
    bar: Option<Markup>,
    /// What else is to know of it, one line each.
    lines: Vec<String>,
}

/// Both gauges side by side.
pub(crate) fn gauges(focus: &Focus<'_>, snapshot: &Snapshot, span: Span) -> Markup {
    html! {
        div class="gauges" {
            (gauge(&of_ports(focus, snapshot, span)))
            (gauge(&of_time_wait(focus, snapshot, span)))
        }
    }
}

fn gauge(gauge: &Gauge) -> Markup {
    html! {
        section class={ "panel gauge " (top::class(gauge.severity)) } {
            h2 { (gauge.title) " " span class="of" { (gauge.of) } }
            p class="value" { (gauge.value) span class="unit" { " " (gauge.unit) } }
            @if let Some(bar) = &gauge.bar { (bar) }
            @for line in &gauge.lines { p class="more" { (line) } }
        }
    }
}

/// The ports of the destination that the sentence is about, else of the one that was closest to running out of them.
fn of_ports(focus: &Focus<'_>, snapshot: &Snapshot, span: Span) -> Gauge {
    let place = focus.finding.and_then(|finding| finding.destination).map(DestRow::Dest);
    let of_finding = focus.destination.filter(|row| span == Span::Now || place == Some(row.key));
    let found = of_finding.and_then(|row| Budgeted::of(row, span));
    let found = found.or_else(|| budgets::ranked(snapshot, span).into_iter().next());
    let Some(found) = found else {
        let range = words::port_range(&snapshot.summary().kernel);
        let (value, unit) = ("0.0%".to_owned(), "of any destination's ports used");
        return Gauge { title: "Ports", of: String::new(), value, unit, severity: None, bar: None, lines: vec![range] };
    };
    let Budgeted { row, budget, .. } = &found;
    let whose = match row.key {
        DestRow::Dest(key) if focus.bucket.is_one_of_several => {
            format!(" in {}", label::namespace(snapshot.summary(), key.netns))
        }
        _ => String::new(),
    };
    let name = label::destination(&row.key, row.folded);
    let severity = match found.tightness {
        _ if budget.available == 0 => Some(Severity::Critical),
        share if share >= HALF || budget.seconds_to_exhaustion.is_some() => Some(Severity::Warning),
        _ => None,
    };
    Gauge {
        title: "Ports",
        of: format!("to {name}{whose}, {}", ports::total(budget)),
        value: text::percent(found.tightness),
        unit: if found.tightness > budget.utilization { "in TIME_WAIT at most at a time" } else { "used" },
        severity,
        bar: Some(found.bar()),
        lines: found.lines(span),
    }
}

/// TIME_WAIT sockets, and how many the kernel keeps at most.
fn of_time_wait(focus: &Focus<'_>, snapshot: &Snapshot, span: Span) -> Gauge {
    let bucket = &focus.bucket;
    // Over time, the kernel's count is of all namespaces together.
    let peak = Timeline::of(snapshot).fullest().filter(|_| span == Span::Whole && !bucket.is_one_of_several);
    let most = peak.map_or(bucket.sockets, |(_, count)| count.max(bucket.sockets));
    let share = most as f64 / bucket.limit.max(1) as f64;
    let limit = text::count(bucket.limit);
    let mut lines = vec![format!("{} of at most {limit} (tcp_max_tw_buckets)", text::percent(share))];
    let mut marks = Vec::new();
    if let Some((unix_ns, _)) = peak {
        let end = format!("{} at the end", text::count(bucket.sockets));
        lines.push(format!("at {} UTC; {end}", text::time_of_day(unix_ns)));
        let cell = (bucket.share().min(1.0) * CELLS as f64) as usize;
        marks.push(Mark { from: cell, cell, says: end });
    } else if bucket.is_one_of_several {
        let all = text::count(snapshot.summary().time_wait());
        lines.push(format!("in {}, {all} in all network namespaces", bucket.namespace));
    }
    let ends = words::ends(&snapshot.summary().totals.counts);
    lines.extend(Some(ends).filter(|ends| !ends.is_empty()));
    let cells = ports::spread(&[most, bucket.limit.saturating_sub(most).max(1)], CELLS);
    let part = |share: Share, cells: usize, says: String| Part { cells, says, ..budgets::part(share) };
    let parts = [
        part(Share::TimeWait, cells[0], format!("{} TIME_WAIT sockets", text::count(most))),
        part(Share::Free, cells[1], format!("{} more may exist", text::count(bucket.limit.saturating_sub(most)))),
    ];
    let label = format!("{} TIME_WAIT sockets of at most {limit}", text::count(most));
    Gauge {
        title: "TIME_WAIT sockets",
        of: if peak.is_some() { "at most at a time".to_owned() } else { String::new() },
        value: text::count(most),
        unit: "alive",
        severity: (share >= words::NEARLY).then_some(Severity::Warning),
        bar: Some(bar::split(&parts, &marks, "", &label)),
        lines,
    }
}
