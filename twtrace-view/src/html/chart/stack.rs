//! Rates over time, stacked: an area for each layer, a table of the layers, and the values in a table.

use super::frame::{Frame, block, round_up, unit};
use super::panel;
use crate::text;
use crate::timeline::{Timeline, length};
use maud::{Markup, html};
use std::fmt::Write as _;

/// Steps of the plot: the eye hardly sees more.
const STEPS: usize = 180;

/// Rows of the table of values.
const VALUES: usize = 24;

/// Layers with a value under the pointer.
const SAID: usize = 4;

/// Height of a layer that has room for its number, in units of the plot.
const NUMBERED: f64 = 28.0;

/// One layer.
pub(super) struct Layer {
    /// Its colour.
    pub(super) class: &'static str,
    pub(super) name: String,
    /// All that it counts.
    pub(super) total: u64,
    /// What it counts in each bucket of the timeline.
    pub(super) counts: Vec<f64>,
}

/// Layers over time.
pub(super) struct Stack<'a> {
    pub(super) timeline: &'a Timeline<'a>,
    /// The first one is at the bottom.
    pub(super) layers: Vec<Layer>,
    /// What is counted.
    pub(super) title: &'static str,
    /// What the layers are.
    pub(super) by: &'a str,
    /// What else is to know of the figures, after the rest of the title.
    pub(super) scope: &'static str,
}

/// The layers in the steps of a plot.
struct Steps<'a> {
    layers: &'a [Layer],
    /// Where each step begins, seconds from the first one on, and where the last one ends.
    edges: Vec<f64>,
    /// When each step begins, nanoseconds since the Unix epoch.
    times: Vec<i128>,
    /// Per second, by layer and step.
    rates: Vec<Vec<f64>>,
    /// All layers together.
    totals: Vec<f64>,
}

impl<'a> Steps<'a> {
    fn of(stack: &'a Stack<'_>, steps: usize) -> Option<Self> {
        let timeline = stack.timeline;
        let pieces = timeline.pieces(steps);
        let first = timeline.points.first()?;
        let since = |unix_ns: i128| (unix_ns - first.unix_ns) as f64 / 1e9;
        let times: Vec<i128> = pieces.iter().filter_map(|piece| Some(piece.first()?.unix_ns)).collect();
        let edges = times.iter().copied().chain([timeline.end_unix_ns()]).map(since).collect();
        let seconds: Vec<f64> = pieces.iter().map(|piece| length(piece)).collect();
        let buckets = pieces.first().map_or(1, |piece| piece.len());
        let rates = |layer: &Layer| -> Vec<f64> {
            let sums = layer.counts.chunks(buckets).map(|piece| piece.iter().sum::<f64>());
            sums.zip(&seconds).map(|(sum, seconds)| sum / seconds).collect()
        };
        let rates: Vec<Vec<f64>> = stack.layers.iter().map(rates).collect();
        let totals = (0..pieces.len()).map(|at| rates.iter().map(|of| of[at]).sum()).collect();
        Some(Self { layers: &stack.layers, edges, times, rates, totals })
    }

    fn most(&self) -> f64 {
        self.totals.iter().copied().fold(0.0, f64::max)
    }

    /// The values of a step: the time, all together, and the largest layers.
    fn says(&self, at: usize) -> String {
        let mut parts: Vec<(&str, f64)> =
            self.layers.iter().zip(&self.rates).map(|(layer, rates)| (layer.name.as_str(), rates[at])).collect();
        parts.retain(|(_, rate)| *rate > 0.0);
        parts.sort_by(|a, b| b.1.total_cmp(&a.1));
        let mut says = format!("{} UTC: {}/s", text::time_of_day(self.times[at]), text::rate(self.totals[at]));
        for (name, rate) in parts.iter().take(SAID) {
            // Writing to a String does not fail.
            let _ = write!(says, "\n{}/s {name}", text::rate(*rate));
        }
        says
    }

    /// Where the number of each layer has room: at its highest step that has high neighbours; `None` where it has none.
    fn place(&self, layer: usize, frame: &Frame) -> Option<(f64, f64)> {
        let rates = &self.rates[layer];
        let around = |at: usize| {
            let neighbours = [at.checked_sub(1), Some(at), Some(at + 1)].into_iter().flatten();
            neighbours.filter_map(|at| rates.get(at)).copied().fold(f64::MAX, f64::min)
        };
        let most = (0..rates.len()).map(around).fold(0.0, f64::max);
        let highest: Vec<usize> = (0..rates.len()).filter(|at| around(*at) >= most).collect();
        let at = *highest.get(highest.len() / 2)?;
        let below: f64 = self.rates[..layer].iter().map(|rates| rates[at]).sum();
        let (bottom, top) = (frame.y(below), frame.y(below + rates[at]));
        let middle = f64::midpoint(frame.x(self.edges[at]), frame.x(self.edges[at + 1]));
        (bottom - top >= NUMBERED).then(|| (middle, f64::midpoint(bottom, top)))
    }

