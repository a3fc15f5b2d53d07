#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use super::style::{Palette, Theme};
use super::*;
use crossterm::event::{KeyCode, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;
use twtrace_core::snapshot::GroupBy;
use twtrace_testkit::{
    BuildConnection as _, BuildOwner as _, MILLISECOND_NS, SECOND_NS, START_NS, START_UNIX_NS, answered, owner,
    snapshot_of, tuple, web,
};
use twtrace_view::order::Sort;

pub(super) struct Harness {
    pub(super) snapshot: Snapshot,
    pub(super) state: State,
    terminal: Terminal<TestBackend>,
}

impl Harness {
    pub(super) fn new(snapshot: Snapshot, width: u16, height: u16) -> Self {
        let terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let state = State::new(GroupBy::Process, Sort::DEFAULT, Theme { palette: Palette::Dark, ascii: false });
        let mut harness = Self { snapshot, state, terminal };
        harness.state.trend.add(&harness.snapshot);
        harness.draw();
        harness
    }

    pub(super) fn draw(&mut self) -> String {
        self.terminal.draw(|frame| draw(frame, &self.snapshot, &mut self.state)).unwrap();
        self.text()
    }

    /// What is on the screen, without the blanks at the end of lines.
    pub(super) fn text(&self) -> String {
        let buffer = self.terminal.backend().buffer();
        let width = usize::from(buffer.area.width);
        let line = |cells: &[ratatui::buffer::Cell]| {
            cells.iter().map(ratatui::buffer::Cell::symbol).collect::<String>().trim_end().to_owned()
        };
        let lines: Vec<String> = buffer.content.chunks(width).map(line).collect();
        let text = lines.join("\n");
        assert!(text.chars().all(|letter| letter == '\n' || text::is_plain(letter)), "{text}");
        text
    }

    /// The cells of the screen.
    pub(super) fn cells(&self) -> &[ratatui::buffer::Cell] {
        &self.terminal.backend().buffer().content
    }

    pub(super) fn press(&mut self, code: KeyCode) -> Outcome {
        let outcome = key(KeyEvent::new(code, KeyModifiers::NONE), &self.snapshot, &mut self.state);
        self.draw();
        outcome
    }

    pub(super) fn type_in(&mut self, text: &str) -> String {
        for letter in text.chars() {
            self.press(KeyCode::Char(letter));
        }
        self.text()
    }

    /// The line of the selected row.
    pub(super) fn chosen(&self) -> String {
        let buffer = self.terminal.backend().buffer();
        let style = self.state.look.chosen();
        let rows = 6..buffer.area.height;
        let row =
            rows.rev().find(|y| buffer[(buffer.area.width - 1, *y)].modifier.contains(style.add_modifier)).unwrap();
        self.text().lines().nth(row.into()).unwrap().to_owned()
    }
}

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (200, 60)];

#[test]
fn tabs_at_all_sizes() {
    for (width, height) in SIZES {
        let mut harness = Harness::new(web::snapshot(), width, height);
        for (tab, name) in ["1:Processes", "2:Destinations", "3:Sockets", "4:Findings (4)"].iter().enumerate() {
            let text = harness.type_in(&(tab + 1).to_string());
            assert!(text.contains(&format!("[{name}]")), "{text}");
            insta::assert_snapshot!(format!("tab{}_{width}x{height}", tab + 1), text);
        }
    }
}

#[test]
fn help_covers_the_keys_and_every_warning() {
    let mut harness = Harness::new(web::lossy(), 80, 24);
    insta::assert_snapshot!("lossy_80x24", harness.text());
    insta::assert_snapshot!("help_80x24", harness.type_in("?"));
    harness.press(KeyCode::End);
    insta::assert_snapshot!("help_end_80x24", harness.text());
    assert_eq!(harness.press(KeyCode::Up), Outcome::Done);
    assert!(harness.state.overlay.is_some(), "arrows scroll");
    harness.press(KeyCode::Enter);
    assert_eq!(harness.state.overlay, None, "any other key closes it");
    let mut all = Harness::new(web::snapshot(), 120, 80);
    insta::assert_snapshot!("help_120x80", all.type_in("?"));
    insta::assert_snapshot!("help_destinations_120x80", all.type_in("x2?"));
    insta::assert_snapshot!("help_findings_120x80", all.type_in("x4?"));
    harness.type_in("?");
    assert_eq!(harness.press(KeyCode::Char('q')), Outcome::Quit);
}

