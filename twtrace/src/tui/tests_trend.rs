#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use super::tests::Harness;
use super::*;
use crossterm::event::{KeyCode, KeyModifiers};
use twtrace_testkit::{MILLISECOND_NS, SECOND_NS, START_NS, answered, owner, tuple, web};

/// Four programs with a rate each, one of which begins later.
fn minutes(seconds: u64) -> Vec<Snapshot> {
    let programs = [("billing", 40_u64, 0), ("mailer", 20, 0), ("cron", 4, 0), ("search", 60, seconds / 2)];
    let mut state = twtrace_testkit::state_of(
        twtrace_core::state::Config::default(),
        [twtrace_testkit::start(START_NS).event(), twtrace_testkit::kernel(twtrace_testkit::kernel_facts())],
    );
    let mut snapshots = vec![Snapshot::take(&mut state)];
    let mut cookie = 0;
    for second in 0..seconds {
        for (number, (name, rate, from)) in programs.iter().enumerate().filter(|(_, one)| second >= one.2) {
            for _ in 0..*rate {
                cookie += 1;
                let who = owner(100 + number as u32, name);
                let to = tuple(1024 + (cookie % 60_000) as u16, [10, 0, 1, number as u8], 80);
                let at_ns = START_NS + second * SECOND_NS + 500 * MILLISECOND_NS;
                state.apply(twtrace_core::event::Event::Connection(Box::new(answered(cookie, who, to, at_ns))));
            }
            assert!(*from <= second);
        }
        state.apply(twtrace_testkit::tick(START_NS + (second + 1) * SECOND_NS));
        snapshots.push(Snapshot::take(&mut state));
    }
    snapshots
}

#[test]
fn the_last_minutes_are_a_chart() {
    let draw = |width, height, ascii| {
        let mut snapshots = minutes(90).into_iter();
        let mut harness = Harness::new(snapshots.next().unwrap(), width, height);
        harness.state.look.ascii = ascii;
        for snapshot in snapshots {
            harness.state.trend.add(&snapshot);
            harness.snapshot = snapshot;
        }
        harness.draw()
    };
    insta::assert_snapshot!("chart_80x24", draw(80, 24, false));
    insta::assert_snapshot!("chart_200x60", draw(200, 60, false));
    let plain = draw(100, 30, true);
    assert!(plain.is_ascii(), "{plain}");
    insta::assert_snapshot!("chart_in_ascii_100x30", plain);
    // Low screens have the list instead.
    assert!(!draw(80, 20, false).contains("created/s"));
}

#[test]
fn a_chart_begins_anew_after_a_jump() {
    let all = minutes(10);
    let mut trend = twtrace_view::trend::Trend::default();
    for snapshot in &all {
        trend.add(snapshot);
        trend.add(snapshot);
    }
    assert_eq!(trend.moments().len(), 11, "the same snapshot counts once");
    trend.add(&all[3]);
    assert_eq!(trend.moments().len(), 1, "back in time");
    trend.add(&all[4]);
    let mut later = twtrace_testkit::state_of(
        twtrace_core::state::Config::default(),
        [twtrace_testkit::start(START_NS).event(), twtrace_testkit::tick(START_NS + 120 * SECOND_NS)],
    );
    trend.add(&Snapshot::take(&mut later));
    assert_eq!(trend.moments().len(), 1, "two minutes later");
    // What is known then is drawn at once.
    let mut harness = Harness::new(all.into_iter().next_back().unwrap(), 120, 40);
    assert!(harness.draw().contains("created/s 124  search 60.0  billing 40.0"), "{}", harness.draw());
}

#[test]
fn a_finding_is_copied_and_exported() {
    let mut harness = Harness::new(web::snapshot(), 120, 40);
    let Outcome::Export { name, text } = harness.press(KeyCode::Char('e')) else { panic!("nothing to export") };
    assert!(name.starts_with("twtrace-no-connection-reuse-20"), "{name}");
    assert!(text.starts_with("### WARNING: no-connection-reuse\n") && text.contains("\nHost web"), "{text}");
    assert!(text.contains("api[300]") && text.contains("| EVIDENCE | VALUE |"), "{text}");
    let snapshot = web::snapshot();
    let first = twtrace_view::findings::worst(snapshot.findings()).unwrap();
    let command = first.advice.iter().find_map(twtrace_view::findings::command).unwrap();
    assert_eq!(harness.press(KeyCode::Char('y')), Outcome::Copy(command.clone()));
    assert!(harness.text().contains(&format!("copied: {}", &command[..20])), "{}", harness.text());
    // The finding on the list of findings that is chosen.
    harness.type_in("4");
    harness.press(KeyCode::Down);
    let Outcome::Export { name, .. } = harness.press(KeyCode::Char('e')) else { panic!("nothing to export") };
    assert!(!name.starts_with("twtrace-no-connection-reuse-"), "{name}");
}

#[test]
fn the_mouse_chooses_rows_tabs_and_orders() {
    use crossterm::event::{MouseButton, MouseEvent, MouseEventKind};
    let mut harness = Harness::new(web::snapshot(), 120, 24);
    let act = |harness: &mut Harness, kind: MouseEventKind, column: u16, row: u16| {
        let event = MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE };
        let outcome = mouse(event, &harness.snapshot, &mut harness.state);
        harness.draw();
        outcome
    };
    let find = |harness: &Harness, wanted: &str| {
        let text = harness.text();
        let (row, line) = text.lines().enumerate().find(|(_, line)| line.contains(wanted)).unwrap();
        (line[..line.find(wanted).unwrap()].chars().count() as u16, row as u16)
    };
    let click = |harness: &mut Harness, wanted: &str| {
        let (column, row) = find(harness, wanted);
        act(harness, MouseEventKind::Down(MouseButton::Left), column, row)
    };
    click(&mut harness, "nginx  ");
    assert!(harness.chosen().contains("nginx"), "{}", harness.chosen());
    // The second click opens it, the third closes it.
    click(&mut harness, "nginx  ");
    assert!(harness.text().contains("▾ nginx"), "{}", harness.text());
    click(&mut harness, "nginx  ");
    assert!(!harness.text().contains("▾"), "{}", harness.text());
    click(&mut harness, "LIVE ");
    assert!(harness.text().contains("LIVE▼"), "{}", harness.text());
    click(&mut harness, "LIVE▼");
    assert!(harness.text().contains("LIVE▲"), "{}", harness.text());
    click(&mut harness, "4:Findings");
    assert_eq!(harness.state.tab, Tab::Findings);
    act(&mut harness, MouseEventKind::ScrollDown, 5, 15);
    assert_eq!(harness.state.level().row, 3);
    act(&mut harness, MouseEventKind::ScrollUp, 5, 15);
    assert_eq!(harness.state.level().row, 0);
    // Beside everything, and while the help is open, which it closes.
    harness.type_in("?");
    assert!(harness.state.overlay.is_some());
    act(&mut harness, MouseEventKind::Down(MouseButton::Left), 119, 23);
    assert!(harness.state.overlay.is_none());
    assert_eq!(act(&mut harness, MouseEventKind::Down(MouseButton::Left), 119, 23), Outcome::Done);
}
