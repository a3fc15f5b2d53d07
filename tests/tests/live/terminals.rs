//! Terminals as they are in the field: one that stops reading, one whose size keeps changing, a serial console.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use twtrace_tests::terminal::Terminal;
use twtrace_tests::top::churn;
use twtrace_tests::tracer::{Place, program};

fn top(place: &Place, arguments: &[&str], environment: &[(&str, &str)], size: (u16, u16)) -> Terminal {
    let mut command = Command::new(program("twtrace"));
    command.arg("top").args(arguments).args(["--interval", "100ms"]).envs(environment.iter().copied());
    Terminal::start(place, command, size.0, size.1)
}

/// How long a process's first thread, which draws, has run so far.
fn drawn(pid: u32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/schedstat")).unwrap_or_default();
    let ran = text.split_whitespace().next().and_then(|ran| ran.parse().ok());
    Duration::from_nanos(ran.expect("the kernel counts it"))
}

#[test]
fn terminal_that_stops_reading_loses_nothing_of_the_trace() {
    let place = Place::new();
    let netns = place.netns().to_string();
    let screen = top(&place, &["--netns", &netns], &[], (200, 60));
    screen.wait("TIME_WAIT");
    screen.look(|_| {
        // Until no more of its output has room.
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            screen.press("21");
            let before = drawn(screen.pid());
            thread::sleep(Duration::from_millis(500));
            if drawn(screen.pid()) == before {
                break;
            }
            assert!(Instant::now() < deadline, "the terminal takes everything");
        }
        churn(&place, &["--processes", "1", "--connections", "2000"]);
    });
    // It reads again.
    screen.wait("created 2,000");
    screen.wait("lost 0");
    screen.press("q");
    assert_eq!(screen.end(), (true, true));
}

#[test]
fn size_that_keeps_changing_ends_in_a_whole_screen() {
    let place = Place::new();
    let screen = top(&place, &[], &[], (80, 24));
    screen.wait("TIME_WAIT");
    for step in 0..300_u32 {
        // From a few cells to a wall of monitors. The emulator here fails below that, not the program, whose unit tests draw
        // on a single cell.
        let (columns, rows) = (step * 37 % 511 + 10, step * 23 % 197 + 4);
        screen.resize(columns as u16, rows as u16);
        if step % 10 == 0 {
            screen.press(["1", "2", "3", "4", "?"][(step / 10 % 5) as usize]);
        }
    }
    // Whatever lies over the screen is closed.
    screen.press("x1");
    screen.resize(100, 30);
    let is_whole = |screen: &vt100::Screen| {
        let text = screen.contents();
        text.contains("[1:Processes]") && text.lines().count() == 30 && text.contains("q quit")
    };
    assert!(screen.answer("", Duration::from_secs(60), is_whole).is_some(), "{}", screen.screen());
    screen.press("q");
    assert_eq!(screen.end(), (true, true));
}

#[test]
fn serial_console_gets_ascii_without_colours() {
    let place = Place::new();
    let environment = [("TERM", "vt220"), ("LC_ALL", "C"), ("LANG", "C")];
    let screen = top(&place, &[], &environment, (80, 24));
    screen.wait("TIME_WAIT");
    churn(&place, &["--processes", "1", "--connections", "200"]);
    screen.wait("churn-0");
    let keys = [
        ("2", "[2:Destinations]"),
        ("3", "[3:Sockets]"),
        ("4", "[4:Findings"),
        ("?", "other key closes"),
        ("x1", "[1:Processes]"),
        ("c", "Space shows or hides"),
    ];
    for (key, text) in keys {
        let is_there = |screen: &vt100::Screen| screen.contents().contains(text);
        assert!(screen.answer(key, Duration::from_secs(60), is_there).is_some(), "{}", screen.screen());
        let written = screen.written();
        assert!(written.is_ascii(), "{written:?}");
        // A colour is 30 to 48 or 90 to 107 in a sequence that ends in m; 39 and 49 are the terminal's own.
        let colours = written.split("\x1b[").filter_map(|rest| rest.split_once('m')).filter(|(codes, _)| {
            codes.split(';').any(|code| matches!(code.parse::<u8>(), Ok(30..=38 | 40..=48 | 90..=107)))
        });
        assert_eq!(colours.count(), 0, "{written:?}");
    }
    screen.press("xq");
    assert_eq!(screen.end(), (true, true));
}
