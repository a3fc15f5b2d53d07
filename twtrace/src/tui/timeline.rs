//! The line of a recording that is played: position, speed, and what is before and after.

use crate::tui::playback::{Churn, Playback};
use crate::tui::style::Theme;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use std::time::Duration;
use twtrace_view::text;

/// Eighths of a cell, lowest first.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Narrowest screen that shows the date, in cells.
const WIDE: u16 = 100;

/// The line for this many cells, with the figures at `now_ns`.
pub(super) fn line(playback: &Playback, now_ns: u64, look: Theme, width: u16) -> Line<'static> {
    let since = |at_ns: u64| text::duration(Duration::from_nanos(at_ns.saturating_sub(playback.start_ns)));
    let time = text::rfc3339(playback.unix_ns(now_ns));
    // The user who opened the recording knows the date.
    let time = if width < WIDE { time.get(11..19).unwrap_or(&time).to_owned() } else { time };
    let state = match (now_ns < playback.target_ns(), playback.is_playing()) {
        (true, _) => "...",
        (false, true) => " > ",
        (false, false) => " ||",
    };
    let mut spans = vec![
        Span::styled(format!("{state} {time}"), look.accent()),
        Span::raw(format!("  {} of {}  {}x  ", since(now_ns), since(playback.end_ns), playback.speed())),
    ];
    if !playback.warnings.is_empty() {
        spans.push(Span::styled(
            format!("! {}  ", text::counted(playback.warnings.len(), "warning", "warnings")),
            look.warning(),
        ));
    }
    let used: usize = spans.iter().map(|span| text::width(&span.content)).sum();
    spans.extend(track(playback, now_ns, look, usize::from(width).saturating_sub(used)));
    Line::from(spans)
}

/// The whole recording in this many cells: its churn as bars, peaks as triangles, findings as exclamation marks,
/// the current position reversed.
fn track(playback: &Playback, now_ns: u64, look: Theme, cells: usize) -> Vec<Span<'static>> {
    let length = u128::from(playback.end_ns.saturating_sub(playback.start_ns).max(1));
    let since = u128::from(now_ns.saturating_sub(playback.start_ns)).min(length);
    let here = (since * (cells as u128).saturating_sub(1) / length) as usize;
    let mut letters = letters(playback, cells);
    for mark in &playback.marks {
        let since = u128::from(mark.at_ns.saturating_sub(playback.start_ns)).min(length);
        let cell = (since * (cells as u128).saturating_sub(1) / length) as usize;
        letters.get_mut(cell).into_iter().for_each(|letter| *letter = FINDING);
    }
    let span = |letter: char, style: Style| Span::styled(letter.to_string(), style);
    let styled = letters.into_iter().enumerate().map(|(cell, letter)| match (cell.cmp(&here), letter) {
        (std::cmp::Ordering::Equal, letter) => span(letter, look.chosen()),
        (_, PEAK | FINDING) => span(letter, look.warning()),
        (std::cmp::Ordering::Less, letter) => span(letter, look.accent()),
        (std::cmp::Ordering::Greater, letter) => span(letter, look.dim()),
    });
    styled.collect()
}

/// A peak.
const PEAK: char = '▲';

/// The beginning of a finding.
const FINDING: char = '!';

fn letters(playback: &Playback, cells: usize) -> Vec<char> {
    let Some(Churn { created, bucket_ns, peaks }) = &playback.churn else { return vec!['─'; cells] };
    // Buckets may reach slightly beyond the end, or end before it.
    let length = playback.end_ns.saturating_sub(playback.start_ns).div_ceil((*bucket_ns).max(1)).max(1);
    let length = usize::try_from(length).unwrap_or(usize::MAX).min(created.len().max(1));
    let range = |cell: usize| {
        let (from, to) = (cell * length / cells.max(1), (cell + 1) * length / cells.max(1));
        from..to.max(from + 1)
    };
    let highest = created.iter().copied().max().unwrap_or(0);
    let letter = |cell: usize| {
        if peaks.iter().any(|peak| peak * cells / length == cell) {
            return PEAK;
        }
        let buckets = range(cell);
        let most = created.iter().take(buckets.end).skip(buckets.start).copied().max().unwrap_or(0);
        bar(most, highest)
    };
    (0..cells).map(letter).collect()
}

/// A figure as a bar; the highest figure is a full bar.
fn bar(figure: u64, highest: u64) -> char {
    // The quotient is at most 7.
    BARS[(u128::from(figure.min(highest)) * 7 / u128::from(highest.max(1))) as usize]
}
