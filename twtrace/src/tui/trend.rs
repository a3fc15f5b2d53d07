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
use twtrace_core::snapshot::{GroupBy, Row, Snapshot};
use twtrace_view::{label, text};

/// Moments kept: five minutes of an interval of a second. When full, the oldest one is dropped.
const MOMENTS: usize = 300;

/// Programs kept of a moment: those that created most since the one before, and those with the most live sockets.
const PROGRAMS: usize = 8;

/// Programs that have a line of their own.
const LINES: usize = 3;

/// Narrowest chart with its peak and its length in the legend, in cells.
const WIDE: u16 = 60;

/// Shortest time that the width of a chart stands for.
const LEAST: Duration = Duration::from_secs(60);

/// A jump in a recording, or a pause of the host, begins a new chart.
const GAP_NS: u64 = 60_000_000_000;

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
    /// Sockets created until the last moment: all, and by the program's row.
    created: (u64, HashMap<u64, u64>),
}

impl Trend {
    /// Adds a snapshot, if it is newer than the last one. An older one begins a new chart.
    pub fn add(&mut self, snapshot: &Snapshot) {
        let summary = snapshot.summary();
        let at_ns = summary.window.now_ns;
        let rows = snapshot.rows(GroupBy::Program);
        let last_ns = self.moments.back().map(|moment| moment.at_ns);
        if last_ns.is_some_and(|last| at_ns < last || at_ns - last > GAP_NS) {
            *self = Self::default();
        }
        let last_ns = self.moments.back().map(|moment| moment.at_ns);
        if last_ns == Some(at_ns) {
            return;
        }
        let (before, by_row) = std::mem::take(&mut self.created);
        if let Some(last_ns) = last_ns {
            let seconds = (at_ns - last_ns) as f64 / 1e9;
            let figures = |created: u64, before: u64, live: u64| Figures {
                created_per_s: created.saturating_sub(before) as f64 / seconds,
                live: live as f64,
            };
            let counts = &summary.totals.counts;
            let all = figures(counts.time_wait_created, before, counts.time_wait_live);
            let of = |row: &Row| {
                let before = by_row.get(&row.id).copied().unwrap_or(0);
                (row.id, figures(row.counts.time_wait_created, before, row.counts.time_wait_live))
            };
            let mut programs: Vec<(u64, Figures)> = rows.iter().map(of).collect();
            programs.retain(|(_, figures)| *figures != Figures::default());
            programs.sort_unstable_by(|(id, one), (other_id, other)| {
                let size = |figures: &Figures| figures.created_per_s * 60.0 + figures.live;
                size(other).total_cmp(&size(one)).then(id.cmp(other_id))
            });
            programs.truncate(PROGRAMS);
            for (id, _) in &programs {
                let name = || rows.iter().find(|row| row.id == *id).map(|row| label::group(row, snapshot));
                self.names.entry(*id).or_insert_with(|| name().unwrap_or_default());
            }
            if self.moments.len() == MOMENTS {
                self.moments.pop_front();
                let moments = &self.moments;
                self.names.retain(|id, _| moments.iter().any(|moment| moment.programs.iter().any(|it| it.0 == *id)));
            }
            self.moments.push_back(Moment { at_ns, all, programs });
        } else {
            // Nothing to compare it with: the chart begins here.
            let live = summary.totals.counts.time_wait_live as f64;
            let all = Figures { created_per_s: 0.0, live };
            self.moments.push_back(Moment { at_ns, all, programs: Vec::new() });
        }
        let created = |row: &Row| (row.id, row.counts.time_wait_created);
        self.created = (summary.totals.counts.time_wait_created, rows.iter().map(created).collect());
    }

    /// How many moments it has.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.moments.len()
    }

    /// Draws the chart of what was known at `until_ns`: two halves where there is room, else the rate alone.
    pub(super) fn draw(&self, frame: &mut Frame<'_>, area: Rect, until_ns: u64, look: Theme) {
        let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).spacing(2).areas(area);
        self.half(frame, left, until_ns, look, "created/s", |figures| figures.created_per_s);
        self.half(frame, right, until_ns, look, "live", |figures| figures.live);
    }

    fn half(
        &self,
        frame: &mut Frame<'_>,
        area: Rect,
        until_ns: u64,
        look: Theme,
        what: &'static str,
        figure: fn(&Figures) -> f64,
    ) {
        let shown: Vec<&Moment> = self.moments.iter().filter(|moment| moment.at_ns <= until_ns).collect();
        let (Some(first), Some(last)) = (shown.first(), shown.last()) else { return };
        let highest = shown.iter().map(|moment| figure(&moment.all)).fold(0.0, f64::max);
        let top = highest.max(1.0);
        let mut programs: HashMap<u64, f64> = HashMap::new();
        for (id, figures) in shown.iter().flat_map(|moment| &moment.programs) {
            *programs.entry(*id).or_default() += figure(figures);
        }
        let mut programs: Vec<(u64, f64)> = programs.into_iter().filter(|(_, sum)| *sum > 0.0).collect();
        programs.sort_unstable_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
        programs.truncate(LINES);
        let of = |moment: &Moment, id: u64| {
            moment.programs.iter().find(|(other, _)| *other == id).map_or(0.0, |(_, figures)| figure(figures))
        };

        let [head, body] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
        let span = Duration::from_nanos(last.at_ns.saturating_sub(first.at_ns));
        let (now, peak) = (text::rate(figure(&last.all)), text::rate(highest));
        let title = if head.width < WIDE {
            format!("{what} {now}")
        } else {
            format!("{what} {now} (peak {peak} in {})", text::duration(span))
        };
        let mut legend = vec![Span::styled(title, look.accent())];
        legend.extend(programs.iter().enumerate().map(|(rank, (id, _))| {
            let name = self.names.get(id).map_or("", String::as_str);
            Span::styled(format!("  {} {}", text::fit(name, 16), text::rate(of(last, *id))), look.line(rank))
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
        let strokes = |figure: &dyn Fn(&Moment) -> f64, style: Style| -> Vec<Stroke> {
            let pairs = shown.windows(2);
            let colour = style.fg.unwrap_or_default();
            pairs.map(|pair| Stroke::new(x(pair[0]), figure(pair[0]), x(pair[1]), figure(pair[1]), colour)).collect()
        };
        let canvas =
            Canvas::default().marker(Marker::Braille).x_bounds([0.0, cells]).y_bounds([0.0, top]).paint(|context| {
                // Those with less are drawn over those with more.
                strokes(&|moment| figure(&moment.all), look.dim()).iter().for_each(|stroke| context.draw(stroke));
                for (rank, (id, _)) in programs.iter().enumerate() {
                    context.layer();
                    strokes(&|moment| of(moment, *id), look.line(rank)).iter().for_each(|stroke| context.draw(stroke));
                }
            });
        frame.render_widget(canvas, body);
    }
}