#[test]
fn filters_search_what_rows_say() {
    let mut harness = Harness::new(web::snapshot(), 120, 40);
    insta::assert_snapshot!("filter_editing_120x40", harness.type_in("/POOL"));
    harness.press(KeyCode::Enter);
    insta::assert_snapshot!("filter_kept_120x40", harness.text());
    harness.press(KeyCode::Esc);
    assert_eq!(harness.state.filter, "");
    for (needle, found) in
        [("2003", "1 row"), ("www-", "1 row"), ("cron.sh", "1 row"), ("\\x1b", "1 row"), ("zzz", "0 rows")]
    {
        let text = harness.type_in(&format!("/{needle}"));
        assert!(text.contains(&format!("  {found} by process")), "{needle}: {text}");
        // Esc clears it while it is being typed.
        harness.press(KeyCode::Esc);
    }
    for (words, found) in [
        ("program:api", "1 row"),
        ("pid:300", "1 row"),
        ("pid:30", "0 rows"),
        ("created>29 created<100", "2 rows"),
        ("dest::5432 user:app", "1 row"),
        ("errors=3", "1 row"),
    ] {
        let text = harness.type_in(&format!("/{words}"));
        assert!(text.contains(&format!("  {found} by process")), "{words}: {text}");
        harness.press(KeyCode::Esc);
    }
    // A group passes what one of its processes fits.
    harness.type_in("gggggg");
    let text = harness.type_in("/program:api");
    assert!(text.contains("  1 row by user"), "{text}");
    harness.press(KeyCode::Esc);
    harness.type_in("2/:5432");
    assert!(harness.text().contains("  1 destination"), "{}", harness.text());
    harness.press(KeyCode::Backspace);
    assert_eq!(harness.state.filter, ":543");
    harness.press(KeyCode::Enter);
    let text = harness.type_in("3");
    assert!(text.contains("120 live"), "{text}");
    // Hostile input stays in its line, and has a maximum length.
    let text = harness.type_in(&format!("/\u{202e}{}", "x".repeat(200)));
    assert!(text.contains("/:543\\u{202e}xxx"), "{text}");
    assert_eq!(harness.state.filter.chars().count(), 128);
}

#[test]
fn groupings_go_round() {
    let mut harness = Harness::new(web::snapshot(), 100, 24);
    let all = twtrace_core::snapshot::GROUPINGS.iter().filter(|grouping| grouping.by.group().is_some());
    let names: Vec<&str> = all.map(|grouping| grouping.name).collect();
    for by in names[1..].iter().chain(&names[..1]).copied() {
        let text = harness.type_in("g");
        assert!(text.contains(&format!("rows by {by}")), "{text}");
        if by == "parent" {
            insta::assert_snapshot!("parents_100x24", text);
        }
    }
    // Other tabs have no groupings.
    harness.type_in("2g");
    assert_eq!(harness.state.by, GroupBy::Process);
}

#[test]
fn the_selection_follows_its_row() {
    let mut harness = Harness::new(web::snapshot(), 120, 24);
    assert!(harness.chosen().contains(" api "));
    harness.press(KeyCode::Down);
    harness.press(KeyCode::Down);
    assert!(harness.chosen().contains(" nginx "));
    harness.type_in("r");
    assert!(harness.chosen().contains(" nginx "), "another order moves the row, not the selection");
    assert!(harness.state.level().row > 0);
    // It leaves the list and finds it again.
    harness.type_in("21");
    assert!(harness.chosen().contains(" nginx "));
    // Home stays with the first row, whichever that is.
    harness.press(KeyCode::Home);
    assert_eq!(harness.state.level().selected, None);
    harness.type_in("r");
    assert!(harness.chosen().contains(" api "));
}

