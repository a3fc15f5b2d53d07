//! The screen of `twtrace top` and `twtrace replay`: drawn from the snapshot and from the user's choices.

mod chooser;
mod compare;
mod destinations;
mod filter;
mod findings;
mod header;
mod help;
mod kept;
mod keys;
mod list;
mod losses;
pub mod model;
pub mod mouse;
mod overlay;
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
mod tests_tree;
#[cfg(test)]
mod tests_trend;
mod timeline;
mod tree;
pub mod trend;

use crossterm::event::{KeyEvent, MouseEvent};
use model::{Level, Outcome, Request, Tab, What};
use playback::Playback;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use state::State;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use strum::VariantArray as _;
use twtrace_core::snapshot::Snapshot;
use twtrace_view::columns::Context;
use twtrace_view::{text, words};

/// Minimum size of the screen, in cells.
const LEAST: (u16, u16) = (40, 10);

/// Draws one frame.
pub fn draw(frame: &mut Frame<'_>, snapshot: &Snapshot, state: &mut State) {
    let area = frame.area();
    frame.buffer_mut().set_style(area, state.look.base());
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
        trend::draw(&state.trend, frame, row(height, chart), summary.window.now_ns, state.look);
    }
    let height = height + chart;
    let body = row(height + 1, area.height - height - 1 - below);
    // The list that is drawn below says where it is.
    state.places.begin(area.y + height);
    let what = state.level().what.clone();
    let (title, crumbs) = match &what {
        What::Groups => processes::draw(frame, body, &context, snapshot, state),
        What::Destinations => destinations::draw(frame, body, &context, snapshot, state),
        What::Sockets => (sockets::draw(frame, body, &context, snapshot, state), Vec::new()),
        What::Findings => (findings::all(frame, body, &context, snapshot, state), Vec::new()),
        What::Finding(id) => (findings::one(frame, body, snapshot, state, *id), Vec::new()),
    };
    let (line, names) = tabs(snapshot, state, (&title, crumbs), area.width);
    frame.render_widget(line, row(height, 1));
    state.places.names(names);
    if let Some(playback) = &state.playback {
        let line = timeline::line(playback, summary.window.now_ns, state.look, area.width);
        frame.render_widget(line, row(area.height - 2, 1));
    }
    frame.render_widget(footer(snapshot, state, area.width), row(area.height - 1, 1));
    overlay::draw(frame, area, snapshot, state);
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
            if state.level().what == What::Findings
                && let Some(id) = state.chosen()
            {
                state.enter(What::Finding(id));
            }
            Outcome::Done
        }
        Request::Command => findings::copy(snapshot, state),
        Request::Markdown => findings::export(snapshot, state),
        Request::Complete => {
            complete(snapshot, state);
            Outcome::Done
        }
        Request::Column(at) => {
            chooser::toggle(snapshot, state, at);
            Outcome::Done
        }
        Request::Columns => Outcome::Copy(chooser::setting(snapshot, state)),
    }
}

/// Completions of the filter.
fn completions(snapshot: &Snapshot, state: &State) -> (usize, Vec<String>) {
    filter::completions(&state.filter, |name| {
        let found: RefCell<HashMap<String, u32>> = RefCell::default();
        let collect = |text: &str| {
            *found.borrow_mut().entry(text.to_owned()).or_default() += 1;
            false
        };
        match state.tab {
            Tab::Processes => processes::values(snapshot, state.by, name, &collect),
            Tab::Destinations => destinations::values(snapshot, name, &collect),
            Tab::Sockets => sockets::values(snapshot, name, &collect),
            Tab::Findings => findings::values(snapshot, name, &collect),
        }
        found.into_inner().into_keys().collect()
    })
}

/// Completes the filter as far as there is only one way; where there are several from here on, the footer shows them.
fn complete(snapshot: &Snapshot, state: &mut State) {
    let (length, all) = completions(snapshot, state);
    let common = filter::common(&all);
    if common.len() >= length {
        state.filter.truncate(state.filter.len() - length);
        state.filter.push_str(common);
    }
}

/// Narrowest screen that has the names of all tabs, in cells.
const NAMES: u16 = 60;

/// The tabs, the path to the list on the screen, and its title; and the cells of each tab.
fn tabs(
    snapshot: &Snapshot,
    state: &State,
    (title, crumbs): (&str, Vec<String>),
    width: u16,
) -> (Line<'static>, Vec<Range<u16>>) {
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
    let levels = state.path()[1..].iter().map(|level| place(snapshot, level));
    for name in crumbs.into_iter().chain(levels) {
        spans.push(Span::styled(format!(" > {name}"), state.look.accent()));
    }
    spans.push(Span::styled(format!("  {title}"), state.look.dim()));
    (Line::from(spans), places)
}

/// The name of what was entered.
fn place(snapshot: &Snapshot, level: &Level) -> String {
    match &level.what {
        What::Finding(id) => findings::name(snapshot, *id),
        What::Groups | What::Destinations | What::Sockets | What::Findings => String::new(),
    }
}

/// The filter if there is one, else the keys.
fn footer(snapshot: &Snapshot, state: &State, width: u16) -> Line<'static> {
    let look = state.look;
    if state.editing {
        let filter = text::clean(&state.filter).into_owned();
        let all: Vec<String> = completions(snapshot, state).1.iter().map(|one| text::clean(one).into_owned()).collect();
        let ways = match filter::unknown_figure(&filter) {
            Some(name) => format!("  there is no figure {name}"),
            None if all.is_empty() => String::new(),
            None => format!("  Tab: {}", all.join(" ")),
        };
        return Line::from(vec![
            Span::styled(format!("/{filter}_"), look.accent()),
            Span::styled("  Enter keeps it, Esc clears it", look.dim()),
            Span::styled(ways, look.dim()),
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
        None => "Tab view  g group  Enter open  / filter  s sort  c columns  ? help  q quit",
        Some(_) => "Space play  arrows 1s  [ ] 1m  t time  n peak  f finding  m mark  ? help  q quit",
    };
    spans.push(Span::styled(keys, look.dim()));
    Line::from(spans)
}
