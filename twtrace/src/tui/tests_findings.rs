#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use super::style::{Palette, Theme};
use super::*;
use crossterm::event::{KeyCode, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;
use twtrace_core::finding::{Finding, Rule};
use twtrace_core::snapshot::GroupBy;
use twtrace_testkit::{findings, web};
use twtrace_view::order::Sort;

/// A screen for the web server's host with findings written by hand.
struct Harness {
    snapshot: Snapshot,
    state: State,
    terminal: Terminal<TestBackend>,
}

impl Harness {
    fn new(findings: Vec<Finding>, width: u16, height: u16) -> Self {
        let state = State::new(GroupBy::Process, Sort::DEFAULT, Theme { palette: Palette::Dark, ascii: false });
        let snapshot = web::snapshot().with_findings(findings);
        let terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let mut harness = Self { snapshot, state, terminal };
        harness.draw();
        harness
    }

    /// Shows other findings from now on.
    fn set(&mut self, findings: Vec<Finding>) {
        self.snapshot = web::snapshot().with_findings(findings);
    }

    fn draw(&mut self) -> String {
        self.terminal.draw(|frame| draw(frame, &self.snapshot, &mut self.state)).unwrap();
        let buffer = self.terminal.backend().buffer();
        let line = |cells: &[ratatui::buffer::Cell]| {
            cells.iter().map(ratatui::buffer::Cell::symbol).collect::<String>().trim_end().to_owned()
        };
        let lines: Vec<String> = buffer.content.chunks(buffer.area.width.into()).map(line).collect();
        let text = lines.join("\n");
        assert!(text.chars().all(|letter| letter == '\n' || text::is_plain(letter)), "{text}");
        text
    }

    fn press(&mut self, codes: &[KeyCode]) -> String {
        for code in codes {
            key(KeyEvent::new(*code, KeyModifiers::NONE), &self.snapshot, &mut self.state);
            self.draw();
        }
        self.draw()
    }
}

use KeyCode::{Char, Down, End, Enter, Esc, Home, PageDown, Up};

#[test]
fn findings_are_listed_and_each_has_a_page() {
    for (width, height) in [(80, 24), (120, 40)] {
        let mut harness = Harness::new(findings(), width, height);
        insta::assert_snapshot!(format!("findings_{width}x{height}"), harness.press(&[Char('4')]));
        insta::assert_snapshot!(format!("finding_{width}x{height}"), harness.press(&[Enter]));
    }
}

#[test]
fn a_page_scrolls_within_its_lines() {
    let mut harness = Harness::new(findings(), 60, 12);
    let first = harness.press(&[Char('4'), Enter]);
    assert!(first.contains("CRITICAL  exhaustion-reached") && first.contains("lines 1 to "), "{first}");
    let next = harness.press(&[Down]);
    assert!(next.contains("lines 2 to ") && !next.contains("CRITICAL  exhaustion-reached"), "{next}");
    assert_eq!(harness.press(&[Up, Up]), first);
    let last = harness.press(&[End]);
    assert!(last.contains("with 0."), "{last}");
    assert_eq!(harness.press(&[PageDown, Down]), last);
    assert_eq!(harness.press(&[Home]), first);
    // Another size has other lines.
    harness.press(&[End]);
    harness.terminal.backend_mut().resize(200, 60);
    let all = harness.draw();
    assert!(all.contains("CRITICAL  exhaustion-reached") && all.contains("ends with 0."), "{all}");
    assert!(harness.press(&[Esc]).contains("[4:Findings (3)]"));
}

#[test]
fn what_is_found_no_more_says_so() {
    let mut harness = Harness::new(findings(), 80, 24);
    harness.press(&[Char('4'), Down, Enter]);
    assert!(harness.draw().contains("> fork-per-request"));
    harness.set(findings().split_off(1));
    assert!(harness.draw().contains("> fork-per-request"), "it is another's place now");
    harness.set(Vec::new());
    let gone = harness.draw();
    assert!(gone.contains("> (gone)") && gone.contains("This finding is gone"), "{gone}");
    let none = harness.press(&[Esc]);
    assert!(none.contains("[4:Findings]  nothing to report") && none.contains("Nothing to worry about"), "{none}");
    harness.press(&[Enter, Down, End]);
    assert_eq!(harness.state.path().len(), 1);
}

#[test]
fn the_header_names_the_most_severe_that_applies() {
    let mut edited = findings();
    edited[0].active = false;
    let mut harness = Harness::new(edited, 80, 24);
    let drawn = harness.draw();
    assert!(drawn.contains("Nothing found, but not everything was seen: 257 sockets in TIME_WAIT"), "{drawn}");
    let listed = harness.press(&[Char('4'), Char('/'), Char('o'), Char('v'), Char('e'), Char('r')]);
    assert!(listed.contains("CRITICAL") && !listed.contains("incomplete-trace   "), "{listed}");
    let low = Harness::new(findings(), 80, 15).draw();
    assert_eq!(low.lines().filter(|line| line.starts_with("CRITICAL: ")).count(), 1, "{low}");
    let quiet = Harness::new(Vec::new(), 80, 24).draw();
    assert!(quiet.contains("Nothing to worry about: 257 sockets in TIME_WAIT"), "{quiet}");
}

#[test]
fn severities_are_words_and_colours() {
    let colours = |look: Theme| {
        let mut harness = Harness::new(findings(), 120, 24);
        harness.state.look = look;
        let text = harness.press(&[Char('4'), Down]);
        assert!(text.contains("CRITICAL") && text.contains("WARNING") && text.contains("over"), "{text}");
        let buffer = harness.terminal.backend().buffer();
        let row = text.lines().position(|line| line.starts_with("CRITICAL")).unwrap() as u16;
        (buffer[(0, row)].fg, buffer.content.iter().any(|cell| cell.fg != Color::Reset))
    };
    assert_eq!(colours(Theme { palette: Palette::Dark, ascii: false }), (Color::Indexed(208), true));
    assert_eq!(colours(Theme { palette: Palette::Plain, ascii: false }), (Color::Reset, false));
}

#[test]
fn ports_have_a_bar() {
    for (width, height) in [(80, 24), (120, 40)] {
        let mut harness = Harness::new(Vec::new(), width, height);
        insta::assert_snapshot!(format!("ports_{width}x{height}"), harness.press(&[Char('2'), Down]));
        insta::assert_snapshot!(format!("ports_drilled_{width}x{height}"), harness.press(&[Up, Enter]));
    }
    let mut harness = Harness::new(Vec::new(), 100, 30);
    let failed = harness.press(&[Char('2'), Char('/'), Char('1'), Char('1'), Char('2'), Char('1'), Enter, Enter]);
    assert!(failed.contains("failed 3x connect EADDRNOTAVAIL by batch[700]: this is not TIME_WAIT: "), "{failed}");
    // It uses no ports but its own.
    let passive = Harness::new(Vec::new(), 100, 30).press(&[Char('2'), Down, Down]);
    assert!(passive.contains("closes first on its own listening port: costs memory, no ephemeral port"), "{passive}");
    // The list comes first on a small screen.
    let low = Harness::new(Vec::new(), 60, 12).press(&[Char('2')]);
    assert!(low.contains("10.0.1.2:5432") && !low.contains("T TIME_WAIT"), "{low}");
    for (width, height) in [(60, 12), (61, 17), (60, 60), (300, 18)] {
        Harness::new(findings(), width, height).press(&[Char('2'), Enter, Char('4'), Enter, Char('?')]);
    }
}

#[test]
fn an_open_finding_stays_open_when_it_gets_worse() {
    let all = findings();
    let reached = all.iter().find(|finding| finding.rule == Rule::ExhaustionReached).unwrap().clone();
    let near = Finding { rule: Rule::ExhaustionNear, ..reached.clone() };
    let mut harness = Harness::new(vec![near], 120, 40);
    assert!(harness.press(&[Char('4'), Enter]).contains("exhaustion-near"));
    harness.set(vec![reached]);
    let page = harness.draw();
    assert!(page.contains("exhaustion-reached") && !page.contains("finding is gone"), "{page}");
}
