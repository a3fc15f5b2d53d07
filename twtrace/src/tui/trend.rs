//! The last minutes as a chart: TIME_WAIT sockets created per second, and how many exist, by the programs that create most.

use crate::tui::style::Theme;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::canvas::{Canvas, Line as Stroke};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use twtrace_core::snapshot::{Counts, GroupBy, Row, Snapshot};
use twtrace_view::{label, text};

/// Moments kept: five minutes of an interval of a second. When full, the oldest one is dropped.
const MOMENTS: usize = 300;

/// Programs kept of a moment: those with the most sockets, live and created in a minute at this rate.
const PROGRAMS: usize = 8;

/// Programs that have a line of their own.
const LINES: usize = 3;

/// Narrowest chart with its peak and its length in the legend, in cells.
const WIDE: u16 = 60;

/// Shortest time that the width of a chart stands for.
const LEAST: Duration = Duration::from_secs(60);

/// A step of the figures that is that many times as long as the one before is a jump in a recording, or a pause of the
/// host: a new chart begins.
const JUMP: u64 = 10;

/// No step below that is a jump.
const NO_JUMP_NS: u64 = 60_000_000_000;

/// Rows of the chart on a screen of this height, with its legend; 0 where the list needs them.
pub(super) fn height(screen: u16) -> u16 {
    match screen {
        ..22 => 0,
        22..30 => 5,
        30..50 => 8,
        _ => 12,
    }
}

/// The figures of a program at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Figures {
    created_per_s: f64,
    live: f64,
}

impl Figures {
    fn size(&self) -> f64 {
        self.created_per_s * 60.0 + self.live
    }
}

/// One moment.
#[derive(Clone, Debug)]
struct Moment {
    at_ns: u64,
    all: Figures,
    /// By the program's row.
    programs: Vec<(u64, Figures)>,
}

/// What the last snapshots said.
#[derive(Clone, Debug, Default)]
pub struct Trend {
    moments: VecDeque<Moment>,
    names: HashMap<u64, String>,
    /// How long the last step was, nanoseconds.
    step_ns: u64,
}

impl Trend {
    /// Adds a snapshot, if it is newer than the last one. An older one begins a new chart.
    pub fn add(&mut self, snapshot: &Snapshot) {
        let summary = snapshot.summary();
        let at_ns = summary.window.now_ns;
        if let Some(last_ns) = self.moments.back().map(|moment| moment.at_ns) {
            let step_ns = at_ns.saturating_sub(last_ns);
            if at_ns == last_ns || step_ns > 0 && step_ns < self.step_ns / 2 {
                // The same again, or one that a key asked for.
                return;
            }
            if at_ns < last_ns || step_ns > NO_JUMP_NS.max(self.step_ns.saturating_mul(JUMP)) && self.step_ns > 0 {
                *self = Self::default();
            } else {
                self.step_ns = step_ns;
            }
        }
        // The same rate as in the list: over the last few seconds.
        let figures =
            |counts: &Counts| Figures { created_per_s: counts.created_per_s, live: counts.time_wait_live as f64 };
        let of = |row: &Row| (row.id, figures(&row.counts));
        let rows = snapshot.rows(GroupBy::Program);
        let mut programs: Vec<(u64, Figures)> = rows.iter().map(of).collect();
        programs.retain(|(_, figures)| *figures != Figures::default());
        programs.sort_unstable_by(|(id, one), (other_id, other)| {
            other.size().total_cmp(&one.size()).then(id.cmp(other_id))
        });
        programs.truncate(PROGRAMS);
        let name = |row: &Row| (row.id, label::group(row, snapshot));
        let is_kept = |row: &&Row| programs.iter().any(|(id, _)| *id == row.id);
        self.names.extend(rows.iter().filter(is_kept).map(name));
        if self.moments.len() == MOMENTS {
            self.moments.pop_front();
            let moments = &self.moments;
            self.names.retain(|id, _| moments.iter().any(|moment| moment.programs.iter().any(|it| it.0 == *id)));
        }
        self.moments.push_back(Moment { at_ns, all: figures(&summary.totals.counts), programs });
    }

