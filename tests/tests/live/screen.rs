//! The screen on a real terminal.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use twtrace_core::recording::Info;
use twtrace_recording::reader::Recording;
use twtrace_tests::record::json_of;
use twtrace_tests::terminal::Terminal;
use twtrace_tests::top::{churn, number};
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
    let netns = place.netns().to_string();
    let screen = top(&place, &["--netns", &netns]);
    screen.wait("TIME_WAIT");
    churn(&place, &["--processes", "1", "--connections", "500"]);
    screen.wait("churn-0");
    screen.press("2");
    // Which destinations come first depends on the order in which their connections ended.
    screen.wait("127.0.1.");
    screen.press("3");
    screen.wait("[3:Sockets]");
    screen.press("?");
    screen.wait("freeze");
    // Any key closes the help; the list is drawn again.
    screen.press("?");
    screen.wait("TIME_WAIT");
    // A destination opens into who uses it, and that into its sockets, which are listed from then on.
    screen.press("2/dest:127.0.1.1/32\r");
    screen.wait("1 destination");
    screen.press("\r\x1b[B");
    screen.wait(" > 127.0.1.1");
    screen.press("\r");
    screen.wait(" left in TIME_WAIT, opened by churn-0[");
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
        let deadline = Instant::now() + Duration::from_secs(20);
        while !screen.written().contains("coverage") && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        let written = screen.written();
        assert!(written.contains(ENTER_SCREEN) && written.contains("coverage"), "{written:?}");
        assert_eq!(colour(&written), expected, "{written:?}");
        screen.press("q");
        assert_eq!(screen.end(), (true, true));
    }
}

/// Connections of the load below.
const CONNECTIONS: u64 = 300;

#[test]
fn recording_from_the_screen_has_what_happens_while_it_runs() {
    for ends_with_a_key in [true, false] {
        let place = Place::new();
        let folder = TempDir::new().unwrap();
        let mut command = Command::new(program("twtrace"));
        command.args(["top", "--interval", "200ms"]).current_dir(folder.path());
        let screen = Terminal::start(&place, command, 120, 40);
        screen.wait("TIME_WAIT");
        let before = churn(&place, &["--processes", "1", "--connections", "100"]);
        screen.wait("churn-0");
        screen.press("!");
        screen.wait(" REC twtrace-");
        // The recording begins with the next read of the ring buffer. Its first census is on the disk then.
        let name = awaited(folder.path());
        let churned = churn(&place, &["--processes", "1", "--connections", &CONNECTIONS.to_string()]);
        if ends_with_a_key {
            screen.press("!");
            screen.wait("recorded ");
        }
        screen.press("q");
        assert_eq!(screen.end(), (true, true));
        let report = json_of(folder.path(), &format!("report {name} --format json"));
        assert!(Recording::open(&folder.path().join(&name)).unwrap().info().finished);
        let rows = report["processes"].as_array().unwrap();
        let row = rows.iter().find(|row| row["pid"] == churned.workers[0].who.pid).unwrap();
        // Its last counters are older than its end, so they cannot say what a kernel hides from all tracers: some hide one of
        // thousands.
        let created = number(row, "/time_wait_created");
        assert!((CONNECTIONS - CONNECTIONS / 100..=CONNECTIONS).contains(&created), "{created} created");
        // What the screen knew is known: the program's name, and that those of before were there.
        assert_eq!(row["program"], "churn-0", "{row}");
        assert!(rows.iter().all(|row| row["pid"] != before.workers[0].who.pid || number(row, "/opened") == 0));
    }
}

/// Whether a recording has a second of time.
fn is_under_way(info: &Info) -> bool {
    info.end_unix_ns - info.start_unix_ns > 1_000_000_000
}

#[test]
fn recording_that_is_ended_at_once_is_whole_and_one_that_cannot_begin_is_reported() {
    let place = Place::new();
    let start = |folder: &Path| {
        let mut command = Command::new(program("twtrace"));
        // No view comes soon.
        command.args(["top", "--interval", "60s"]).current_dir(folder);
        let screen = Terminal::start(&place, command, 120, 40);
        screen.wait("TIME_WAIT");
        screen
    };
    let folder = TempDir::new().unwrap();
    let screen = start(folder.path());
    screen.press("!q");
    assert_eq!(screen.end(), (true, true));
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(names.len(), 1, "{names:?}");
    assert!(Recording::open(&names[0]).unwrap().info().finished);

    let gone = TempDir::new().unwrap();
    let screen = start(gone.path());
    gone.close().unwrap();
    screen.press("!");
    screen.wait("not recorded: ");
    screen.press("q");
    assert_eq!(screen.end(), (true, true));
}

/// The name of the recording in a folder, once it has a census.
fn awaited(folder: &Path) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let mut names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        if let Some(name) = names.next()
            && Recording::open(&folder.join(&name)).is_ok_and(|recording| is_under_way(recording.info()))
        {
            return name;
        }
        assert!(Instant::now() < deadline, "no recording in {}", folder.display());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn configuration_changes_the_screen_and_a_mistake_in_it_is_named() {
    let place = Place::new();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("twtrace/config.toml");
    fs::create_dir(file.parent().unwrap()).unwrap();
    let config = |arguments: &[&str]| {
        let mut command = Command::new(program("twtrace"));
        command.args(arguments).env("XDG_CONFIG_HOME", folder.path());
        command
    };
    for (text, wanted, mistake) in [
        ("by = \"user\"\n[columns]\nprocesses = [\"retrans\", \"LIVE\"]\n", "RETRANS", None),
        ("by = \"shoe\"\n", "the configuration is not used", Some("line 1: by: expected one of process")),
    ] {
        fs::write(&file, text).unwrap();
        let screen = Terminal::start(&place, config(&["top"]), 120, 40);
        screen.wait(wanted);
        screen.press("q");
        assert_eq!(screen.end(), (true, true));
        let output = config(&["config"]).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(i32::from(mistake.is_some())), "{said}");
        assert!(said.lines().count() == 1 && said.contains("/twtrace/config.toml"), "{said}");
        assert!(said.contains(mistake.unwrap_or("no mistakes")), "{said}");
    }
    // The defaults are a valid file.
    let output = config(&["config", "--default"]).output().unwrap();
    fs::write(&file, &output.stdout).unwrap();
    assert!(config(&["config"]).output().unwrap().status.success());
}
