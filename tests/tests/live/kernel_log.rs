//! `--debug-kernel`: what the kernel side logs about the sockets that match the filter, and about no others.

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

use twtrace_tests::terminal::Terminal;
use twtrace_tests::top::{await_attached, interrupt, quiet_place};
use twtrace_tests::tracer::{Place, program};

/// Ports that no client is given.
const PORT: u16 = 9943;
const OTHER_PORT: u16 = 9944;

/// One connection in a place to a server at this port, or at any if it is 0: the client closes first.
fn connection(place: &Place, port: u16) {
    place.run(move || {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        drop(client);
        assert_eq!(server.read(&mut [0; 8]).unwrap(), 0);
    });
}

/// Traces with this filter while `work` runs. Returns what it logged, and the result of `work`.
fn logged<T>(place: &Place, filter: &str, work: impl FnOnce() -> T) -> (Vec<String>, T) {
    let mut command = Command::new(program("twtrace"));
    // Longer than needed: a signal ends it.
    command.args(["top", "--once", "--duration", "120s", "--debug-kernel", filter]);
    let child = place.spawn({
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    });
    await_attached(place, child.id());
    let result = work();
    let said = String::from_utf8(interrupt(child).stderr).unwrap();
    (said.lines().map(str::to_owned).collect(), result)
}

#[test]
fn a_filter_by_port_logs_both_ends_of_its_connections_and_no_others() {
    let place = quiet_place();
    let (lines, ()) = logged(&place, &format!("port={PORT},addr=127.0.0.1"), || {
        connection(&place, OTHER_PORT);
        connection(&place, PORT);
    });
    let text = lines.join("\n");
    let there = format!("> 127.0.0.1.{PORT} ");
    let has = |words: &[&str]| lines.iter().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(has(&["kernel: sk:", " active 127.0.0.1.", &there, "CLOSE -> SYN_SENT", &pid()]), "{text}");
    assert!(has(&[" active 127.0.0.1.", &there, "ESTABLISHED -> FIN_WAIT1", &pid()]), "{text}");
    assert!(has(&[&format!(" passive 127.0.0.1.{PORT} > 127.0.0.1."), "CLOSE_WAIT -> LAST_ACK"]), "{text}");
    assert_eq!(lines.iter().filter(|line| line.contains("record written, transitions: 5")).count(), 2, "{text}");
    // In a guest with this setting, the hooks of the exact tier are attached.
    if std::env::var("TWTRACE_TIER").is_ok_and(|tier| tier == "exact") {
        assert!(has(&["TIME_WAIT socket created, state:"]), "{text}");
    }
    // The client's port says nothing: the next connection may have it again.
    assert!(!text.contains(&format!(".{OTHER_PORT} ")), "{OTHER_PORT} was not asked for:\n{text}");
    // Nothing else is on standard error.
    assert!(lines.iter().all(|line| line.starts_with("kernel: sk:")), "{text}");
}

/// This process, as a line names it.
fn pid() -> String {
    format!("opener {} ", std::process::id())
}

#[test]
fn a_filter_that_nothing_matches_logs_nothing() {
    let place = quiet_place();
    // This process connects, but no process connects to that address.
    let filter = format!("pid={},addr=127.0.0.9", std::process::id());
    let (lines, _) = logged(&place, &filter, || connection(&place, 0));
    assert_eq!(lines, Vec::<String>::new());
    let (lines, _) = logged(&place, &format!("pid={}", std::process::id()), || connection(&place, 0));
    assert!(!lines.is_empty(), "this process connected");
}

#[test]
fn kernel_log_on_the_screen_is_a_usage_error() {
    let place = Place::new();
    let mut command = Command::new(program("twtrace"));
    command.args(["top", "--debug-kernel", "port=1"]);
    let screen = Terminal::start(&place, command, 160, 40);
    screen.wait("add --once, or 2>FILE");
    let (success, restored) = screen.end();
    assert!(!success && restored);
}
