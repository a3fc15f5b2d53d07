//! Live TIME_WAIT sockets over time, compared with the limits of the host.

use super::frame::{Frame, block, line as rule, round_up, unit};
use super::panel;
use crate::timeline::Timeline;
use crate::{text, words};
use maud::{Markup, html};
use twtrace_core::snapshot::Snapshot;

/// Steps of the plot.
const STEPS: usize = 180;

/// A limit is drawn if the highest value reaches this share of it; otherwise the values would be a flat line.
const NEAR: f64 = 0.2;

/// A bound that must not be reached.
struct Limit {
    value: f64,
    name: String,
}

/// Values in the middle of each step.
struct Line {
    points: Vec<(f64, u64)>,
}

impl Line {
    fn most(&self) -> u64 {
        self.points.iter().map(|(_, most)| *most).max().unwrap_or(0)
    }

    /// The points of a polyline.
    fn on(&self, frame: &Frame) -> String {
        let points = self.points.iter().map(|(x, y)| format!("{},{}", unit(frame.x(*x)), unit(frame.y(*y as f64))));
        points.collect::<Vec<_>>().join(" ")
    }
}

pub(super) fn chart(snapshot: &Snapshot, id: &str) -> Markup {
    let timeline = Timeline::of(snapshot);
    let Some(first) = timeline.points.first() else { return html! {} };
    let since = |unix_ns: i128| (unix_ns - first.unix_ns) as f64 / 1e9;
    let seconds = since(timeline.end_unix_ns());
    let (mut kernel, mut followed) = (Line { points: Vec::new() }, Line { points: Vec::new() });
    for piece in timeline.pieces(STEPS) {
        let (Some(from), Some(to)) = (piece.first(), piece.last()) else { continue };
        let middle = f64::midpoint(since(from.unix_ns), since(to.unix_ns) + to.seconds);
        let counted = piece.iter().filter_map(|point| point.moment.kernel_time_wait).max();
        kernel.points.extend(counted.map(|most| (middle, most)));
        followed.points.extend(piece.iter().map(|point| point.moment.live).max().map(|most| (middle, most)));
    }
    let most = kernel.most().max(followed.most());
    if most == 0 {
        return html! {};
    }
    let is_near = |limit: &Limit| most as f64 >= limit.value * NEAR;
    let (near, far): (Vec<Limit>, Vec<Limit>) = limits(snapshot).into_iter().partition(is_near);
    let highest = near.iter().map(|limit| limit.value).fold(most as f64, f64::max);
    let frame = Frame { height: 300.0, x: (0.0, seconds), y: round_up(highest) };
    let says = |at: f64, alive: u64| {
        let unix_ns = first.unix_ns.saturating_add((at * 1e9) as i128);
        format!("{} UTC: {} alive", text::time_of_day(unix_ns), text::count(alive))
    };
    // Without the kernel's count, those that are followed are all that is known.
    let known = if kernel.points.is_empty() { &followed } else { &kernel };
    let half = seconds / known.points.len().max(1) as f64 / 2.0;
    let content = html! {
        (frame.rules())
        @if let (Some(left), Some(right)) = (followed.points.first(), followed.points.last()) {
            @let bottom = unit(frame.bottom());
            polygon class="followed" points=(format!("{},{bottom} {} {},{bottom}",
                unit(frame.x(left.0)), followed.on(&frame), unit(frame.x(right.0)))) {}
        }
        polyline class="kernel" points=(kernel.on(&frame)) {}
        @for (index, limit) in near.iter().enumerate() {
            @let (left, y) = (frame.x(0.0), frame.y(limit.value));
            (rule(&format!("limit l{}", index + 1), (left, y), (frame.right(), y)))
            @let beside = if index == 0 { "1.2em" } else { "-0.4em" };
            text class="note" x=(unit(left + 6.0)) y=(unit(y)) dy=(beside) { (limit.name) }
        }
        @for (at, alive) in &known.points {
            (block("hover", (frame.x(at - half), frame.x(at + half)), frame.down(), &says(*at, *alive)))
        }
        (frame.times(first.unix_ns))
    };
    let beyond = far.iter().map(|limit| {
        format!("{} is beyond the plot: {} of it at most", limit.name, text::percent(most as f64 / limit.value))
    });
    let beyond = beyond.collect::<Vec<_>>().join("; ");
    let description = format!("At most {} alive. {beyond}", text::count(most)).trim_end().to_owned();
    let plot = frame.svg(id, "time", "TIME_WAIT sockets alive over time", &description, &content);
    let below = html! {
        ul class="legend" {
            @if !kernel.points.is_empty() {
                li { span class="line kernel" {} " kernel's count, all of the host, at most " (text::count(kernel.most())) }
            }
            li { span class="swatch followed" {} " followed by the trace" (timeline.scope()) ", at most " (text::count(followed.most())) }
            @if !near.is_empty() { li { span class="line limit" {} " limits" } }
        }
        @if !beyond.is_empty() { p class="aside" { (beyond) "." } }
    };
    panel("TIME_WAIT sockets alive", "and the limits, UTC", &plot, &below)
}

/// The limits. The port range is available again for each destination.
fn limits(snapshot: &Snapshot) -> Vec<Limit> {
    let kernel = &snapshot.summary().kernel;
    let (low, high) = kernel.port_range;
    let ports = (u64::from(high) + 1).saturating_sub(u64::from(low)).saturating_sub(kernel.reserved_in_range.into());
    let mut limits = Vec::new();
    if high > 0 && ports > 0 {
        let name = format!("{} ports for each destination", text::count(ports));
        limits.push(Limit { value: ports as f64, name });
    }
    // The sockets are those of all network namespaces, and each has its own limit.
    if kernel.max_tw_buckets > 0 && !words::fullest(snapshot.summary()).is_one_of_several {
        let name = format!("tcp_max_tw_buckets {}", text::count(kernel.max_tw_buckets));
        limits.push(Limit { value: kernel.max_tw_buckets as f64, name });
    }
    limits
}
