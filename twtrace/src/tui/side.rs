//! What is known of the selected row, beside the list where a screen is wide enough.

use crate::tui::findings;
use crate::tui::style::Theme;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph};
use std::cmp::Reverse;
use twtrace_core::finding::{Finding, Subject};
use twtrace_core::snapshot::{GroupBy, GroupKey, Row, Snapshot};
use twtrace_view::{findings as words, label, text};

/// Narrowest screen with a panel, in cells.
const LEAST: u16 = 160;

/// Its width, in cells.
const WIDTH: u16 = 62;

/// Destinations that it lists.
const DESTINATIONS: usize = 8;

/// Findings that it lists.
const FINDINGS: usize = 4;

/// Divides an area into that of the list and that of the panel, if there is room for one.
pub(super) fn split(area: Rect) -> (Rect, Option<Rect>) {
    if area.width < LEAST {
        return (area, None);
    }
    let width = area.width - WIDTH;
    (Rect { width, ..area }, Some(Rect { x: area.x + width, width: WIDTH, ..area }))
}

/// Draws the panel of a row.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot, by: GroupBy, row: &Row, look: Theme) {
    let block = Block::new().borders(Borders::LEFT).border_style(look.dim());
    let inside = block.inner(area);
    let width = usize::from(inside.width.saturating_sub(1));
    let mut lines = Vec::new();
    let mut add = |indent: &str, text: &str, style: Style| {
        let room = width.saturating_sub(text::width(indent)).max(8);
        let wrapped = text::wrap(text, room).into_iter();
        lines.extend(wrapped.map(|line| Line::from(Span::styled(format!(" {indent}{line}"), style))));
    };
    let name = label::group(row, snapshot);
    match (&row.key, row.processes) {
        (GroupKey::Process(key), _) => add("", &format!("{name}[{}]", key.tgid), look.accent()),
        (_, 0 | 1) => add("", &name, look.accent()),
        (_, many) => add("", &format!("{name}, {} processes", text::count(many)), look.accent()),
    }
    if let Some(owner) = &row.owner {
        let (user, parent) = (label::user(owner.uid, snapshot), label::parent(owner));
        add("", &format!("user {user}, started by {parent}"), look.dim());
    }
    let line = label::command_line(row, snapshot);
    if !line.is_empty() {
        add("", &line, Style::new());
    }
    let quantile = |share: f64| row.counts.lifetimes.quantile(share).map(|us| text::seconds(us as f64 / 1e6));
    if let (Some(p50), Some(p90), Some(p99)) = (quantile(0.5), quantile(0.9), quantile(0.99)) {
        add("", &format!("connections last {p50} (p90 {p90}, p99 {p99})"), Style::new());
    }

    add("", "", Style::new());
    let mut destinations = snapshot.destinations_of(by, row);
    destinations.sort_unstable_by_key(|(row, share)| (Reverse((share.time_wait_created, share.connections)), row.id));
    let more = destinations.len().saturating_sub(DESTINATIONS);
    add("", "DESTINATIONS, with TIME_WAIT sockets created and live", look.head());
    for (row, share) in destinations.iter().take(DESTINATIONS) {
        let (created, live) = (text::count(share.time_wait_created), text::count(share.time_wait_live));
        let used = row
            .budget
            .map_or_else(String::new, |budget| format!(", {} of its ports used", text::percent(budget.utilization)));
        add("  ", &format!("{}  {created}, {live}{used}", label::destination(&row.key, row.folded)), Style::new());
    }
    if more > 0 {
        add("  ", &format!("and {} more", text::count(more as u64)), look.dim());
    }

    let mut found: Vec<&Finding> = words::sorted(snapshot.findings());
    found.retain(|finding| finding.process.is_some_and(|subject| is_of(&subject, snapshot, by, row)));
    if !found.is_empty() {
        add("", "", Style::new());
        add("", "FINDINGS", look.head());
    }
    for finding in found.iter().take(FINDINGS) {
        let place = words::place(finding);
        let text = format!("{} {}: {place} {}", words::state(finding), finding.rule.name(), words::title(finding));
        add("  ", &text, findings::style(finding, look));
        if let Some(advice) = finding.advice.first() {
            add("    ", &words::advice(advice), Style::new());
        }
    }
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

/// Whether a finding names a process of this row.
fn is_of(subject: &Subject, snapshot: &Snapshot, by: GroupBy, row: &Row) -> bool {
    let is_it = |row: &Row| match (&row.key, subject.process) {
        (GroupKey::Process(key), Some(process)) => *key == process,
        // Of several, the row of one-shot processes, or one of them.
        _ => {
            subject.process.is_none()
                && row.owner.is_some_and(|owner| owner.comm == subject.command && owner.ppid == subject.ppid)
        }
    };
    is_it(row) || !by.is_of_processes() && snapshot.members_of(by, row).any(is_it)
}
