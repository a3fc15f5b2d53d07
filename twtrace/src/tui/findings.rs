//! Findings: the list, and a page for one with all of its evidence and advice.

use crate::tui::filter::{self, Filter, Name, Row as _, Test};
use crate::tui::list::{self, List};
use crate::tui::model::{Entry, Outcome, What};
use crate::tui::ports;
use crate::tui::state::State;
use crate::tui::style::Theme;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph};
use std::net::IpAddr;
use twtrace_core::counts::Field;
use twtrace_core::finding::{Finding, Severity};
use twtrace_core::snapshot::{DestRow, Snapshot};
use twtrace_view::columns::{Column, Context};
use twtrace_view::findings as words;
use twtrace_view::focus::Focus;
use twtrace_view::report::markdown;
use twtrace_view::{failures, label, text};

/// The style of a finding in a list.
pub(super) fn style(finding: &Finding, look: Theme) -> Style {
    match finding.severity {
        _ if !finding.active => look.dim(),
        Severity::Critical => look.warning(),
        Severity::Warning => look.accent(),
        Severity::Info => Style::new(),
    }
}

fn column(title: &'static str, width: u16, rank: u8, cell: fn(&Context<'_>, &Finding) -> String) -> Column<Finding> {
    Column::left(title, width, rank, cell)
}

fn columns() -> Vec<Column<Finding>> {
    let mut columns = vec![
        column("SEVERITY", 8, 0, |_, finding| words::severity(finding.severity).to_owned()),
        column("NOW", 4, 5, |_, finding| if finding.active { "yes" } else { "over" }.to_owned()),
        column("FINDING", 22, 1, |_, finding| finding.rule.name().to_owned()),
        column("WHO", 14, 0, |at, finding| words::who(finding, Some(at.snapshot))),
        column("WHERE", 15, 3, |_, finding| words::place(finding)),
        column("WHAT", 12, 4, |_, finding| words::title(finding)),
    ];
    for index in [3, 4, 5] {
        columns[index].stretch = true;
    }
    columns
}

/// A finding, as a filter asks it.
struct Asked<'a> {
    finding: &'a Finding,
    snapshot: &'a Snapshot,
}

impl filter::Row for Asked<'_> {
    fn any(&self, passes: Test<'_>) -> bool {
        let Self { finding, snapshot } = *self;
        let texts = [words::subject(finding, Some(snapshot)), words::title(finding), words::state(finding)];
        passes(finding.rule.name()) || texts.iter().any(|text| passes(text))
    }

    fn is(&self, name: Name, passes: Test<'_>) -> bool {
        let Self { finding, snapshot } = *self;
        let has = |text: String| passes(&text);
        let (subject, place) = (finding.process.as_ref(), finding.destination.as_ref());
        match name {
            Name::Program => has(words::who(finding, Some(snapshot))),
            Name::Pid => subject.and_then(|one| one.process).is_some_and(|key| has(key.tgid.to_string())),
            Name::User => subject.is_some_and(|one| has(label::user(one.uid, snapshot))),
            Name::Parent => subject.is_some_and(|one| has(label::process(&one.parent_command, one.ppid))),
            Name::Dest => has(words::place(finding)),
            Name::Netns => place.is_some_and(|key| has(label::namespace(snapshot.summary(), key.netns))),
            Name::Cgroup | Name::Container | Name::Image | Name::Pod | Name::Workload => {
                let facts = subject.and_then(|one| one.process).and_then(|key| snapshot.facts(key));
                filter::runs_in(name, snapshot.runs_in(facts), passes)
            }
            Name::State => false,
        }
    }

    fn reaches(&self, passes: &dyn Fn(IpAddr, u16) -> bool) -> bool {
        let place = self.finding.destination.as_ref();
        place.is_some_and(|key| key.remote_addr.is_some_and(|addr| passes(addr, key.port)))
    }

    fn figure(&self, _: &Field) -> Option<f64> {
        None
    }
}

/// Passes each value of a kind in the findings to a function.
pub(super) fn values(snapshot: &Snapshot, name: Name, see: Test<'_>) {
    snapshot.findings().iter().for_each(|finding| _ = Asked { finding, snapshot }.is(name, see));
}