    /// How many moments it has.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.moments.len()
    }

    /// Draws the chart of what was known at `until_ns`: rates on the left, live sockets on the right, with the same colours.
    pub(super) fn draw(&self, frame: &mut Frame<'_>, area: Rect, until_ns: u64, look: Theme) {
        let shown: Vec<&Moment> = self.moments.iter().filter(|moment| moment.at_ns <= until_ns).collect();
        let mut sums: HashMap<u64, f64> = HashMap::new();
        for (id, figures) in shown.iter().flat_map(|moment| &moment.programs) {
            *sums.entry(*id).or_default() += figures.size();
        }
        let mut programs: Vec<(u64, f64)> = sums.into_iter().collect();
        programs.sort_unstable_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
        programs.truncate(LINES);
        let programs: Vec<u64> = programs.into_iter().map(|(id, _)| id).collect();
        let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).spacing(2).areas(area);
        let chart = Chart { shown: &shown, programs: &programs, names: &self.names, look };
        let rate = Shown { name: "created/s", figure: |figures| figures.created_per_s, text: text::rate };
        // A whole number.
        let live = Shown { name: "live", figure: |figures| figures.live, text: |live| text::count(live as u64) };
        chart.draw(frame, left, &rate);
        chart.draw(frame, right, &live);
    }
}

/// What one half of the chart is about.
struct Shown {
    name: &'static str,
    figure: fn(&Figures) -> f64,
    text: fn(f64) -> String,
}

/// One half of the chart.
struct Chart<'a> {
    shown: &'a [&'a Moment],
    /// Those with a line of their own.
    programs: &'a [u64],
    names: &'a HashMap<u64, String>,
    look: Theme,
}

impl Chart<'_> {
    fn draw(&self, frame: &mut Frame<'_>, area: Rect, what: &Shown) {
        let Self { shown, programs, names, look } = *self;
        let Shown { name, figure, text } = *what;
        let (Some(first), Some(last)) = (shown.first(), shown.last()) else { return };
        let highest = shown.iter().map(|moment| figure(&moment.all)).fold(0.0, f64::max);
        let top = highest.max(1.0);
        let of = |moment: &Moment, id: u64| {
            moment.programs.iter().find(|(other, _)| *other == id).map(|(_, figures)| figure(figures))
        };

        let [head, body] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
        let span = Duration::from_nanos(last.at_ns.saturating_sub(first.at_ns));
        let (now, peak) = (text(figure(&last.all)), text(highest));
        let title = if head.width < WIDE {
            format!("{name} {now}")
        } else {
            format!("{name} {now} (peak {peak} in {})", text::duration(span))
        };
        let mut legend = vec![Span::styled(title, look.accent())];
        legend.extend(programs.iter().enumerate().map(|(rank, id)| {
            let name = names.get(id).map_or("", String::as_str);
            let now = text(of(last, *id).unwrap_or(0.0));
            Span::styled(format!("  {} {now}", text::fit(name, 16)), look.line(rank))
        }));
        // A name that is cut off is worse than none.
        while legend.len() > 1
            && legend.iter().map(|span| text::width(&span.content)).sum::<usize>() > head.width.into()
        {
            legend.pop();
        }
        frame.render_widget(Line::from(legend), head);

        // The newest moment is at the right edge; a young chart grows from there.
        let cells = f64::from(body.width.max(2));
        let width_ns = span.max(LEAST).as_nanos() as f64;
        let x = |moment: &Moment| cells - (last.at_ns - moment.at_ns) as f64 / width_ns * cells;
        // Where a figure is not kept, the line has a gap.
        let strokes = |figure: &dyn Fn(&Moment) -> Option<f64>, style: Style| -> Vec<Stroke> {
            let colour = style.fg.unwrap_or_default();
            let stroke = |pair: &[&Moment]| {
                Some(Stroke::new(x(pair[0]), figure(pair[0])?, x(pair[1]), figure(pair[1])?, colour))
            };
            shown.windows(2).filter_map(stroke).collect()
        };
        // Without colours, the lines of programs look alike.
        let lines = if look.colour { programs } else { &[] };
        let canvas =
            Canvas::default().marker(Marker::Braille).x_bounds([0.0, cells]).y_bounds([0.0, top]).paint(|context| {
                strokes(&|moment| Some(figure(&moment.all)), look.dim()).iter().for_each(|stroke| context.draw(stroke));
                for (rank, id) in lines.iter().enumerate() {
                    context.layer();
                    strokes(&|moment| of(moment, *id), look.line(rank)).iter().for_each(|stroke| context.draw(stroke));
                }
            });
        frame.render_widget(canvas, body);
    }
}