#[test]
fn the_selection_stays_in_the_list() {
    let mut harness = Harness::new(web::snapshot(), 80, 24);
    // One row for each PID.
    harness.type_in("g");
    harness.press(KeyCode::Up);
    assert_eq!(harness.state.level().row, 0);
    harness.press(KeyCode::End);
    assert_eq!((harness.state.level().row, harness.state.level().top), (44, 34));
    harness.press(KeyCode::Down);
    assert_eq!(harness.state.level().row, 44);
    harness.press(KeyCode::PageUp);
    assert_eq!((harness.state.level().row, harness.state.level().top), (33, 33));
    // When the row is gone, its neighbour is selected.
    harness.type_in("/nginx");
    assert_eq!(harness.state.level().row, 0);
    harness.type_in("zzz");
    harness.press(KeyCode::Enter);
    assert_eq!(harness.press(KeyCode::Enter), Outcome::Done);
    for code in [KeyCode::Down, KeyCode::Up, KeyCode::End, KeyCode::PageDown, KeyCode::PageUp, KeyCode::Home] {
        harness.press(code);
    }
    assert_eq!(harness.state.path().len(), 1, "an empty list has nothing to drill into");
}

#[test]
fn orders_go_round_both_ways() {
    let mut harness = Harness::new(web::snapshot(), 200, 24);
    // As the columns are on the screen, from left to right and from the start again.
    for title in ["LIVE▼", "CREATED/S▼", "OPENED▼", "ACCEPTED▼", "RESET▼", "ERRORS▼", "1ST FIN▼", "2ND FIN▼", "LIFE▼"]
    {
        let text = harness.type_in("s");
        assert!(text.contains(title), "{title}: {text}");
    }
    for title in ["PARENT▼", "CGROUP▼", "COMMAND LINE▼", "PID▼", "PROGRAM▼", "USER▼", "PROCS▼", "CREATED▼"]
    {
        let text = harness.type_in("s");
        assert!(text.contains(title), "{title}: {text}");
    }
    assert!(harness.type_in("S").contains("PROCS▼"));
    assert!(harness.type_in("r").contains("PROCS▲"));
    harness.type_in("r2");
    for title in ["OPEN▼", "PORTS▼", "FULL IN▼"] {
        for _ in 0..20 {
            if harness.type_in("s").contains(title) {
                break;
            }
        }
        assert!(harness.text().contains(title), "{}", harness.text());
    }
    harness.type_in("3");
    for title in ["LEFT*", "REMOTE*", "LOCAL*", "CLOSED BY*", "AGE*"] {
        let text = harness.type_in("s");
        assert!(text.contains(title), "{title}: {text}");
    }
}

#[test]
fn frozen_figures_stand_still() {
    let mut harness = Harness::new(web::snapshot(), 120, 24);
    harness.type_in("3");
    assert_eq!(harness.press(KeyCode::Char(' ')), Outcome::Freeze);
    let still = harness.text();
    assert!(still.starts_with("twtrace FROZEN "), "{still}");
    insta::assert_snapshot!("frozen_120x24", still);
    assert_eq!(harness.press(KeyCode::Char(' ')), Outcome::Thaw);
    assert!(!harness.draw().contains("FROZEN"));
}

#[test]
fn many_sockets_are_cut_and_counted() {
    let mut events = vec![web::events().swap_remove(0)];
    let who = owner(7, "maker").parent(1, "init");
    for number in 1..=2500_u64 {
        let to = tuple(1000 + number as u16, [10, 0, 1, 1], 80);
        events.push(answered(number, who, to, START_NS + number * MILLISECOND_NS).event());
    }
    events.push(web::tick_after(3000));
    let mut harness = Harness::new(snapshot_of(events), 120, 24);
    let text = harness.type_in("3");
    assert!(text.contains("showing 1,000 of 2,500"), "{text}");
    assert!(harness.chosen().contains("10.0.0.1:3500 "), "the newest is first: {}", harness.chosen());
    harness.type_in("r");
    assert!(harness.chosen().contains("10.0.0.1:1001 "), "the oldest is first: {}", harness.chosen());
}

#[test]
fn small_screens_say_so_and_no_size_is_too_odd() {
    let mut harness = Harness::new(web::lossy(), 39, 10);
    insta::assert_snapshot!("too_small_39x10", harness.text());
    let mut narrow = Harness::new(web::lossy(), 40, 16);
    insta::assert_snapshot!("narrow_40x16", narrow.text());
    insta::assert_snapshot!("narrow_findings_40x16", narrow.type_in("4"));
    for (width, height) in
        [(1, 1), (40, 10), (41, 23), (59, 24), (60, 12), (61, 13), (80, 11), (500, 12), (60, 200), (1, 60), (300, 1)]
    {
        let mut small = Harness::new(web::lossy(), width, height);
        for keys in ["1", "2", "3", "4", "?"] {
            small.type_in(keys);
        }
    }
    harness.terminal.backend_mut().resize(80, 24);
    assert!(harness.draw().contains("[1:Processes]"));
}

