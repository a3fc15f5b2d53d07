//! The help: keys of the screen and of its list, columns, and everything that the trace could not see.

use crate::tui::model::What;
use crate::tui::state::State;
use crate::tui::{header, processes};
use ratatui::text::{Line, Span};
use twtrace_core::snapshot::Snapshot;
use twtrace_view::columns::{self, Column};
use twtrace_view::text;

/// A key, and what it does.
type Key = (&'static str, &'static str);

const TOP: [Key; 6] = [
    ("Space", "freeze the figures, and continue"),
    ("g", "group by process, PID, program, command, parent, user, ..."),
    ("+ -", "longer, shorter time between two updates"),
    ("!", "start a recording, and end it"),
    ("m", "mark this moment, and compare others with it"),
    ("Home", "stay with the first row, whichever that is"),
];

const REPLAY: [Key; 7] = [
    ("Space", "play, and pause"),
    ("Left Right, [ ]", "a second back or forward; a minute"),
    ("Home End, t", "the start, the end, a time"),
    ("n N, f F", "the next peak, the previous one; the same for findings"),
    ("m", "mark this moment, and compare others with it"),
    ("+ -", "twice as fast, half as fast"),
    ("g", "group by process, PID, program, command, parent, user, ..."),
];

const EVERYWHERE: [Key; 8] = [
    ("1 2 3 4, Tab", "processes, destinations, sockets, findings"),
    ("Up Down PgUp PgDn", "choose a row"),
    ("/", "filter, see below; Esc clears it"),
    ("s S r", "sort by the next column, the previous one; reverse"),
    ("y e", "copy the finding's command; export the finding as Markdown"),
    ("l", "what was lost, and when"),
    ("mouse", "click a row, a tab, a heading; wheel (Shift selects text)"),
    ("? q", "this help; quit"),
];

const TREE: [Key; 3] = [
    ("Enter, Right, Left", "open a row: processes, destinations, sockets; close it"),
    ("Esc", "back to the row above"),
    ("c", "choose columns"),
];

const FINDINGS: [Key; 2] = [("Enter, Right", "why, and what to change"), ("Esc, Left", "back to the list")];

/// Where the arrows move the time.
const TREE_OF_REPLAY: [Key; 3] = [
    ("Enter", "open a row: processes, destinations, sockets; close it"),
    ("Esc", "back to the row above"),
    ("c", "choose columns"),
];

const FINDINGS_OF_REPLAY: [Key; 2] = [("Enter", "why, and what to change"), ("Esc", "back to the list")];

const FILTER: [Key; 6] = [
    ("text", "rows that have it in any of their names"),
    (
        "program: pid: user:",
        "rows with such a name; also parent: cgroup: container: image: pod: workload: dest: netns: state:",
    ),
    ("dest:10.0.0.0/8:443", "rows with a destination in that network"),
    ("created>100 errors=0", "rows with such a figure, by its name or heading; life>5ms"),
    ("/^php/ program:/x$/", "a regular expression"),
    ("Tab", "complete"),
];

const LETTERS: [Key; 2] = [
    ("B E O T R .", "ports: bound established other TIME_WAIT reusable free"),
    ("~", "inferred: no recent census confirms it"),
];

/// Cells of the keys.
const KEYS: usize = 22;

/// All lines.
pub(super) fn lines(snapshot: &Snapshot, state: &State, width: usize) -> Vec<Line<'static>> {
    let look = state.look;
    let what = &state.level().what;
    let mut lines: Vec<Line<'static>> = Vec::new();
    let head = |lines: &mut Vec<Line<'static>>, title: &str| {
        if !lines.is_empty() {
            lines.push(Line::raw(""));
        }
        lines.push(Line::from(Span::styled(title.to_owned(), look.head())));
    };
    let add = |lines: &mut Vec<Line<'static>>, key: &str, meaning: &str| {
        let room = width.saturating_sub(KEYS + 1).max(20);
        for (at, part) in text::wrap(meaning, room).into_iter().enumerate() {
            let key = if at == 0 { key } else { "" };
            lines.push(Line::from(vec![
                Span::styled(format!("{} ", text::pad(key, KEYS, false)), look.accent()),
                Span::raw(part),
            ]));
        }
    };
    let warnings = header::warnings(snapshot, state);
    if !warnings.is_empty() {
        head(&mut lines, "WHAT THE TRACE COULD NOT SEE");
        let wrapped = warnings.iter().flat_map(|warning| text::wrap(&format!("! {warning}"), width));
        lines.extend(wrapped.map(|line| Line::from(Span::styled(line, look.warning()))));
    }
    if let Some(mistake) = &state.mistake {
        head(&mut lines, "CONFIGURATION");
        let wrapped = text::wrap(mistake, width).into_iter();
        lines.extend(wrapped.map(|line| Line::from(Span::styled(line, look.warning()))));
    }
    let own: &[Key] = if state.playback.is_some() { &REPLAY } else { &TOP };
    let of_list: &[Key] = match what {
        What::Groups | What::Destinations if state.playback.is_some() => &TREE_OF_REPLAY,
        What::Groups | What::Destinations => &TREE,
        What::Findings | What::Finding(_) if state.playback.is_some() => &FINDINGS_OF_REPLAY,
        What::Findings | What::Finding(_) => &FINDINGS,
        What::Sockets => &[],
    };
    head(&mut lines, "KEYS");
    for (key, meaning) in EVERYWHERE.iter().chain(own) {
        add(&mut lines, key, meaning);
    }
    if !of_list.is_empty() {
        head(&mut lines, "KEYS OF THIS LIST");
        of_list.iter().for_each(|(key, meaning)| add(&mut lines, key, meaning));
    }
    head(&mut lines, "FILTER: WORDS THAT MUST ALL FIT");
    FILTER.iter().for_each(|(key, meaning)| add(&mut lines, key, meaning));
    let columns = match what {
        What::Groups => described(processes::columns(snapshot, state.by), state.columns.of(what)),
        What::Destinations => described(columns::destinations(snapshot), state.columns.of(what)),
        What::Sockets | What::Findings | What::Finding(_) => Vec::new(),
    };
    head(&mut lines, if columns.is_empty() { "SIGNS" } else { "COLUMNS AND SIGNS" });
    columns.iter().for_each(|(title, doc)| add(&mut lines, title, doc));
    LETTERS.iter().for_each(|(key, meaning)| add(&mut lines, key, meaning));
    lines
}

/// The visible columns and their meanings.
fn described<T>(columns: Vec<Column<T>>, chosen: Option<&[String]>) -> Vec<(&'static str, &'static str)> {
    let columns = columns::visible(columns, chosen).into_iter();
    columns.map(|column| (column.title, column.doc.trim())).collect()
}
