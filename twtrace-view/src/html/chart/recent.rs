//! The last minutes as lines: all programs together, and those that matter most.

use super::frame::{Frame, block, round_up, unit};
use super::panel;
use crate::text;
use crate::trend::{Figures, Moment, Trend};
use maud::{Markup, html};
use std::fmt::Write as _;

/// Programs with a line of their own.
const PROGRAMS: usize = 4;
/// Their colours.
const CLASSES: [&str; PROGRAMS] = ["c1", "c2", "c3", "c4"];

/// What a chart shows.
struct Shown {
    title: &'static str,
    figure: fn(&Figures) -> f64,
    text: fn(f64) -> String,
}

const SHOWN: [Shown; 2] = [
    Shown { title: "TIME_WAIT sockets created per second", figure: |of| of.created_per_s, text: text::rate },
    Shown { title: "TIME_WAIT sockets alive", figure: |of| of.live, text: |live| text::count(live as u64) },
];

/// The charts, up to the newest moment. `unix_ns` is the wall clock of that moment.
pub(crate) fn charts(trend: &Trend, unix_ns: i128) -> Markup {
    let moments: Vec<&Moment> = trend.moments().collect();
    html! {
        @if moments.len() > 1 {
            div class="charts" { @for (number, shown) in SHOWN.iter().enumerate() { (chart(trend, &moments, shown, number, unix_ns)) } }
        }
    }
}

fn chart(trend: &Trend, moments: &[&Moment], shown: &Shown, number: usize, unix_ns: i128) -> Markup {
    let (Some(first), Some(last)) = (moments.first(), moments.last()) else { return html! {} };
    let seconds = |moment: &Moment| moment.at_ns.saturating_sub(first.at_ns) as f64 / 1e9;
    let highest = moments.iter().map(|moment| (shown.figure)(&moment.all)).fold(0.0, f64::max);
    let frame = Frame { height: 230.0, x: (0.0, seconds(last)), y: round_up(highest) };
    let programs = Trend::programs(moments, PROGRAMS);
    let start = unix_ns - i128::from(last.at_ns.saturating_sub(first.at_ns));
    let line = |figure: &dyn Fn(&Moment) -> Option<f64>| {
        let mut path = String::new();
        let mut pen = 'M';
        for moment in moments {
            let Some(value) = figure(moment) else {
                // Where a figure is not kept, the line has a gap.
                pen = 'M';
                continue;
            };
            let _ = write!(path, "{pen}{} {}", unit(frame.x(seconds(moment))), unit(frame.y(value)));
            pen = 'L';
        }
        path
    };
    let says = |moment: &Moment| {
        let at = start + i128::from(moment.at_ns.saturating_sub(first.at_ns));
        let mut says = format!("{} UTC: {}", text::time_of_day(at), (shown.text)((shown.figure)(&moment.all)));
        for id in &programs {
            if let Some(figures) = moment.of(*id) {
                let _ = write!(says, "\n{} {}", (shown.text)((shown.figure)(figures)), trend.name(*id));
            }
        }
        says
    };
    let now = |id: &u64| last.of(*id).map_or(0.0, shown.figure);
    let all = (shown.text)((shown.figure)(&last.all));
    let plot = html! {
        (frame.rules())
        @for (id, class) in programs.iter().zip(CLASSES) {
            path class={ "trend " (class) } d=(line(&|moment| moment.of(*id).map(shown.figure))) {}
        }
        path class="kernel" d=(line(&|moment| Some((shown.figure)(&moment.all)))) {}
        @for pair in moments.windows(2) {
            (block("hover", (frame.x(seconds(pair[0])), frame.x(seconds(pair[1]))), frame.down(), &says(pair[1])))
        }
        (frame.times(start))
    };
    let about = format!("now {all}, at most {} in {}", (shown.text)(highest), text::seconds(seconds(last)));
    let legend = html! {
        ul class="legend" {
            li { span class="line kernel" {} " all " (all) }
            @for (id, class) in programs.iter().zip(CLASSES) {
                li { span class={ "swatch " (class) } {} " " (trend.name(*id)) " " ((shown.text)(now(id))) }
            }
        }
    };
    panel(shown.title, &about, &frame.svg(&format!("recent{number}"), "time", shown.title, &about, &plot), &legend)
}
