//! How long connections lived: a histogram over a logarithmic scale.

use super::frame::{Frame, round_up, unit};
use crate::view::report::Part;
use crate::view::text;
use maud::{Markup, html};

/// Bars for each power of ten.
const BARS: f64 = 8.0;

pub(super) fn plot(part: &Part<'_>, id: &str) -> Markup {
    let lifetimes = &part.model.summary().totals.counts.lifetimes;
    let place = |us: u64| (us.max(1) as f64).log10() * BARS;
    let mut bars: Vec<u64> = Vec::new();
    let mut first = 0;
    for (range, count) in lifetimes.buckets() {
        // The cast saturates: a bar for each of 20 powers of ten at most.
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
    let frame = Frame { height: 240.0, x: (low.floor(), high.ceil()), y: round_up(most as f64) };
    let quantile = |share: f64| lifetimes.quantile(share).unwrap_or(0);
    let quantiles = [("p50", quantile(0.5)), ("p90", quantile(0.9)), ("p99", quantile(0.99))];
    let told = quantiles.map(|(name, us)| format!("{name} {}", of_us(us as f64)));
    let bar = |index: usize| (first + index) as f64 / BARS;
    let content = html! {
        (frame.rules())
        @for (index, count) in bars.iter().enumerate().filter(|(_, count)| **count > 0) {
            @let (left, right) = (frame.x(bar(index)), frame.x(bar(index + 1)));
            // One that is smaller than a line can show is not nothing.
            @let top = frame.y(*count as f64).min(frame.bottom() - 1.0);
            rect class="bar" x=(unit(left + 0.5)) width=(unit(right - left - 1.0)) y=(unit(top)) height=(unit(frame.bottom() - top)) {
                title {
                    (of_us(10_f64.powf(bar(index)))) " to " (of_us(10_f64.powf(bar(index + 1)))) ": " (text::count(*count))
                }
            }
        }
        @for (index, (name, us)) in quantiles.iter().enumerate() {
            @let x = frame.x(((*us).max(1) as f64).log10());
            line class="quantile" x1=(unit(x)) x2=(unit(x)) y1=(unit(frame.y(frame.y))) y2=(unit(frame.bottom())) {}
            text class="note" x=(unit(x + 4.0)) y=(unit(frame.y(frame.y))) dy=(format!("{}em", 0.9 + index as f64 * 1.1)) { (name) }
        }
        g class="axis" {
            @for power in frame.x.0 as i32..=frame.x.1 as i32 {
                @let x = frame.x(f64::from(power));
                line class="tick" x1=(unit(x)) x2=(unit(x)) y1=(unit(frame.bottom())) y2=(unit(frame.bottom() + 5.0)) {}
                text class="middle" x=(unit(x.min(frame.right() - 14.0))) y=(unit(frame.bottom() + 22.0)) { (of_us(10_f64.powi(power))) }
            }
            line class="base" x1=(unit(frame.x(frame.x.0))) x2=(unit(frame.right())) y1=(unit(frame.bottom())) y2=(unit(frame.bottom())) {}
        }
    };
    html! {
        figure {
            figcaption { b { "Lifetimes of connections" } ", logarithmic" }
            (frame.svg(id, "Lifetimes of connections", &format!("{}.", told.join(", ")), &content))
            p class="aside" { (told.join(", ")) " of " (text::count(lifetimes.count())) " connections" }
        }
    }
}

/// A lifetime: `350us`, `1ms`, `10s`, `2h46m`.
fn of_us(us: f64) -> String {
    text::seconds(us / 1e6).replace(".0s", "s")
}
