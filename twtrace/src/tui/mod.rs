//! The screen of `twtrace top` and `twtrace replay`: drawn from the snapshot and from the user's choices.

mod destinations;
mod filter;
mod findings;
mod header;
mod help;
mod list;
pub mod mouse;
pub mod playback;
mod ports;
mod processes;
pub(crate) mod screen;
mod side;
pub mod sockets;
pub mod state;
pub mod style;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_findings;
#[cfg(test)]
mod tests_trend;
mod timeline;
pub mod trend;

use crossterm::event::{KeyEvent, MouseEvent};
use playback::Playback;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use state::{Level, Outcome, Request, State, Tab, What};
use std::ops::Range;
use strum::VariantArray as _;
use twtrace_core::snapshot::{GroupBy, GroupKey, Snapshot};
use twtrace_view::columns::Context;
use twtrace_view::{label, text, words};

/// Minimum size of the screen, in cells.
const LEAST: (u16, u16) = (40, 10);

/// Draws one frame.
pub fn draw(frame: &mut Frame<'_>, snapshot: &Snapshot, state: &mut State) {
    draw_all(frame, snapshot, state);
    if state.look.ascii {
        style::to_ascii(frame.buffer_mut());
    }
}

fn draw_all(frame: &mut Frame<'_>, snapshot: &Snapshot, state: &mut State) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let needed = format!("twtrace needs {}x{} cells, this is {}x{}", LEAST.0, LEAST.1, area.width, area.height);
        let message = Paragraph::new(needed).wrap(ratatui::widgets::Wrap { trim: true });
        frame.render_widget(message, area);
        return;
    }
    let lines = header::lines(snapshot, state, area);
    let height = lines.len() as u16;
    let row = |y: u16, height: u16| Rect { y: area.y + y, height, ..area };
    header::draw(frame, row(0, height), lines);
    let summary = snapshot.summary();
    let context = Context { snapshot, live_mark: words::live_mark(summary) };
    // The tabs, the keys, and for a recording its line.
    let below = 1 + u16::from(state.playback.is_some());
    // Where a page of text or a list of sockets needs the room, it has it.
    let chart = if matches!(state.tab, Tab::Processes | Tab::Destinations) { trend::height(area.height) } else { 0 };
    if chart > 0 {
        state.trend.draw(frame, row(height, chart), summary.window.now_ns, state.look);
    }
    let height = height + chart;
    let body = row(height + 1, area.height - height - 1 - below);
    // The list that is drawn below says where it is.
    state.places.begin(area.y + height);
    let what = state.level().what.clone();
    let title = match &what {
        What::Groups => processes::groups(frame, body, &context, snapshot, state, None),
        What::Members(by, group) => processes::groups(frame, body, &context, snapshot, state, Some((*by, group))),
        What::ProcessesOf(id) => {
            let body = ports::above(frame, body, snapshot, state.look, *id);
            processes::of_destination(frame, body, &context, snapshot, state, *id)
        }
        What::Destinations => destinations::all(frame, body, &context, snapshot, state),
        What::DestinationsOf(by, key) => destinations::of_process(frame, body, &context, snapshot, state, (*by, key)),
        What::Sockets => sockets::draw(frame, body, &context, snapshot, state),
        What::Findings => findings::all(frame, body, &context, snapshot, state),
        What::Finding(id) => findings::one(frame, body, snapshot, state, *id),
    };
    let (line, names) = tabs(snapshot, state, &title, area.width);
    frame.render_widget(line, row(height, 1));
    state.places.names(names);
    if let Some(playback) = &state.playback {
        let line = timeline::line(playback, summary.window.now_ns, state.look, area.width);
        frame.render_widget(line, row(area.height - 2, 1));
    }
    frame.render_widget(footer(state, area.width), row(area.height - 1, 1));
    if state.help {
        help::draw(frame, area, snapshot, state);
    }
}

/// Acts on a key.
pub fn key(key: KeyEvent, snapshot: &Snapshot, state: &mut State) -> Outcome {
    let request = state.key(key);
    act(request, snapshot, state)
}

/// Acts on the mouse.
pub fn mouse(event: MouseEvent, snapshot: &Snapshot, state: &mut State) -> Outcome {
    let request = state.mouse(event);
    act(request, snapshot, state)
}

fn act(request: Request, snapshot: &Snapshot, state: &mut State) -> Outcome {
    match request {
        Request::None => Outcome::Done,
        Request::Caller(outcome) => outcome,
        Request::Enter => {
            if let Some(what) = into(snapshot, state) {
                state.enter(what);
            }
            Outcome::Done
        }
        Request::Command => findings::copy(snapshot, state),
        Request::Markdown => findings::export(snapshot, state),
    }
}

