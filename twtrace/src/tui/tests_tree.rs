#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use super::style::Palette;
use super::tests::Harness;
use super::*;
use crossterm::event::KeyCode;
use twtrace_testkit::web;

use KeyCode::{Char, Down, End, Enter, Esc, Home, Left, Right, Tab as TabKey};

fn press(harness: &mut Harness, keys: &[KeyCode]) -> String {
    keys.iter().for_each(|key| _ = harness.press(*key));
    harness.text()
}

#[test]
fn rows_open_in_place_down_to_their_sockets() {
    let mut harness = Harness::new(web::snapshot(), 120, 40);
    // By parent: a group, its processes, their destinations, their sockets.
    harness.type_in("gggg");
    press(&mut harness, &[Down, Enter, Down, Right, Down, Right, Down, Right]);
    insta::assert_snapshot!("opened_120x40", harness.text());
    assert!(harness.state.wants_sockets(), "a pair of a process and a destination is open");
    // The path to the line that is selected.
    assert!(harness.text().contains(" > cron.sh[500] > curl > curl[2000] > 10.0.1.1:443"), "{}", harness.text());
    // Left closes, then goes up, and closes there.
    assert!(press(&mut harness, &[Left]).contains("▸ 10.0.1.1:443"));
    assert!(!harness.state.wants_sockets());
    press(&mut harness, &[Left]);
    assert!(harness.chosen().contains("▾ curl[2000]"), "{}", harness.chosen());
    // Esc goes back to the row above and closes it.
    press(&mut harness, &[Esc]);
    assert!(harness.chosen().contains("▸ curl "), "{}", harness.chosen());
    press(&mut harness, &[Esc]);
    assert!(harness.chosen().contains("▸ cron.sh[500]"), "{}", harness.chosen());
    // Another grouping begins closed.
    press(&mut harness, &[Enter]);
    assert!(harness.text().contains('▾'));
    assert!(!harness.type_in("ggggggggggg").contains('▾'));
}

#[test]
fn sockets_are_listed_once_they_are_there() {
    let mut harness = Harness::new(web::without_sockets(), 160, 40);
    let text = press(&mut harness, &[Enter, Down, Enter]);
    assert!(text.contains("its sockets come with the next figures"), "{text}");
    harness.snapshot = web::snapshot();
    let text = harness.draw();
    assert!(text.contains("10.0.0.1:") && text.contains(" > 10.0.1.2:5432  "), "{text}");
    assert!(text.contains(" left in TIME_WAIT, opened by api[300], seen"), "{text}");
    press(&mut harness, &[Down, Enter]);
    assert!(harness.text().contains("opened by api[300]"), "a socket opens into nothing");
    insta::assert_snapshot!("sockets_in_place_160x40", harness.text());
}

#[test]
fn a_destination_opens_into_who_uses_it() {
    let mut harness = Harness::new(web::snapshot(), 120, 40);
    harness.type_in("2");
    press(&mut harness, &[Enter, Down]);
    insta::assert_snapshot!("destination_opened_120x40", harness.text());
    // The figures are those of the pair, and the ports are those of the destination.
    assert!(harness.chosen().contains("api[300]"), "{}", harness.chosen());
    assert!(harness.text().contains("T TIME_WAIT"), "{}", harness.text());
}

#[test]
fn children_follow_the_filter_where_any_fits() {
    let mut harness = Harness::new(web::snapshot(), 120, 40);
    harness.type_in("gggg");
    press(&mut harness, &[Enter]);
    let children = |harness: &Harness| harness.text().lines().filter(|line| line.starts_with("  ▸ ")).count();
    assert_eq!(children(&harness), 3, "{}", harness.text());
    harness.type_in("/dest::5432");
    assert_eq!(children(&harness), 1, "{}", harness.text());
    press(&mut harness, &[Esc]);
    // No process is called so: it is their parent.
    harness.type_in("/program:systemd");
    assert_eq!(children(&harness), 3, "{}", harness.text());
}

