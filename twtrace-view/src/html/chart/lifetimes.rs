//! How long connections lasted: a histogram over a logarithmic scale.

use super::frame::{Frame, block, line, round_up, unit};
use super::panel;
use crate::text::{self, lifetime};
use maud::{Markup, html};
use twtrace_core::snapshot::Snapshot;

/// Bars for each power of ten.
const BARS: f64 = 8.0;

pub(super) fn chart(snapshot: &Snapshot, id: &str) -> Markup {
    let lifetimes = &snapshot.summary().totals.counts.lifetimes;
    let place = |us: u64| (us.max(1) as f64).log10() * BARS;
    let mut bars: Vec<u64> = Vec::new();
    let mut first = 0;
    for (range, count) in lifetimes.buckets() {
        // The cast saturates: at most one bar for each of 20 powers of ten.
        let bar = place(range.start.midpoint(range.end)).floor() as usize;
        if bars.is_empty() {
            first = bar;
        }
        // Ranges ascend.
        bars.resize(bar - first + 1, 0);
        if let Some(last) = bars.last_mut() {
            *last += count;
        }
    }
    let Some(most) = bars.iter().copied().max() else { return html! {} };
    let (low, high) = (first as f64 / BARS, (first + bars.len()) as f64 / BARS);
    // Whole powers of ten at both ends, so that the axis has at least two of them.
    let frame = Frame { height: 300.0, x: (low.floor(), high.ceil()), y: round_up(most as f64) };
    let quantile = |share: f64| lifetimes.quantile(share).unwrap_or(0);
    let quantiles = [("p50", quantile(0.5)), ("p90", quantile(0.9)), ("p99", quantile(0.99))];
    let labels = quantiles.map(|(name, us)| format!("{name} {}", lifetime(us as f64)));
    let bar = |index: usize| (first + index) as f64 / BARS;
    let bottom = frame.bottom();
    let says = |index: usize, count: u64| {
        let [from, to] = [index, index + 1].map(|index| lifetime(10_f64.powf(bar(index))));
        format!("{from} to {to}: {}", text::count(count))
    };
    let powers = (frame.x.0 as i32..=frame.x.1 as i32).map(|power| (f64::from(power), tick(10_f64.powi(power))));
    let content = html! {
        (frame.rules())
        @for (index, count) in bars.iter().enumerate().filter(|(_, count)| **count > 0) {
            @let across = (frame.x(bar(index)) + 0.5, frame.x(bar(index + 1)) - 0.5);
            // A count too small for a line is not zero.
            @let top = frame.y(*count as f64).min(bottom - 1.0);
            (block("filled", across, (top, bottom), &says(index, *count)))
        }
        @for (index, (name, us)) in quantiles.iter().enumerate() {
            @let (x, top) = (frame.x(((*us).max(1) as f64).log10()), frame.down().0);
            (line("quantile", (x, top), (x, bottom)))
            // One below the other: they may be close together.
            @let below = format!("{:.1}em", 0.9 + index as f64 * 1.1);
            text class="note" x=(unit(x + 4.0)) y=(unit(top)) dy=(below) { (name) }
        }
        (frame.base(&powers.collect::<Vec<_>>()))
    };
    let labels = labels.join(", ");
    let plot = frame.svg(id, "", "Lifetimes of connections", &format!("{labels}."), &content);
    let below = html! { p class="aside" { (labels) " of " (text::count(lifetimes.count())) " connections" } };
    panel("Lifetimes of connections", "from the first state change to the last, logarithmic", &plot, &below)
}

/// A place on the axis: `1ms`, not `1.0ms`.
fn tick(us: f64) -> String {
    lifetime(us).replace(".0", "")
}
