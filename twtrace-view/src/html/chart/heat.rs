//! When each destination was busy.

use super::frame::{Frame, block, unit};
use super::panel;
use crate::order::{self, Sort};
use crate::timeline::{Timeline, length};
use crate::{label, text};
use maud::{Markup, html};
use twtrace_core::snapshot::{DestinationRow, Snapshot};

/// Destinations shown.
const ROWS: usize = 8;

/// Steps of time.
const STEPS: usize = 90;

/// Height of a row: its name above its cells.
const ROW: f64 = 44.0;
const CELL: f64 = 16.0;

pub(super) fn chart(snapshot: &Snapshot, id: &str) -> Markup {
    let timeline = Timeline::of(snapshot);
    let pieces = timeline.pieces(STEPS);
    let Some(first) = timeline.points.first() else { return html! {} };
    let buckets = pieces.first().map_or(1, |piece| piece.len());
    let mut rows = order::destinations(snapshot.destinations().iter(), Sort::DEFAULT, snapshot);
    rows.retain(|row| row.counts.time_wait_created > 0);
    let left_out = rows.len().saturating_sub(ROWS);
    rows.truncate(ROWS);
    if rows.is_empty() {
        return html! {};
    }
    let seconds: Vec<f64> = pieces.iter().map(|piece| length(piece)).collect();
    let rates = |row: &&DestinationRow| -> Vec<f64> {
        let created = timeline.created(&row.series);
        let sums = created.chunks(buckets).map(|piece| piece.iter().map(|created| f64::from(*created)).sum::<f64>());
        sums.zip(&seconds).map(|(sum, seconds)| sum / seconds).collect()
    };
    let rates: Vec<Vec<f64>> = rows.iter().map(rates).collect();
    let most = rates.iter().flatten().copied().fold(0.0, f64::max);
    let since = |unix_ns: i128| (unix_ns - first.unix_ns) as f64 / 1e9;
    let frame = Frame { height: rows.len() as f64 * ROW + 40.0, x: (0.0, since(timeline.end_unix_ns())), y: 1.0 };
    let (left, right) = (frame.x(0.0), frame.right());
    let all = snapshot.summary().totals.counts.time_wait_created.max(1);
    let says = |from: f64, rate: f64| {
        let unix_ns = first.unix_ns.saturating_add((from * 1e9) as i128);
        format!("{} UTC: {}/s", text::time_of_day(unix_ns), text::rate(rate))
    };
    let content = html! {
        @for (index, (row, rates)) in rows.iter().zip(&rates).enumerate() {
            @let bottom = (index + 1) as f64 * ROW;
            @let (down, name) = ((bottom - CELL, bottom), unit(bottom - CELL - 6.0));
            @let created = row.counts.time_wait_created;
            text class="note" x=(unit(left)) y=(name) { (label::destination_and_role(row)) }
            text class="note end" x=(unit(right)) y=(name) {
                (text::count(created)) " (" (text::percent(created as f64 / all as f64)) ")"
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
    let description = format!(
        "{}, each at most {} per second.",
        text::counted(rows.len(), "destination", "destinations"),
        text::rate(most)
    );
    let plot = frame.svg(id, "time", "TIME_WAIT sockets created to each destination over time", &description, &content);
    let about = "TIME_WAIT sockets created per second, UTC";
    panel("When each destination was busy", about, &plot, &scale(most, left_out))
}

/// Which shade stands for which rate.
fn scale(most: f64, left_out: usize) -> Markup {
    html! {
        p class="aside" {
            "0 "
            @for share in [0.05, 0.25, 0.5, 0.75, 1.0] {
                svg class="shade" aria-hidden="true" {
                    rect class="hot" width="100%" height="100%" fill-opacity=(format!("{:.2}", warmth(share, 1.0))) {}
                }
            }
            " " (text::rate(most)) "/s"
            @if left_out > 0 { "; " (text::counted(left_out, "more destination", "more destinations")) " not shown" }
        }
    }
}

/// Opacity of a rate. By its square root, or small rates would be invisible.
fn warmth(rate: f64, most: f64) -> f64 {
    (rate / most.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0).sqrt().max(0.12)
}
