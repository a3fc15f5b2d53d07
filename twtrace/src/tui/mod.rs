//! The screen of `twtrace top` and `twtrace replay`: drawn from the figures and from what the user has chosen.

pub mod deck;
mod destinations;
pub mod figures;
mod findings;
mod header;
mod help;
mod list;
mod ports;
mod processes;
pub(crate) mod screen;
pub mod sockets;
pub mod state;
pub mod style;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_findings;
mod timeline;

use crossterm::event::KeyEvent;
use deck::Deck;
use figures::Figures;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use state::{Level, Outcome, Request, State, Tab, What};
use strum::VariantArray as _;
use twtrace_core::model::{GroupBy, GroupKey};
use twtrace_view::columns::Context;
use twtrace_view::{label, text, words};

/// Least screen, in cells.
const LEAST: (u16, u16) = (60, 12);

/// Draws one frame.
pub fn draw(frame: &mut Frame<'_>, figures: &dyn Figures, state: &mut State) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let needed = format!("twtrace needs {}x{} cells, this is {}x{}", LEAST.0, LEAST.1, area.width, area.height);
        let message = Paragraph::new(needed).wrap(ratatui::widgets::Wrap { trim: true });
        frame.render_widget(message, area);
        return;
    }
    let lines = header::lines(figures, state, area);
    let height = lines.len() as u16;
    let row = |y: u16, height: u16| Rect { y: area.y + y, height, ..area };
    header::draw(frame, row(0, height), lines);
    let summary = figures.summary();
    let context = Context { names: figures, live_mark: words::live_mark(summary), summary };
    // The tabs, the keys, and for a recording its line.
    let below = 1 + u16::from(state.deck.is_some());
    let body = row(height + 1, area.height - height - 1 - below);
    let what = state.level().what.clone();
    let title = match &what {
        What::Groups => processes::groups(frame, body, &context, figures, state, None),
        What::Members(group) => processes::groups(frame, body, &context, figures, state, Some(group)),
        What::ProcessesOf(id) => {
            let body = ports::above(frame, body, figures, state.look, *id);
            processes::of_destination(frame, body, &context, figures, state, *id)
        }
        What::Destinations => destinations::all(frame, body, &context, figures, state),
        What::DestinationsOf(id) => destinations::of_process(frame, body, &context, figures, state, *id),
        What::Sockets => sockets::draw(frame, body, &context, figures, state),
        What::Findings => findings::all(frame, body, &context, figures, state),
        What::Finding(id) => findings::one(frame, body, figures, state, *id),
    };
    frame.render_widget(tabs(figures, state, &title), row(height, 1));
    if let Some(deck) = &state.deck {
        let line = timeline::line(deck, summary.window.now_ns, state.look, area.width);
        frame.render_widget(line, row(area.height - 2, 1));
    }
    frame.render_widget(footer(state), row(area.height - 1, 1));
    if state.help {
        help::draw(frame, area, figures, state);
    }
}

/// Acts on a key.
pub fn key(key: KeyEvent, figures: &dyn Figures, state: &mut State) -> Outcome {
    match state.key(key) {
        Request::None => Outcome::Done,
        Request::Caller(outcome) => outcome,
        Request::Enter => {
            if let Some(what) = into(figures, state) {
                state.enter(what);
            }
            Outcome::Done
        }
    }
}

/// What is behind the chosen row.
fn into(figures: &dyn Figures, state: &State) -> Option<What> {
    let chosen = state.chosen()?;
    let id = u32::try_from(chosen).ok();
    match &state.level().what {
        What::Groups if state.by != GroupBy::Process => {
            let row = figures.rows(state.by).find(|row| Some(row.id) == id)?;
            Some(What::Members(row.key))
        }
        What::Groups | What::Members(_) | What::ProcessesOf(_) => id.map(What::DestinationsOf),
        What::Destinations | What::DestinationsOf(_) => id.map(What::ProcessesOf),
        What::Findings => Some(What::Finding(chosen)),
        What::Sockets | What::Finding(_) => None,
    }
}

