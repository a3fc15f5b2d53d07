//! The screen on a real terminal.

use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use twtrace_tests::terminal::Terminal;
use twtrace_tests::top::churn;
use twtrace_tests::tracer::{Place, program};

const ENTER_SCREEN: &str = "\x1b[?1049h";
const LEAVE_SCREEN: &str = "\x1b[?1049l";

fn top(place: &Place, arguments: &[&str]) -> Terminal {
    let mut command = Command::new(program("twtrace"));
    command.arg("top").args(arguments).args(["--interval", "200ms"]);
    Terminal::start(place, command, 120, 40)
}

#[test]
fn screen_names_the_process_and_quits() {
    let place = Place::new();
    let screen = top(&place, &[]);
    screen.wait("TIME_WAIT");
    churn(&place, &["--processes", "1", "--connections", "500"]);
    screen.wait("churn-0");
    screen.press("2");
    screen.wait("127.0.1.1");
    screen.press("3");
    screen.wait("[3:Sockets]");
    screen.press("?");
    screen.wait("freeze");
    // Any key closes the help; the list is drawn again.
    screen.press("?");
    screen.wait("TIME_WAIT");
    screen.press("q");
    assert_eq!(screen.end(), (true, true));
}

#[test]
fn signals_restore_the_terminal() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let place = Place::new();
        let screen = top(&place, &[]);
        screen.wait("TIME_WAIT");
        kill(Pid::from_raw(screen.pid() as i32), signal).unwrap();
        screen.wait(LEAVE_SCREEN);
        assert_eq!(screen.end(), (true, true), "{signal}");
    }
}

#[test]
fn colours_are_left_out_on_request() {
    // Sequences that end in m set attributes; 39 and 49 go back to the terminal's own colours.
    let colour = |text: &str| {
        text.split("\x1b[").skip(1).any(|sequence| {
            let end = sequence.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(0);
            let mut codes = sequence[..end].split(';').filter_map(|code| code.parse::<u8>().ok());
            sequence[end..].starts_with('m') && codes.any(|code| matches!(code, 30..=38 | 40..=48 | 90..=107))
        })
    };
    for (arguments, expected) in [(&[][..], true), (&["--no-color"][..], false)] {
        let place = Place::new();
        let screen = top(&place, arguments);
        // Output is kept until the next wait, so check it before.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !screen.written().contains("coverage") && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let written = screen.written();
        assert!(written.contains(ENTER_SCREEN) && written.contains("coverage"), "{written:?}");
        assert_eq!(colour(&written), expected, "{written:?}");
        screen.press("q");
        assert_eq!(screen.end(), (true, true));
    }
}
