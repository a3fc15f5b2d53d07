//! When each destination was busy.

use super::frame::{Frame, block, unit};
use crate::report::Part;
use crate::report::lines::lines_of;
use crate::report::timeline::{Timeline, length};
use crate::text;
use maud::{Markup, html};
use twtrace_core::snapshot::GroupBy;

/// Destinations shown.
const ROWS: usize = 12;

/// Steps of time.
const STEPS: usize = 90;

/// Height of a row: its name above its cells.
const ROW: f64 = 42.0;
const CELL: f64 = 16.0;

pub(super) fn plot(part: &Part<'_>, id: &str) -> Markup {
    let timeline = Timeline::of(part);
    let pieces = timeline.pieces(STEPS);
    let Some(first) = timeline.points.first() else { return html! {} };
    let buckets = pieces.first().map_or(1, |piece| piece.len());
    let lines = lines_of(part, GroupBy::Destination);
    let lines: Vec<_> = lines.iter().filter(|line| line.counts().time_wait_created > 0).collect();
    let shown = &lines[..lines.len().min(ROWS)];
    if shown.is_empty() {
        return html! {};
    }
    let seconds: Vec<f64> = pieces.iter().map(|piece| length(piece)).collect();
    let rates: Vec<Vec<f64>> = shown
        .iter()
        .map(|line| {
            let created = timeline.created(line.series());
            let sums =
                created.chunks(buckets).map(|piece| piece.iter().map(|created| f64::from(*created)).sum::<f64>());
            sums.zip(&seconds).map(|(sum, seconds)| sum / seconds).collect()
        })
        .collect();
    let most = rates.iter().flatten().copied().fold(0.0, f64::max);
    let since = |unix_ns: i128| (unix_ns - first.unix_ns) as f64 / 1e9;
    let frame = Frame { height: shown.len() as f64 * ROW + 40.0, x: (0.0, since(timeline.end_unix_ns())), y: 1.0 };
    let (left, right) = (frame.x(0.0), frame.right());
    let says = |from: f64, rate: f64| {
        let unix_ns = first.unix_ns.saturating_add((from * 1e9) as i128);
        format!("{} UTC: {}/s", text::time_of_day(unix_ns), text::rate(rate))
    };
    let content = html! {
        @for (index, (line, rates)) in shown.iter().zip(&rates).enumerate() {
            @let bottom = (index + 1) as f64 * ROW;
            @let (down, name) = ((bottom - CELL, bottom), unit(bottom - CELL - 6.0));
            text class="note" x=(unit(left)) y=(name) { (line.full_name()) }
            text class="note end" x=(unit(right)) y=(name) {
                (text::count(line.counts().time_wait_created)) " (" (text::percent(line.share())) ")"
            }
            (block("cold", (left, right), down, "nothing"))
            @for (piece, rate) in pieces.iter().zip(rates).filter(|(_, rate)| **rate > 0.0) {
                @let to = piece.last().map_or(0.0, |point| since(point.unix_ns) + point.seconds);
                @let from = piece.first().map_or(0.0, |point| since(point.unix_ns));
                g fill-opacity=(format!("{:.2}", warmth(*rate, most))) {
                    (block("hot", (frame.x(from), frame.x(to)), down, &says(from, *rate)))
                }
            }
        }
        (frame.times(first.unix_ns))
    };
    let left_out = lines.len() - shown.len();
    let description = format!(
        "{}, each at most {} per second.",
        text::counted(shown.len(), "destination", "destinations"),
        text::rate(most)
    );
    html! {
        figure {
            figcaption { b { "When each destination was busy" } ", TIME_WAIT sockets created per second, UTC" }
            (frame.svg(id, "TIME_WAIT sockets created to each destination over time", &description, &content))
            p class="aside" {
                "0 "
                @for share in [0.05, 0.25, 0.5, 0.75, 1.0] {
                    span class="swatch heat" style=(format!("opacity:{:.2}", warmth(share, 1.0))) {}
                }
                " " (text::rate(most)) "/s"
                @if left_out > 0 {
                    "; " (text::counted(left_out, "more destination", "more destinations")) " not shown"
                }
            }
        }
    }
}

/// Opacity of a rate. By its square root, or small rates would be invisible.
fn warmth(rate: f64, most: f64) -> f64 {
    (rate / most.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0).sqrt().max(0.12)
}