/// Draws all findings, and returns the title.
pub(super) fn all(
    frame: &mut Frame<'_>,
    area: Rect,
    context: &Context<'_>,
    snapshot: &Snapshot,
    state: &mut State,
) -> String {
    let filter = Filter::of(&state.filter);
    let mut rows = words::sorted(snapshot.findings());
    rows.retain(|finding| filter.fits(&Asked { finding, snapshot }));
    if state.reverse {
        rows.reverse();
    }
    let ids: Vec<u64> = rows.iter().map(|finding| words::id(finding)).collect();
    let (area, beside) = split(area);
    // The previous selection decides which one is shown; the list settles on it below.
    let chosen = state.place_in(&ids);
    if let (Some(beside), Some(finding)) = (beside, rows.get(chosen)) {
        let block = Block::new().borders(Borders::LEFT).border_style(state.look.dim());
        let lines = page(finding, snapshot, state.look, block.inner(beside).width);
        frame.render_widget(Paragraph::new(lines).block(block), beside);
    }
    let entries = ids.into_iter().map(Entry::flat).collect();
    let styles = rows.iter().map(|finding| style(finding, state.look)).collect();
    list::draw(frame, area, List { columns: columns(), rows: &rows, entries, order: None, styles }, context, state);
    if rows.is_empty() { words::NOTHING.to_owned() } else { "Enter: why  y: copy the command  e: export".to_owned() }
}

/// Narrowest screen that shows the list and the chosen finding beside it, in cells.
const WIDE: u16 = 120;

/// Divides an area into that of the list and that of the chosen finding.
fn split(area: Rect) -> (Rect, Option<Rect>) {
    if area.width < WIDE {
        return (area, None);
    }
    let width = area.width * 2 / 5;
    (Rect { width, ..area }, Some(Rect { x: area.x + width, width: area.width - width, ..area }))
}

/// The finding that is open, or chosen in the list of findings; on other tabs, the one that the header shows.
fn chosen<'a>(snapshot: &'a Snapshot, state: &State) -> Option<&'a Finding> {
    let of = match state.level().what {
        What::Finding(id) => Some(id),
        What::Findings => state.chosen(),
        _ => return Focus::of(snapshot).finding,
    };
    snapshot.findings().iter().find(|finding| Some(words::id(finding)) == of)
}

/// Copies the command of the first advice that has one.
pub(super) fn copy(snapshot: &Snapshot, state: &mut State) -> Outcome {
    let command = chosen(snapshot, state).and_then(|finding| finding.advice.iter().find_map(words::command));
    let Some(command) = command else {
        state.notice = Some("no command to copy".to_owned());
        return Outcome::Done;
    };
    state.notice = Some(format!("copied: {command}"));
    Outcome::Copy(command)
}

/// Exports it as Markdown.
pub(super) fn export(snapshot: &Snapshot, state: &mut State) -> Outcome {
    let Some(finding) = chosen(snapshot, state) else {
        state.notice = Some("no finding to export".to_owned());
        return Outcome::Done;
    };
    let mut text = Vec::new();
    // A vector takes everything.
    let _ = markdown::write_finding(finding, snapshot, &mut text);
    let window = &snapshot.summary().window;
    let time = text::file_time(failures::unix_ns(window, window.now_ns));
    let name = format!("twtrace-{}-{time}", finding.rule.name());
    Outcome::Export { name, text: String::from_utf8_lossy(&text).into_owned() }
}

/// A line in its style; text that is wider than the screen continues below with the same indentation.
struct Page {
    lines: Vec<Line<'static>>,
    width: usize,
}

impl Page {
    fn add(&mut self, indent: usize, text: &str, style: Style) {
        for line in text::wrap(text, self.width.saturating_sub(indent).max(8)) {
            self.lines.push(Line::from(Span::styled(format!("{}{line}", " ".repeat(indent)), style)));
        }
    }

    fn head(&mut self, text: &str, look: Theme) {
        self.lines.push(Line::raw(""));
        self.add(0, text, look.head());
    }
}