/// The tabs, the way to the list on the screen, and what that says of itself.
fn tabs(figures: &dyn Figures, state: &State, title: &str) -> Line<'static> {
    let mut spans = Vec::new();
    for (index, &tab) in Tab::VARIANTS.iter().enumerate() {
        let name: &str = tab.into();
        let count = match figures.findings().len() {
            0 => String::new(),
            count if tab == Tab::Findings => format!(" ({count})"),
            _ => String::new(),
        };
        let name = format!("{} {name}{count}", index + 1);
        spans.push(if tab == state.tab {
            Span::styled(format!("[{name}]"), state.look.chosen())
        } else {
            Span::raw(format!(" {name} "))
        });
    }
    for level in &state.path()[1..] {
        spans.push(Span::styled(format!(" > {}", place(figures, level)), state.look.accent()));
    }
    spans.push(Span::styled(format!("  {title}"), state.look.dim()));
    Line::from(spans)
}

/// What was drilled into.
fn place(figures: &dyn Figures, level: &Level) -> String {
    let gone = || "(gone)".to_owned();
    match &level.what {
        What::Members(key) => {
            let by = match key {
                GroupKey::Process(_) | GroupKey::Unknown | GroupKey::Other => GroupBy::Process,
                GroupKey::Command(_) => GroupBy::Command,
                GroupKey::Parent(..) => GroupBy::Parent,
                GroupKey::User(_) => GroupBy::User,
                GroupKey::Cgroup(_) => GroupBy::Cgroup,
            };
            figures.rows(by).find(|row| row.key == *key).map_or_else(gone, |row| label::group(row, figures))
        }
        What::DestinationsOf(id) => {
            let row = figures.rows(GroupBy::Process).find(|row| row.id == *id);
            row.map_or_else(gone, |row| match row.key {
                GroupKey::Process(key) => format!("{}[{}]", label::group(row, figures), key.tgid),
                _ => label::group(row, figures),
            })
        }
        What::ProcessesOf(id) => {
            let row = figures.destinations().find(|row| row.id == *id);
            row.map_or_else(gone, |row| label::destination(&row.key, row.folded))
        }
        What::Finding(id) => findings::name(figures, *id),
        What::Groups | What::Destinations | What::Sockets | What::Findings => String::new(),
    }
}

/// The filter while there is one, else the keys.
fn footer(state: &State) -> Line<'static> {
    let look = state.look;
    if state.editing {
        let filter = text::clean(&state.filter).into_owned();
        return Line::from(vec![
            Span::styled(format!("/{filter}_"), look.accent()),
            Span::styled("  Enter keeps it, Esc clears it", look.dim()),
        ]);
    }
    let deck = state.deck.as_ref();
    if let Some(prompt) = deck.and_then(Deck::prompt) {
        let hint = deck.and_then(Deck::notice).unwrap_or("14:13:20, +90s, -5m, 2026-09-21T14:13:20Z; Esc stays here");
        return Line::from(vec![
            Span::styled(format!("go to: {}_", text::clean(prompt)), look.accent()),
            Span::styled(format!("  {hint}"), look.dim()),
        ]);
    }
    let mut spans = Vec::new();
    if let Some(notice) = deck.and_then(Deck::notice) {
        spans.push(Span::styled(format!("{notice}  "), look.warning()));
    }
    if !state.filter.is_empty() {
        spans.push(Span::styled(format!("filter: {}  ", text::clean(&state.filter)), look.warning()));
    }
    let keys = match deck {
        None => "Tab view  g group  Enter drill  / filter  s sort  Space freeze  ? help  q quit",
        Some(_) => "Space play  arrows 1s  [ ] 1m  g time  n N peak  + - speed  ? help  q quit",
    };
    spans.push(Span::styled(keys, look.dim()));
    Line::from(spans)
}