#[test]
fn without_colour_there_is_none() {
    let mut harness = Harness::new(web::lossy(), 120, 24);
    let colours = |harness: &Harness| {
        harness
            .terminal
            .backend()
            .buffer()
            .content
            .iter()
            .any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
    };
    assert!(colours(&harness));
    harness.state.look = Theme { palette: Palette::Plain, ascii: false };
    for keys in ["1", "2", "3", "4", "?", "q/x"] {
        harness.type_in(keys);
        assert!(!colours(&harness), "{keys}");
    }
}

#[test]
fn keys_that_mean_nothing_do_nothing() {
    let mut harness = Harness::new(web::snapshot(), 80, 24);
    let before = harness.text();
    for code in [KeyCode::F(5), KeyCode::Insert, KeyCode::Char('ö'), KeyCode::Char('Z'), KeyCode::Null] {
        assert_eq!(harness.press(code), Outcome::Done);
    }
    assert_eq!(harness.text(), before);
    let control = |code| KeyEvent::new(code, KeyModifiers::CONTROL);
    assert_eq!(key(control(KeyCode::Char('q')), &harness.snapshot, &mut harness.state), Outcome::Done);
    harness.type_in("/");
    assert_eq!(key(control(KeyCode::Char('c')), &harness.snapshot, &mut harness.state), Outcome::Quit);
    assert_eq!(harness.state.filter, "");
}

/// The web server's host as a recording of ten seconds, paused near its end.
fn recording(width: u16, height: u16) -> Harness {
    let mut harness = Harness::new(web::lossy(), width, height);
    let start_ns = harness.snapshot.summary().window.start_ns;
    let warnings = vec!["connections-0002.parquet: 4,096 rows are missing".to_owned()];
    let length = 10 * SECOND_NS;
    let mut playback = Playback::new("incident.twt".to_owned(), warnings, START_UNIX_NS, (start_ns, start_ns + length));
    playback.go(start_ns + 5_400_000_000);
    playback.key(KeyCode::Char(' '));
    let created = vec![1, 2, 100, 3, 0, 0, 0, 20, 30, 40];
    playback.churn = Some(playback::Churn { created, bucket_ns: SECOND_NS, peaks: vec![2] });
    harness.state.playback = Some(playback);
    harness.draw();
    harness
}

#[test]
fn a_recording_says_that_it_is_one_and_where_it_is() {
    for (width, height) in [(60, 12), (80, 24), (120, 24)] {
        insta::assert_snapshot!(format!("recording_{width}x{height}"), recording(width, height).text());
    }
    let mut harness = recording(80, 40);
    insta::assert_snapshot!("recording_help_80x40", harness.type_in("?"));
    harness.type_in("?xt14:13:2x");
    insta::assert_snapshot!("recording_prompt_80x40", harness.text());
    harness.press(KeyCode::Enter);
    assert!(harness.text().contains("expected a time such as"), "{}", harness.text());
    harness.press(KeyCode::Backspace);
    harness.press(KeyCode::Backspace);
    harness.type_in("21");
    harness.press(KeyCode::Enter);
    let playback = harness.state.playback.as_ref().unwrap();
    assert_eq!(playback.target_ns() - playback.start_ns, 1_000_000_000);
}

#[test]
fn keys_for_the_time_leave_the_others_to_the_lists() {
    let mut harness = recording(120, 24);
    let target = |harness: &Harness| harness.state.playback.as_ref().map(Playback::target_ns);
    let before = target(&harness);
    assert!(harness.type_in("b").contains("rows by pid"));
    assert!(harness.type_in("2").contains("[2:Destinations]"));
    assert!(harness.type_in("3").contains("[3:Sockets]"));
    assert!(harness.type_in("/tn[ ").contains("/tn[ _"));
    harness.press(KeyCode::Esc);
    assert_eq!(target(&harness), before);
    harness.press(KeyCode::Left);
    assert_eq!(harness.state.tab, Tab::Sockets, "arrows move the time");
    assert_ne!(target(&harness), before);
    // A recording that plays is not on its way anywhere.
    assert!(!harness.text().contains("FROZEN") && !harness.type_in(" ").contains("FROZEN"));
    assert!(harness.type_in("nnn").contains("no later peak"));
}
