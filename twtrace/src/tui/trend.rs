//! The last minutes as a chart.

use crate::tui::style::Theme;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::canvas::{Canvas, Line as Stroke};
use std::time::Duration;
use twtrace_view::text;
use twtrace_view::trend::{Figures, Moment, Trend};

/// Programs that have a line of their own.
const LINES: usize = 3;

/// Narrowest chart with its peak and its length in the legend, in cells.
const WIDE: u16 = 60;

/// Shortest time that the width of a chart stands for.
const LEAST: Duration = Duration::from_secs(60);

/// Rows of the chart on a screen of this height, with its legend; 0 where the list needs them.
pub(super) fn height(screen: u16) -> u16 {
    match screen {
        ..22 => 0,
        22..30 => 5,
        30..50 => 8,
        _ => 12,
    }
}

/// Draws the chart of what was known at `until_ns`: rates on the left, live sockets on the right, with the same colours.
pub(super) fn draw(trend: &Trend, frame: &mut Frame<'_>, area: Rect, until_ns: u64, look: Theme) {
    let shown: Vec<&Moment> = trend.moments().filter(|moment| moment.at_ns <= until_ns).collect();
    let programs = Trend::programs(&shown, LINES);
    let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).spacing(2).areas(area);
    let chart = Chart { shown: &shown, programs: &programs, trend, look };
    let rate = Shown { name: "created/s", figure: |figures| figures.created_per_s, text: text::rate };
    // A whole number.
    let live = Shown { name: "live", figure: |figures| figures.live, text: |live| text::count(live as u64) };
    chart.draw(frame, left, &rate);
    chart.draw(frame, right, &live);
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
    trend: &'a Trend,
    look: Theme,
}

impl Chart<'_> {
    fn draw(&self, frame: &mut Frame<'_>, area: Rect, what: &Shown) {
        let Self { shown, programs, trend, look } = *self;
        let Shown { name, figure, text } = *what;
        let (Some(first), Some(last)) = (shown.first(), shown.last()) else { return };
        let highest = shown.iter().map(|moment| figure(&moment.all)).fold(0.0, f64::max);
        let top = highest.max(1.0);
        let of = |moment: &Moment, id: u64| moment.of(id).map(figure);

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
            let now = text(of(last, *id).unwrap_or(0.0));
            Span::styled(format!("  {} {now}", text::fit(trend.name(*id), 16)), look.line(rank))
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
            let colour = style.fg.or(look.base().fg).unwrap_or_default();
            let stroke = |pair: &[&Moment]| {
                Some(Stroke::new(x(pair[0]), figure(pair[0])?, x(pair[1]), figure(pair[1])?, colour))
            };
            shown.windows(2).filter_map(stroke).collect()
        };
        // Without colours, the lines of programs look alike.
        let lines = if look.is_coloured() { programs } else { &[] };
        let background = look.base().bg.unwrap_or_default();
        let canvas = Canvas::default()
            .background_color(background)
            .marker(Marker::Braille)
            .x_bounds([0.0, cells])
            .y_bounds([0.0, top])
            .paint(|context| {
                strokes(&|moment| Some(figure(&moment.all)), look.dim()).iter().for_each(|stroke| context.draw(stroke));
                for (rank, id) in lines.iter().enumerate() {
                    context.layer();
                    strokes(&|moment| of(moment, *id), look.line(rank)).iter().for_each(|stroke| context.draw(stroke));
                }
            });
        frame.render_widget(canvas, body);
        let start = format!("{} ago", text::duration(span.max(LEAST)));
        let place = Rect { y: body.bottom().saturating_sub(1), height: 1, width: text::width(&start) as u16, ..body };
        if is_blank(frame, place.intersection(body)) {
            frame.render_widget(Span::styled(start, look.dim()), place.intersection(body));
        }
    }
}

/// Whether nothing is drawn there.
fn is_blank(frame: &mut Frame<'_>, place: Rect) -> bool {
    let buffer = frame.buffer_mut();
    place.positions().all(|at| matches!(buffer[at].symbol(), " " | "\u{2800}"))
}