/// What the selected row leads to.
fn into(snapshot: &Snapshot, state: &State) -> Option<What> {
    let chosen = state.chosen()?;
    let row = |by: GroupBy| snapshot.rows(by).iter().find(|row| row.id == chosen);
    match &state.level().what {
        What::Groups => {
            let row = row(state.by)?;
            let is_one = matches!(row.key, GroupKey::Process(_) | GroupKey::Unknown | GroupKey::Other);
            let into = if is_one { What::DestinationsOf } else { What::Members };
            Some(into(state.by, row.key.clone()))
        }
        What::Members(by, _) => Some(What::DestinationsOf(by.members(), row(by.members())?.key.clone())),
        What::ProcessesOf(_) => Some(What::DestinationsOf(GroupBy::Process, row(GroupBy::Process)?.key.clone())),
        What::Destinations | What::DestinationsOf(..) => u32::try_from(chosen).ok().map(What::ProcessesOf),
        What::Findings => Some(What::Finding(chosen)),
        What::Sockets | What::Finding(_) => None,
    }
}

/// Narrowest screen that has the names of all tabs, in cells.
const NAMES: u16 = 60;

/// The tabs, the path to the list on the screen, and its title; and the cells of each tab.
fn tabs(snapshot: &Snapshot, state: &State, title: &str, width: u16) -> (Line<'static>, Vec<Range<u16>>) {
    let mut spans = Vec::new();
    let mut places = Vec::new();
    let mut x = 0;
    for (index, &tab) in Tab::VARIANTS.iter().enumerate() {
        let name: &str = tab.into();
        let count = match snapshot.findings().len() {
            0 => String::new(),
            count if tab == Tab::Findings => format!(" ({count})"),
            _ => String::new(),
        };
        let number = index + 1;
        let name =
            if width < NAMES && tab != state.tab { number.to_string() } else { format!("{number}:{name}{count}") };
        let text = if tab == state.tab { format!("[{name}]") } else { format!(" {name} ") };
        let end = x + text.len() as u16;
        places.push(x..end);
        x = end;
        spans.push(if tab == state.tab { Span::styled(text, state.look.chosen()) } else { Span::raw(text) });
    }
    for level in &state.path()[1..] {
        spans.push(Span::styled(format!(" > {}", place(snapshot, level)), state.look.accent()));
    }
    spans.push(Span::styled(format!("  {title}"), state.look.dim()));
    (Line::from(spans), places)
}

/// The name of what was drilled into.
fn place(snapshot: &Snapshot, level: &Level) -> String {
    let gone = || "(gone)".to_owned();
    match &level.what {
        What::Members(by, key) | What::DestinationsOf(by, key) => {
            let row = snapshot.rows(*by).iter().find(|row| row.key == *key);
            row.map_or_else(gone, |row| match row.key {
                GroupKey::Process(key) => format!("{}[{}]", label::group(row, snapshot), key.tgid),
                _ => label::group(row, snapshot),
            })
        }
        What::ProcessesOf(id) => {
            let row = snapshot.destinations().iter().find(|row| row.id == *id);
            row.map_or_else(gone, |row| label::destination(&row.key, row.folded))
        }
        What::Finding(id) => findings::name(snapshot, *id),
        What::Groups | What::Destinations | What::Sockets | What::Findings => String::new(),
    }
}

/// The filter if there is one, else the keys.
fn footer(state: &State, width: u16) -> Line<'static> {
    let look = state.look;
    if state.editing {
        let filter = text::clean(&state.filter).into_owned();
        return Line::from(vec![
            Span::styled(format!("/{filter}_"), look.accent()),
            Span::styled("  Enter keeps it, Esc clears it", look.dim()),
        ]);
    }
    let playback = state.playback.as_ref();
    if let Some(prompt) = playback.and_then(Playback::prompt) {
        let hint =
            playback.and_then(Playback::notice).unwrap_or("14:13:20, +90s, -5m, 2026-09-21T14:13:20Z; Esc stays here");
        return Line::from(vec![
            Span::styled(format!("go to: {}_", text::clean(prompt)), look.accent()),
            Span::styled(format!("  {hint}"), look.dim()),
        ]);
    }
    let mut spans = Vec::new();
    if let Some(notice) = playback.and_then(Playback::notice) {
        spans.push(Span::styled(format!("{notice}  "), look.warning()));
    }
    if let Some(notice) = &state.notice {
        spans.push(Span::styled(format!("{notice}  "), look.warning()));
    }
    if !state.filter.is_empty() {
        spans.push(Span::styled(format!("filter: {}  ", text::clean(&state.filter)), look.warning()));
    }
    let keys = match playback {
        _ if width < NAMES => "narrow: columns are left out  ? q",
        None => "Tab view  g group  Enter drill  / filter  s sort  Space freeze  ? help  q quit",
        Some(_) => "Space play  arrows 1s  [ ] 1m  g time  n N peak  + - speed  ? help  q quit",
    };
    spans.push(Span::styled(keys, look.dim()));
    Line::from(spans)
}
