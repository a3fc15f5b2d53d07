//! The ports of a destination by state: a split bar, its legend, and the forecast.

use crate::tui::style::Theme;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use twtrace_core::failure::Call;
use twtrace_core::snapshot::{DestKey, DestRow, DestinationRow, Snapshot};
use twtrace_view::failures::{self, Failure};
use twtrace_view::ports::{self, Share};
use twtrace_view::{label, text};

/// Minimum rows for the list next to it, including its head.
const LIST: u16 = 8;

/// Maximum number of kinds of failures.
const FAILURES: usize = 4;

/// The style of a share in a bar.
pub(super) fn style(share: Share, look: Theme) -> Style {
    match share {
        Share::TimeWait => look.warning(),
        Share::Free => look.dim(),
        Share::Established | Share::Reusable => look.accent(),
        Share::Bound | Share::Other => Style::new(),
    }
}

/// The block for one destination in this many cells.
pub(super) fn lines(snapshot: &Snapshot, row: &DestinationRow, width: u16, look: Theme) -> Vec<Line<'static>> {
    let name = label::destination(&row.key, row.folded);
    let Some(budget) = &row.budget else {
        let latency = ports::latency(row);
        let latency = if latency.is_empty() { latency } else { format!("  {latency}") };
        return vec![Line::from(vec![
            Span::styled(format!("{name}  "), look.accent()),
            Span::raw(format!("{}{latency}", ports::without(row))),
        ])];
    };
    let width = usize::from(width);
    let bar = ports::cells(budget, width.saturating_sub(2));
    let bar = bar
        .into_iter()
        .map(|(share, cells)| Span::styled(share.letter().to_string().repeat(cells), style(share, look)));
    let bar = std::iter::once(Span::raw("[")).chain(bar).chain([Span::raw("]")]);
    let legend = |(share, ports): (Share, u32)| {
        let text = format!("{} {} {}  ", share.letter(), share.name(), text::count(ports.into()));
        Span::styled(text, style(share, look))
    };
    let mut last = ports::forecast(budget);
    let latency = ports::latency(row);
    if !latency.is_empty() {
        last.push_str(&format!("; {latency}"));
    }
    let holders = ports::holders(&snapshot.port_holders(row), snapshot);
    let holders =
        (!holders.is_empty()).then(|| Line::from(text::fit(&format!("held by {holders}"), width).into_owned()));
    let mut lines = vec![
        Line::from(vec![Span::styled(format!("{name}  "), look.accent()), Span::raw(ports::rates(budget))]),
        Line::from(bar.collect::<Vec<_>>()),
        Line::from(ports::shares(budget).into_iter().map(legend).collect::<Vec<_>>()),
        Line::from(Span::styled(
            last,
            if budget.seconds_to_exhaustion.is_some() { look.warning() } else { Style::new() },
        )),
    ];
    lines.extend(holders);
    lines
}

/// What failed for a destination, one line for each cause.
fn failed(all: &[Failure], row: &DestinationRow, look: Theme) -> Vec<Line<'static>> {
    let here = |failure: &&Failure| {
        let is_bind = failure.row.call == Call::Bind;
        // Binds have one row together, whatever their ports were.
        let place = failure.row.destination.map(|key| DestKey { port: if is_bind { 0 } else { key.port }, ..key });
        place.map(DestRow::Dest) == Some(row.key)
    };
    let line = |failure: &Failure| {
        let (count, who) = (text::count(failure.row.count), failure.who());
        let verdict = match failure.verdict() {
            "" => String::new(),
            verdict => format!("{verdict}: "),
        };
        let text =
            format!("failed {count}x {} by {who}: {verdict}{}", failure.call(), failures::cause(failure.row.cause));
        Line::from(Span::styled(text, look.warning()))
    };
    all.iter().filter(here).take(FAILURES).map(line).collect()
}

/// Draws the block of a destination below the list, as many lines as leave room for it, and returns the remaining area.
pub(super) fn below(
    frame: &mut Frame<'_>,
    area: Rect,
    snapshot: &Snapshot,
    row: Option<&DestinationRow>,
    look: Theme,
) -> Rect {
    let Some(row) = row else { return area };
    let mut lines = lines(snapshot, row, area.width, look);
    lines.extend(failed(&failures::of(snapshot), row, look));
    // Half a block would be misleading; its first line is clear by itself.
    lines.truncate(area.height.saturating_sub(LIST).into());
    let height = lines.len() as u16;
    let rest = Rect { height: area.height - height, ..area };
    frame.render_widget(Paragraph::new(lines), Rect { y: rest.y + rest.height, height, ..area });
    rest
}
