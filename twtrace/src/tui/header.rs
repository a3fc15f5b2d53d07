//! The lines at the top: the host, its figures, and what the trace could not see.

use crate::tui::findings;
use crate::tui::state::State;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use twtrace_core::snapshot::Snapshot;
use twtrace_view::{text, words};

/// Eighths of a cell, lowest first.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Narrowest screen with a sparkline, in cells.
const WIDE: u16 = 70;

/// Lowest screen that names the most severe finding, in cells.
const LOW: u16 = 16;

/// A figure as a bar; the highest figure is a full bar.
pub(super) fn bar(figure: u64, highest: u64) -> char {
    // The quotient is at most 7.
    BARS[(u128::from(figure.min(highest)) * 7 / u128::from(highest.max(1))) as usize]
}

/// The newest figures as bars; the highest of them is a full bar.
fn sparkline(history: &[u64], cells: usize) -> String {
    let newest = &history[history.len().saturating_sub(cells)..];
    let highest = newest.iter().copied().max().unwrap_or(0);
    newest.iter().map(|figure| bar(*figure, highest)).collect()
}

/// A line that shows where it was cut.
fn fitted(spans: Vec<Span<'static>>, width: u16) -> Line<'static> {
    let mut room = usize::from(width);
    let fit = |span: Span<'static>| {
        let text = text::fit(&span.content, room).into_owned();
        room = room.saturating_sub(text::width(&text));
        Span::styled(text, span.style)
    };
    Line::from(spans.into_iter().map(fit).collect::<Vec<_>>())
}

/// Every reason why the figures are incomplete: what is missing from a recording, and what the trace itself missed.
pub(super) fn warnings(snapshot: &Snapshot, state: &State) -> Vec<String> {
    let of_recording = state.playback.iter().flat_map(|playback| playback.warnings.iter().cloned());
    of_recording.chain(words::warnings(snapshot.summary())).collect()
}

/// The header's lines for a screen of this size.
pub(super) fn lines(snapshot: &Snapshot, state: &State, area: Rect) -> Vec<Line<'static>> {
    let width = area.width;
    let summary = snapshot.summary();
    let look = state.look;
    let mut first = vec![
        Span::styled("twtrace", look.accent()),
        Span::raw(format!("  {}  kernel {}", text::clean(&summary.host.hostname), text::clean(&summary.host.kernel))),
        Span::raw(format!(
            "  tier {}  traced {}",
            words::tier(summary.tracing.tier),
            text::seconds(summary.window.seconds())
        )),
    ];
    if let Some(playback) = &state.playback {
        first.insert(1, Span::styled(" RECORDING ", look.chosen()));
        first.insert(2, Span::styled(format!(" {}", text::clean(&playback.name)), look.accent()));
    } else if state.frozen {
        first.insert(1, Span::styled(" FROZEN ", look.chosen()));
    }
    let count = text::count(summary.time_wait());
    let totals = &summary.totals.counts;
    let ((most, limit, place), namespaces) = words::fullest(summary);
    let limit = match namespaces {
        0 | 1 => format!("max {}", text::count(limit)),
        _ => format!("{} of max {} in {place}", text::count(most), text::count(limit)),
    };
    let mut second = vec![Span::raw("TIME_WAIT "), Span::styled(count, look.accent())];
    if width >= WIDE {
        let cells = usize::from(width / 4);
        second.push(Span::raw(format!(" {}", sparkline(&summary.time_wait_history, cells))));
    }
    second.push(Span::raw(format!(
        "  created {} ({}/s)  {limit}",
        text::count(totals.time_wait_created),
        text::rate(totals.created_per_s),
    )));
    let ends = words::ends(totals);
    if width >= WIDE && !ends.is_empty() {
        second.push(Span::raw(format!("  {ends}")));
    }
    let lost = !words::lost(&summary.counters).is_empty();
    let coverage = words::coverage(summary);
    let third = vec![
        Span::raw(format!("{coverage}  ")),
        Span::styled(words::losses(&summary.counters), if lost { look.warning() } else { look.dim() }),
    ];
    let fourth = format!("ports {}", words::ports(snapshot));
    let mut lines: Vec<Line<'static>> =
        [first, second, third, vec![Span::raw(fourth)]].into_iter().map(|spans| fitted(spans, width)).collect();
    let warnings = warnings(snapshot, state);
    if let Some(warning) = warnings.first() {
        let more =
            if warnings.len() > 1 { format!(" (and {} more: press ?)", warnings.len() - 1) } else { String::new() };
        let room = usize::from(width).saturating_sub(text::width(&more) + 2);
        let warning = format!("! {}{more}", text::fit(warning, room));
        lines.push(Line::from(Span::styled(warning, look.warning())));
    }
    // On a low screen the rows are more important; the tab has the number of findings.
    if area.height >= LOW {
        lines.extend(findings::headline(snapshot.findings(), look, width));
    }
    lines
}

/// Draws the header.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, lines: Vec<Line<'static>>) {
    frame.render_widget(Paragraph::new(lines), area);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparklines_scale_to_their_highest() {
        assert_eq!(sparkline(&[], 4), "");
        assert_eq!(sparkline(&[0, 0], 4), "▁▁");
        assert_eq!(sparkline(&[9, 0, 7, 14], 3), "▁▄█");
        assert_eq!(sparkline(&[u64::MAX, u64::MAX / 2], 3), "█▄");
    }
}