/// Cells of the bar beside a share.
const BAR: usize = 20;

/// The full text of one finding.
fn page(finding: &Finding, snapshot: &Snapshot, look: Theme, width: u16) -> Vec<Line<'static>> {
    let mut page = Page { lines: Vec::new(), width: width.into() };
    let plain = Style::new();
    page.add(0, &format!("{}  {}", words::state(finding), finding.rule.name()), style(finding, look));
    page.add(0, &words::subject(finding, Some(snapshot)), look.accent());
    page.add(0, &words::title(finding), plain);
    if let Some(party) = &finding.process {
        let (user, parent) = (label::user(party.uid, snapshot), label::process(&party.parent_command, party.ppid));
        page.add(0, &format!("user {user}, parent {parent}"), look.dim());
    }
    if let Some(cause) = finding.cause {
        page.add(0, &format!("because of {}", cause.name()), plain);
    }
    // What a user looks for first; below is why, and what else.
    if let Some(best) = finding.advice.first() {
        page.head("WHAT TO CHANGE", look);
        page.add(2, &words::advice(best), plain);
        if let Some(command) = words::command_line(best) {
            page.add(2, &command, look.accent());
        }
    }
    page.head("EVIDENCE", look);
    let evidence: Vec<(String, String)> = finding.evidence.iter().map(words::evidence).collect();
    let names = evidence.iter().map(|(name, _)| text::width(name)).max().unwrap_or(0);
    let shares = finding.evidence.iter().map(words::share);
    for ((name, value), share) in evidence.iter().zip(shares) {
        let bar = share.map_or_else(String::new, |share| format!("  {}", text::bar(share, BAR)));
        page.add(2, &format!("{}  {value}{bar}", text::pad(name, names, false)), plain);
    }
    let place = finding.destination.map(DestRow::Dest);
    let row = snapshot.destinations().iter().find(|row| Some(row.key) == place && row.budget.is_some());
    if let Some(row) = row {
        page.head("PORTS NOW", look);
        page.lines.extend(ports::lines(snapshot, row, width, look));
    }
    for (index, advice) in finding.advice.iter().enumerate() {
        page.head(&format!("ADVICE {}: {}", index + 1, advice.id), look);
        page.add(2, &words::advice(advice), plain);
        if let Some(command) = words::command_line(advice) {
            page.add(2, &command, look.accent());
        }
        let effects = words::effects(advice);
        if !effects.is_empty() {
            page.add(2, &format!("effect: {effects}"), plain);
        }
        page.add(2, &format!("risk: {}", text::clean(&advice.risk)), look.dim());
    }
    page.head("HOW SURE, AND HOW TO CHECK", look);
    page.add(2, &format!("confidence {}", words::confidence(finding.confidence)), plain);
    page.add(2, &text::clean(&finding.recheck), plain);
    page.lines
}

/// Draws one finding, and returns the title.
pub(super) fn one(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot, state: &mut State, of: u64) -> String {
    let found = snapshot.findings().iter().find(|finding| words::id(finding) == of);
    let lines = match found {
        Some(finding) => page(finding, snapshot, state.look, area.width),
        None => vec![Line::raw("This finding is gone. Esc goes back to the list.")],
    };
    let count = lines.len();
    let height = usize::from(area.height);
    // The last row says that there is more.
    let page = if count > height { height.saturating_sub(1) } else { height };
    let top = state.settle_text(count, page);
    let mut shown: Vec<Line<'_>> = lines.into_iter().skip(top).take(page).collect();
    if count > page {
        let place = format!("lines {} to {} of {count}: Up, Down", top + 1, (top + page).min(count));
        shown.push(Line::from(Span::styled(place, state.look.chosen())));
    }
    frame.render_widget(Paragraph::new(shown), area);
    String::new()
}

/// Name of a finding in the path to it.
pub(super) fn name(snapshot: &Snapshot, of: u64) -> String {
    let found = snapshot.findings().iter().find(|finding| words::id(finding) == of);
    found.map_or_else(|| "(gone)".to_owned(), |finding| finding.rule.name().to_owned())
}
