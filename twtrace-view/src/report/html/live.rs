//! Live TIME_WAIT sockets over time, compared with the limits of the host.

use super::frame::{Frame, block, line as rule, round_up, unit};
use crate::report::Part;
use crate::report::timeline::Timeline;
use crate::text;
use maud::{Markup, html};

/// Steps of the plot.
const STEPS: usize = 240;

/// A limit is drawn if the highest value reaches this share of it; otherwise the values would be a flat line.
const NEAR: f64 = 0.2;

/// A bound that must not be reached.
struct Limit {
    value: f64,
    name: String,
}

pub(super) fn plot(part: &Part<'_>, id: &str) -> Markup {
    let timeline = Timeline::of(part);
    let Some(first) = timeline.points.first() else { return html! {} };
    let since = |unix_ns: i128| (unix_ns - first.unix_ns) as f64 / 1e9;
    let seconds = since(timeline.end_unix_ns());
    // Each value in the middle of its piece.
    let mut kernel: Vec<(f64, u64)> = Vec::new();
    let mut followed: Vec<(f64, u64)> = Vec::new();
    for piece in timeline.pieces(STEPS) {
        let (Some(from), Some(to)) = (piece.first(), piece.last()) else { continue };
        let middle = f64::midpoint(since(from.unix_ns), since(to.unix_ns) + to.seconds);
        kernel.extend(piece.iter().filter_map(|point| point.moment.kernel_time_wait).max().map(|most| (middle, most)));
        followed.extend(piece.iter().map(|point| point.moment.live).max().map(|most| (middle, most)));
    }
    let most = kernel.iter().chain(&followed).map(|(_, most)| *most).max().unwrap_or(0) as f64;
    let (near, far): (Vec<Limit>, Vec<Limit>) = limits(part).into_iter().partition(|limit| most >= limit.value * NEAR);
    let highest = near.iter().map(|limit| limit.value).fold(most, f64::max);
    let frame = Frame { height: 260.0, x: (0.0, seconds), y: round_up(highest) };
    let line = |points: &[(f64, u64)]| {
        let points = points.iter().map(|(x, y)| format!("{},{}", unit(frame.x(*x)), unit(frame.y(*y as f64))));
        points.collect::<Vec<_>>().join(" ")
    };
    let says = |(at, alive): &(f64, u64)| {
        let unix_ns = first.unix_ns.saturating_add((at * 1e9) as i128);
        format!("{} UTC: {} alive", text::time_of_day(unix_ns), text::count(*alive))
    };
    let half = seconds / kernel.len().max(1) as f64 / 2.0;
    let content = html! {
        (frame.rules())
        @if let (Some(left), Some(right)) = (followed.first(), followed.last()) {
            @let bottom = unit(frame.bottom());
            polygon class="followed" points=(format!("{},{bottom} {} {},{bottom}",
                unit(frame.x(left.0)), line(&followed), unit(frame.x(right.0)))) {}
        }
        polyline class="kernel" points=(line(&kernel)) {}
        @for (index, limit) in near.iter().enumerate() {
            @let (left, y) = (frame.x(0.0), frame.y(limit.value));
            (rule(&format!("limit l{}", index + 1), (left, y), (frame.right(), y)))
            @let beside = if index == 0 { "1.2em" } else { "-0.4em" };
            text class="note" x=(unit(left + 6.0)) y=(unit(y)) dy=(beside) { (limit.name) }
        }
        @for point in &kernel {
            (block("hover", (frame.x(point.0 - half), frame.x(point.0 + half)), frame.down(), &says(point)))
        }
        (frame.times(first.unix_ns))
    };
    let beyond = far
        .iter()
        .map(|limit| format!("{} is beyond the plot: {} of it at most", limit.name, text::percent(most / limit.value)));
    let beyond = beyond.collect::<Vec<_>>().join("; ");
    let description = format!("At most {} alive. {beyond}", text::count(most as u64));
    html! {
        figure {
            figcaption { b { "TIME_WAIT sockets alive" } " against the limits, UTC" }
            (frame.svg(id, "TIME_WAIT sockets alive over time", &description, &content))
            ul class="legend" {
                li { span class="swatch stroke kernel" {} span class="name" { "kernel's count, all of the host" } }
                li { span class="swatch followed" {} span class="name" { "followed, filters applied" } }
                @if !near.is_empty() { li { span class="swatch stroke limit" {} span class="name" { "limits" } } }
            }
            @if !beyond.is_empty() { p class="aside" { (beyond) "." } }
        }
    }
}

/// The limits. The port range is available again for each destination.
fn limits(part: &Part<'_>) -> Vec<Limit> {
    let kernel = &part.model.summary().kernel;
    let (low, high) = kernel.port_range;
    let ports = (u64::from(high) + 1).saturating_sub(u64::from(low)).saturating_sub(kernel.reserved_in_range.into());
    let mut limits = Vec::new();
    if high > 0 && ports > 0 {
        let name = format!("port range {} (for each destination)", text::count(ports));
        limits.push(Limit { value: ports as f64, name });
    }
    if kernel.max_tw_buckets > 0 {
        let name = format!("tcp_max_tw_buckets {}", text::count(kernel.max_tw_buckets));
        limits.push(Limit { value: kernel.max_tw_buckets as f64, name });
    }
    limits
}
