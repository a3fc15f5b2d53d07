//! `twtrace top` under test: started in a place, awaited, ended with a signal, its report read.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::objects::Objects;
use crate::schema;
use crate::tracer::{Place, program};
use crate::workload::Churned;

/// How long the next report may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running `twtrace top --json`. Dropping this before its end kills it.
pub struct Top {
    child: Child,
    /// Lines that it has written. They are read continuously: a full pipe would block it.
    reports: Receiver<String>,
}

impl Top {
    /// Starts it in a place with these arguments, and waits until it traces: its first report comes after it has
    /// attached.
    ///
    /// # Panics
    /// If it cannot trace.
    pub fn start(place: &Place, arguments: &[&str]) -> Self {
        let mut command = Command::new(program("twtrace"));
        let interval = if arguments.contains(&"--interval") { &[][..] } else { &["--interval", "200ms"] };
        // The ground truth is per process.
        let by = if arguments.contains(&"--by") { &[][..] } else { &["--by", "pid"] };
        command.args(["top", "--json"]).args(by).args(interval).args(arguments).stdout(Stdio::piped());
        let mut child = place.spawn(command);
        let output = child.stdout.take().expect("its output is piped");
        let (sender, reports) = channel();
        thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let top = Self { child, reports };
        top.report();
        top
    }

    /// The same, for the sockets of that place only: other tests may run in other places.
    ///
    /// # Panics
    /// If it cannot trace.
    pub fn start_here(place: &Place, arguments: &[&str]) -> Self {
        let netns = place.netns().to_string();
        Self::start(place, &[&["--netns", &netns], arguments].concat())
    }

    /// The next report.
    ///
    /// # Panics
    /// If there is none.
    pub fn report(&self) -> Value {
        let line = self.reports.recv_timeout(PATIENCE).expect("top ended");
        serde_json::from_str(&line).expect("a report is JSON")
    }

    /// The newest report: the next one after those that were written before.
    ///
    /// # Panics
    /// If there is none.
    pub fn newest(&self) -> Value {
        while self.reports.try_recv().is_ok() {}
        self.report()
    }

    /// Waits for a report that `enough` accepts.
    ///
    /// # Panics
    /// If none comes for two minutes.
    pub fn wait(&self, enough: impl Fn(&Value) -> bool) -> Value {
        // Older reports are read first, so the number of reports is no measure of time.
        let began = Instant::now();
        loop {
            let last = self.report();
            if enough(&last) {
                return last;
            }
            assert!(began.elapsed() < PATIENCE, "no such report; of the last one: {}", digest(&last));
        }
    }

