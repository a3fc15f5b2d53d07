//! TIME_WAIT sockets created per second over time, stacked by the rows that created them.

use super::frame::{Frame, block, round_up, unit};
use crate::report::lines::{Line, lines_of};
use crate::report::timeline::{Timeline, length};
use crate::report::{Part, lines};
use crate::text;
use maud::{Markup, html};
use std::fmt::Write as _;
use twtrace_core::snapshot::GroupBy;

/// Rows with a colour of their own.
const COLOURS: usize = 8;

/// Steps of the plot: the eye cannot see more.
const STEPS: usize = 240;

/// One layer.
struct Layer {
    class: String,
    name: String,
    created: u64,
    /// Per second, by step.
    rates: Vec<f64>,
}

pub(super) fn plot(part: &Part<'_>, by: GroupBy, id: &str) -> Markup {
    let timeline = Timeline::of(part);
    let pieces = timeline.pieces(STEPS);
    let (Some(first), true) = (timeline.points.first(), part.created() > 0) else { return html! {} };
    let begins: Vec<f64> = pieces
        .iter()
        .filter_map(|piece| piece.first())
        .map(|point| (point.unix_ns - first.unix_ns) as f64 / 1e9)
        .collect();
    let seconds = (timeline.end_unix_ns() - first.unix_ns) as f64 / 1e9;
    let lines = lines_of(part, by);
    let layers = layers(&timeline, &lines, part);
    let totals: Vec<f64> = (0..pieces.len()).map(|at| layers.iter().map(|layer| layer.rates[at]).sum()).collect();
    let most = totals.iter().copied().fold(0.0, f64::max);
    let frame = Frame { height: 300.0, x: (0.0, seconds), y: round_up(most) };
    let ends: Vec<f64> = begins.iter().skip(1).copied().chain([seconds]).collect();

    let mut below = vec![0.0; pieces.len()];
    let mut areas = Vec::new();
    for layer in &layers {
        let above: Vec<f64> = below.iter().zip(&layer.rates).map(|(below, rate)| below + rate).collect();
        areas.push((&layer.class, area(&frame, &begins, &ends, &below, &above)));
        below = above;
    }
    let says = |at: usize| {
        let mut parts: Vec<(&str, f64)> = layers.iter().map(|layer| (layer.name.as_str(), layer.rates[at])).collect();
        parts.retain(|(_, rate)| *rate > 0.0);
        parts.sort_by(|a, b| b.1.total_cmp(&a.1));
        let parts: Vec<String> =
            parts.iter().take(4).map(|(name, rate)| format!("{name} {}", text::rate(*rate))).collect();
        let unix_ns = pieces[at].first().map_or(0, |point| point.unix_ns);
        format!("{} UTC: {}/s\n{}", text::time_of_day(unix_ns), text::rate(totals[at]), parts.join("\n"))
    };
    let description = format!(
        "At most {} per second. From the bottom: {}.",
        text::rate(most),
        layers
            .iter()
            .map(|layer| format!("{} with {}", layer.name, text::count(layer.created)))
            .collect::<Vec<_>>()
            .join(", ")
    );
    let content = html! {
        (frame.rules())
        @for (class, path) in &areas { path class=(format!("area {class}")) d=(path) {} }
        @for at in 0..pieces.len() {
            (block("hover", (frame.x(begins[at]), frame.x(ends[at])), frame.down(), &says(at)))
        }
        (frame.times(first.unix_ns))
    };
    html! {
        figure {
            figcaption { b { "TIME_WAIT sockets created per second" } " by " (by.name()) ", UTC" }
            (frame.svg(id, &format!("TIME_WAIT sockets created per second by {}", by.name()), &description, &content))
            ul class="legend" {
                @for layer in &layers {
                    li {
                        span class=(format!("swatch {}", layer.class)) {}
                        span class="name" { (layer.name) }
                        @let share = text::percent(lines::share(layer.created, part.created()));
                        span class="of" { (text::count(layer.created)) " (" (share) ")" }
                    }
                }
            }
        }
    }
}

/// The rows that created the most, each with a colour, and all others together.
fn layers(timeline: &Timeline<'_>, lines: &[Line<'_>], part: &Part<'_>) -> Vec<Layer> {
    let pieces = timeline.pieces(STEPS);
    let buckets = pieces.first().map_or(1, |piece| piece.len());
    let seconds: Vec<f64> = pieces.iter().map(|piece| length(piece)).collect();
    let created = |line: &&Line<'_>| line.counts().time_wait_created > 0;
    let shown = lines.iter().filter(created).take(COLOURS);
    let mut layers: Vec<Layer> = shown
        .enumerate()
        .map(|(index, line)| {
            let counts = timeline.created(line.series());
            let sums = counts.chunks(buckets).map(|piece| piece.iter().map(|created| f64::from(*created)).sum::<f64>());
            Layer {
                class: format!("c{}", index + 1),
                name: line.full_name(),
                created: line.counts().time_wait_created,
                rates: sums.zip(&seconds).map(|(sum, seconds)| sum / seconds).collect(),
            }
        })
        .collect();
    let rest = lines.iter().filter(created).count().saturating_sub(layers.len());
    if rest > 0 {
        let all = pieces.iter().map(|piece| piece.iter().map(|point| point.moment.created).sum::<u64>() as f64);
        let rates = all.zip(&seconds).enumerate().map(|(at, (all, seconds))| {
            let others: f64 = layers.iter().map(|layer| layer.rates[at]).sum();
            (all / seconds - others).max(0.0)
        });
        let rates = rates.collect();
        let named: u64 = layers.iter().map(|layer| layer.created).sum();
        layers.push(Layer {
            class: "rest".to_owned(),
            name: text::counted(rest, "other", "others"),
            created: part.created().saturating_sub(named),
            rates,
        });
    }
    layers
}

/// The outline of a layer: along the steps above, and back along those below.
fn area(frame: &Frame, begins: &[f64], ends: &[f64], below: &[f64], above: &[f64]) -> String {
    let there = above.iter().zip(ends);
    let back = below.iter().zip(begins).rev();
    let mut path = format!("M{} {}", unit(frame.x(frame.x.0)), unit(frame.bottom()));
    let mut step: Option<(String, String)> = None;
    for (value, x) in there.chain(back) {
        let (x, y) = (unit(frame.x(*x)), unit(frame.y(*value)));
        match &mut step {
            // Consecutive equal values are one step.
            Some((height, to)) if *height == y => *to = x,
            _ => push(&mut path, step.replace((y, x))),
        }
    }
    push(&mut path, step);
    path.push('Z');
    path
}

fn push(path: &mut String, step: Option<(String, String)>) {
    if let Some((y, x)) = step {
        // Writing to a String does not fail.
        let _ = write!(path, "V{y}H{x}");
    }
}