    fn plot(&self, frame: &Frame, start_unix_ns: i128) -> Markup {
        let mut below = vec![0.0; self.totals.len()];
        let mut areas = Vec::new();
        for (layer, rates) in self.layers.iter().zip(&self.rates) {
            let above: Vec<f64> = below.iter().zip(rates).map(|(below, rate)| below + rate).collect();
            areas.push((layer.class, area(frame, &self.edges, &below, &above)));
            below = above;
        }
        html! {
            (frame.rules())
            @for (class, path) in &areas { path class={ "area " (class) } d=(path) {} }
            @for (index, layer) in self.layers.iter().enumerate() {
                @if let Some((x, y)) = self.place(index, frame) {
                    text class={ "on middle " (layer.class) } x=(unit(x)) y=(unit(y)) dy="0.35em" { (index + 1) }
                }
            }
            @for at in 0..self.totals.len() {
                (block("hover", (frame.x(self.edges[at]), frame.x(self.edges[at + 1])), frame.down(), &self.says(at)))
            }
            (frame.times(start_unix_ns))
        }
    }

    /// The same as a table.
    fn table(&self) -> Markup {
        html! {
            details {
                summary { "Values" }
                div class="scroll" {
                    table class="sortable" {
                        thead {
                            tr {
                                th scope="col" { "UTC" }
                                th scope="col" class="number" { "all/s" }
                                @for layer in self.layers { th scope="col" class="number" { (layer.name) "/s" } }
                            }
                        }
                        tbody {
                            @for (at, time) in self.times.iter().enumerate() {
                                tr {
                                    td { (text::time_of_day(*time)) }
                                    td class="number" { (text::rate(self.totals[at])) }
                                    @for rates in &self.rates { td class="number" { (text::rate(rates[at])) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

impl Stack<'_> {
    /// The chart; nothing when nothing was counted.
    pub(super) fn chart(&self, id: &str) -> Markup {
        let all: u64 = self.layers.iter().map(|layer| layer.total).sum();
        let (Some(steps), true) = (Steps::of(self, STEPS), all > 0) else { return html! {} };
        let (Some(values), Some(first)) = (Steps::of(self, VALUES), steps.times.first()) else { return html! {} };
        let seconds = steps.edges.last().copied().unwrap_or(0.0);
        let frame = Frame { height: 300.0, x: (0.0, seconds), y: round_up(steps.most()) };
        let name = format!("{} by {}", self.title, self.by);
        let said = self.layers.iter().map(|layer| format!("{} with {}", layer.name, text::count(layer.total)));
        let said = said.collect::<Vec<_>>().join(", ");
        let description = format!("At most {} per second. From the bottom: {said}.", text::rate(steps.most()));
        let plot = frame.svg(id, "time", &name, &description, &steps.plot(&frame, *first));
        let below = html! { (self.legend(&steps, all)) (values.table()) };
        panel(self.title, &format!("by {}, UTC{}", self.by, self.scope), &plot, &below)
    }

    /// The layers from the bottom of the stack to its top, each with its number and its figures.
    fn legend(&self, steps: &Steps<'_>, all: u64) -> Markup {
        html! {
            table class="layers" {
                thead {
                    tr {
                        th scope="col" { (self.by) }
                        th scope="col" class="number" { "total" }
                        th scope="col" class="number" { "share" }
                        th scope="col" class="number" { "max/s" }
                    }
                }
                tbody {
                    @for (index, layer) in self.layers.iter().enumerate() {
                        @let most = steps.rates[index].iter().copied().fold(0.0, f64::max);
                        tr {
                            td { span class={ "swatch " (layer.class) } { (index + 1) } " " (layer.name) }
                            td class="number" { (text::count(layer.total)) }
                            td class="number" { (text::percent(layer.total as f64 / all as f64)) }
                            td class="number" { (text::rate(most)) }
                        }
                    }
                }
            }
        }
    }
}

/// The outline of a layer: along the steps above, and back along those below.
fn area(frame: &Frame, edges: &[f64], below: &[f64], above: &[f64]) -> String {
    let there = above.iter().zip(&edges[1..]);
    let back = below.iter().zip(edges).rev();
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