    /// Waits for a census of its own namespace that lists this many TIME_WAIT sockets. The last census is cut short on a
    /// busy host.
    ///
    /// # Panics
    /// If there is none for two minutes.
    pub fn await_census(&self, sockets: u64) {
        self.wait(|report| number(own(report), "/coverage/census") == sockets);
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Peak memory of the program so far, in bytes.
    pub fn peak_memory(&self) -> u64 {
        peak_memory(self.child.id())
    }

    /// Ends it with a signal and returns its last report.
    ///
    /// # Panics
    /// If it fails.
    pub fn end(self) -> Value {
        self.end_by(Signal::SIGTERM).report
    }

    /// The same with SIGINT, which cuts the last census short, and the times that it took.
    ///
    /// # Panics
    /// As [`Self::end`].
    pub fn end_timed(self) -> End {
        self.end_by(Signal::SIGINT)
    }

    fn end_by(mut self, signal: Signal) -> End {
        let asked = Instant::now();
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("top runs");
        let mut last = None;
        // The channel closes when its output does.
        while let Ok(line) = self.reports.recv_timeout(PATIENCE) {
            last = Some((line, asked.elapsed()));
        }
        let (last, reported) = last.expect("a last report");
        assert!(self.child.wait().expect("top can be waited for").success(), "top failed");
        let report = serde_json::from_str(&last).expect("a report is JSON");
        schema::assert_fits(&schema::TOP, &report);
        End { report, reported, ended: asked.elapsed() }
    }
}

/// How `top` ended.
pub struct End {
    /// Its last report.
    pub report: Value,
    /// From the signal to that report.
    pub reported: Duration,
    /// From the signal to the end of the process, for which the kernel detaches the programs.
    pub ended: Duration,
}

impl Drop for Top {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The signal that ends an instance after its last census.
const END: Signal = Signal::SIGTERM;

/// Waits until another instance traces, one that writes nothing before its end, and until [`interrupt`] can end it.
///
/// # Panics
/// If it does not.
pub fn await_attached(place: &Place, pid: u32) {
    await_programs(place, pid);
    let deadline = Instant::now() + PATIENCE;
    // It attaches before it handles signals, much earlier on a slow machine.
    while !handles(pid, END) {
        assert!(Instant::now() < deadline, "it does not handle signals");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until another instance has attached its programs.
///
/// # Panics
/// If it does not.
pub fn await_programs(place: &Place, pid: u32) {
    // A second instance shows how many links there are once all programs are attached.
    let links = Objects::of_process(Top::start(place, &[]).pid()).links.len();
    let deadline = Instant::now() + PATIENCE;
    while Objects::of_process(pid).links.len() < links {
        assert!(Instant::now() < deadline, "it does not attach");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a process handles a signal itself.
fn handles(pid: u32, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).map(str::trim);
    caught
        .and_then(|caught| u64::from_str_radix(caught, 16).ok())
        .is_some_and(|caught| caught >> (signal as u32 - 1) & 1 == 1)
}

/// Ends another instance with a signal and returns what it wrote.
///
/// # Panics
/// If it fails.
pub fn interrupt(child: Child) -> Output {
    kill(Pid::from_raw(child.id() as i32), END).expect("it runs");
    let output = child.wait_with_output().expect("a child can be waited for");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// The parts of a report that explain most failures: a whole report has thousands of lines.
fn digest(report: &Value) -> String {
    if report["totals"].is_null() {
        return report.to_string();
    }
    let tracing = &report["tracing"];
    let parts = [&report["totals"], &tracing["lost"], &tracing["kernel_counters"], &own(report)["coverage"]];
    parts.map(Value::to_string).join("\n")
}

/// The number at a JSON pointer in a report.
///
/// # Panics
/// If there is none.
pub fn number(report: &Value, pointer: &str) -> u64 {
    let value = report.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}: {}", digest(report)));
    value.as_u64().unwrap_or_else(|| panic!("{pointer} is {value}"))
}

/// The row of a network namespace in a report; `None` before the tracer has found it.
pub fn namespace(report: &Value, netns: u64) -> Option<&Value> {
    report["namespaces"].as_array()?.iter().find(|namespace| namespace["netns"] == netns)
}

/// The row of the tracer's own namespace: on a host with several, any of them may have sockets.
pub fn own(report: &Value) -> &Value {
    let netns = report["host"]["netns"].as_u64();
    netns.and_then(|netns| namespace(report, netns)).unwrap_or(&Value::Null)
}

/// The sum of a figure over the destinations in the tracer's namespace. Not for reports with `--limit`, which leaves
/// some out.
///
/// # Panics
/// If one has no such figure.
pub fn own_destinations(report: &Value, figure: &str) -> u64 {
    let rows = report["destinations"].as_array().into_iter().flatten();
    rows.filter(|row| row["netns"] == report["host"]["netns"]).map(|row| number(row, &format!("/{figure}"))).sum()
}

/// The kernel's own count of TIME_WAIT sockets in a place: `tw` in `/proc/net/sockstat`.
///
/// # Panics
/// If the file has no such figure.
pub fn sockstat_tw(place: &Place) -> u64 {
    let text = place.run(|| fs::read_to_string("/proc/thread-self/net/sockstat")).expect("sockstat");
    let line = text.lines().find(|line| line.starts_with("TCP:")).expect("a TCP line");
    let mut words = line.split_whitespace();
    words.find(|word| *word == "tw").expect("a tw figure");
    words.next().and_then(|word| word.parse().ok()).expect("a number")
}

/// Peak memory of a process so far, in bytes (`VmHWM`).
///
/// # Panics
/// If it is gone.
pub fn peak_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
    1024 * peak.unwrap_or(u64::MAX / 1024)
}

/// Runs the generator's churn in a place until it ends.
///
/// # Panics
/// If it fails.
pub fn churn(place: &Place, arguments: &[&str]) -> Churned {
    let mut command = Command::new(program("twtrace-workload"));
    command.arg("churn").args(arguments).stdout(Stdio::piped());
    let output = place.spawn(command).wait_with_output().expect("a child can be waited for");
    assert!(output.status.success(), "the generator failed");
    serde_json::from_slice(&output.stdout).expect("the generator writes JSON")
}

/// Transitions of this many connections, ten per connection, that a tracer neither saw nor counted as lost. Some vendor
/// kernels at times run no tracing program of any tracer, and do not count that; on other kernels the result is 0.
///
/// The counters are those of the whole host: five transitions of each end of a connection that another user has opened
/// meanwhile are no proof that ours were seen.
pub fn hidden(report: &Value, connections: u64) -> u64 {
    let counter = |name: &str| number(report, &format!("/tracing/kernel_counters/{name}"));
    let of_others = 5 * counter("connections_ended").saturating_sub(2 * connections);
    (10 * connections).saturating_sub((counter("transitions") + counter("recursion")).saturating_sub(of_others))
}

/// The number of connections of a load. On an emulated processor fewer are enough: there `TWTRACE_CONNECTIONS` sets it.
pub fn load(usual: &str) -> String {
    std::env::var("TWTRACE_CONNECTIONS").unwrap_or_else(|_| usual.to_owned())
}

/// A place where no TIME_WAIT socket ends before its minute is over, with room for a quarter of a million.
pub fn quiet_place() -> Place {
    let place = Place::new();
    place.sysctl("ipv4/tcp_tw_reuse", "0");
    // An RST does not end a TIME_WAIT socket.
    place.sysctl("ipv4/tcp_rfc1337", "1");
    place.sysctl("ipv4/tcp_max_tw_buckets", "262144");
    place
}