#[test]
fn the_filter_is_completed() {
    let mut harness = Harness::new(web::snapshot(), 120, 24);
    let text = harness.type_in("/pro");
    assert!(text.contains("Tab: program:"), "{text}");
    press(&mut harness, &[TabKey]);
    assert_eq!(harness.state.filter, "program:");
    let text = harness.type_in("ap");
    assert!(text.contains("Tab: api"), "{text}");
    press(&mut harness, &[TabKey, TabKey]);
    assert_eq!(harness.state.filter, "program:api");
    press(&mut harness, &[Esc]);
    // As far as there is one way.
    harness.type_in("2/dest:10.0.");
    press(&mut harness, &[TabKey]);
    assert!(harness.state.filter.starts_with("dest:10.0."), "{}", harness.state.filter);
}

#[test]
fn columns_are_chosen() {
    let mut harness = Harness::new(web::snapshot(), 200, 60);
    assert!(!harness.text().contains("RETRANS"), "{}", harness.text());
    harness.type_in("c");
    insta::assert_snapshot!("columns_200x60", harness.text());
    // The last of them, shown and hidden again.
    press(&mut harness, &[Char('s'), Char('c'), Home, End]);
    let last = harness.text();
    assert!(!last.contains("[x] COMMAND LINE") || last.contains("[ ] "), "{last}");
    press(&mut harness, &[Enter, Esc]);
    assert!(!harness.text().lines().any(|line| line.contains("COMMAND LINE")), "{}", harness.text());
    harness.type_in("c");
    press(&mut harness, &[End, Char(' ')]);
    let Outcome::Copy(setting) = harness.press(Char('y')) else { panic!("nothing to copy") };
    assert!(setting.starts_with("processes = [\"PID\", \"USER\""), "{setting}");
    assert!(setting.ends_with("\"COMMAND LINE\"]"), "{setting}");
    press(&mut harness, &[Char('d'), Esc]);
    assert_eq!(harness.state.columns, model::Columns::default());
    // Only those of the configuration, in its order.
    harness.state.columns.processes = Some(vec!["live".to_owned(), "Retrans".to_owned(), "PID".to_owned()]);
    let text = harness.draw();
    let head = text.lines().find(|line| line.starts_with("PROGRAM")).unwrap();
    let place = |name: &str| head.find(name).unwrap();
    assert!(place("LIVE") < place("RETRANS") && place("RETRANS") < place("PID"), "{head}");
    assert!(!head.contains("CREATED"), "{head}");
}

#[test]
fn what_was_lost_is_a_log() {
    let mut harness = Harness::new(web::lossy(), 100, 30);
    harness.state.losses.add(&harness.snapshot);
    insta::assert_snapshot!("losses_100x30", harness.type_in("l"));
    press(&mut harness, &[Esc]);
    assert_eq!(harness.state.overlay, None);
}

#[test]
fn two_moments_are_compared() {
    let mut harness = Harness::new(web::snapshot(), 120, 40);
    assert_eq!(harness.press(Char('m')), Outcome::Mark);
    harness.state.mark = Some(std::sync::Arc::new(web::early()));
    insta::assert_snapshot!("compared_120x40", harness.type_in("m"));
    assert_eq!(harness.press(Char('m')), Outcome::Mark, "this moment instead");
    assert_eq!(harness.state.overlay, None);
}

#[test]
fn the_interval_goes_up_and_down() {
    use std::time::Duration;
    let mut harness = Harness::new(web::snapshot(), 80, 24);
    assert_eq!(harness.press(Char('+')), Outcome::Interval(Duration::from_secs(2)));
    assert!(harness.text().contains("every 2.0s"), "{}", harness.text());
    for _ in 0..20 {
        harness.press(Char('-'));
    }
    assert_eq!(harness.state.interval, Duration::from_millis(100));
    assert_eq!(harness.press(Char('-')), Outcome::Done, "there is no shorter one");
    assert_eq!(harness.press(Char('!')), Outcome::Record);
}

#[test]
fn high_contrast_has_its_own_background() {
    let mut harness = Harness::new(web::snapshot(), 120, 40);
    harness.state.look.palette = Palette::Contrast;
    harness.type_in("?");
    let cells = harness.cells();
    assert!(cells.iter().all(|cell| cell.bg != ratatui::style::Color::Reset), "each cell is on black");
}
