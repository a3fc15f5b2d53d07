//! Least rights: a tracer that has only what it needs finds what one with all of it finds, and can do nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, id};

use nix::unistd::User;
use serde_json::Value;
use twtrace_tests::agent::{Agent, samples};
use twtrace_tests::record::json_of;
use twtrace_tests::top::{churn, quiet_place};
use twtrace_tests::tracer::{Place, program};

use crate::agent::{created, opened};

const CONNECTIONS: &str = "600";

/// Numbers of capabilities, `include/uapi/linux/capability.h`.
const DAC_READ_SEARCH: u64 = 1 << 2;
const SYS_PTRACE: u64 = 1 << 19;
const SYS_ADMIN: u64 = 1 << 21;
const PERFMON: u64 = 1 << 38;
const BPF: u64 = 1 << 39;

/// What a thread may have once the programs are loaded.
const KEPT: [(&str, u64); 6] = [
    ("tracer", BPF | SYS_ADMIN | SYS_PTRACE | DAC_READ_SEARCH),
    ("namespaces", SYS_ADMIN | SYS_PTRACE | DAC_READ_SEARCH),
    ("socket-owners", SYS_PTRACE | DAC_READ_SEARCH),
    ("sweep", BPF),
    // It enters network namespaces.
    ("visit", BPF | SYS_ADMIN | SYS_PTRACE | DAC_READ_SEARCH),
    // Those that answer, write, and look up users.
    ("", 0),
];

/// What a thread can do after all: it reads files, and the user database may be a server.
const POSSIBLE: [(&str, &[&str]); 6] = [
    ("main", &[]),
    ("tracer", &["read a home directory"]),
    ("namespaces", &["read a home directory"]),
    ("socket-owners", &["read a home directory"]),
    ("sweep", &["read a home directory"]),
    ("user names", &["read a home directory", "connect to a port", "connect to a daemon"]),
];

/// What root can do on every host.
const BY_ROOT: [&str; 10] = [
    "start a program",
    "become another program",
    "write a file elsewhere",
    "trace a process",
    "load an eBPF program",
    "enter a user namespace",
    "open a file by its handle",
    "change the user",
    "connect to a port",
    "connect to a daemon",
];

/// The program and the object where any user can read them, and a folder that belongs to `nobody`.
struct Installed {
    folder: tempfile::TempDir,
    object: Option<PathBuf>,
}

impl Installed {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy(program("twtrace"), folder.path().join("twtrace")).unwrap();
        let object = std::env::var_os("TWTRACE_BPF_OBJECT").map(|object| {
            let copy = folder.path().join("twtrace.bpf.o");
            fs::copy(object, &copy).unwrap();
            copy
        });
        let state = folder.path().join("state");
        fs::create_dir(&state).unwrap();
        let nobody = nobody();
        chown(&state, Some(nobody.uid.as_raw()), Some(nobody.gid.as_raw())).unwrap();
        Self { folder, object }
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// A command that runs it as `nobody` with these capabilities: `+bpf,+perfmon`.
    fn as_nobody(&self, capabilities: &str) -> Command {
        let nobody = nobody();
        let mut command = Command::new("setpriv");
        command.args([
            format!("--reuid={}", nobody.uid),
            format!("--regid={}", nobody.gid),
            "--clear-groups".to_owned(),
        ]);
        for set in ["bounding-set", "inh-caps", "ambient-caps"] {
            command.arg(format!("--{set}=-all,{capabilities}"));
        }
        command.arg(self.folder.path().join("twtrace")).current_dir("/");
        if let Some(object) = &self.object {
            command.env("TWTRACE_BPF_OBJECT", object);
        }
        command
    }
}

fn nobody() -> User {
    User::from_name("nobody").unwrap().unwrap()
}

/// A thread, as `/proc` shows it.
#[derive(Debug)]
struct Thread {
    name: String,
    status: BTreeMap<String, String>,
}

impl Thread {
    fn field(&self, name: &str) -> &str {
        self.status.get(name).map_or("", String::as_str)
    }

    fn effective(&self) -> u64 {
        u64::from_str_radix(self.field("CapEff"), 16).unwrap()
    }
}

fn threads(pid: u32) -> Vec<Thread> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    // One may end meanwhile.
    let texts = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
    let fields = |text: &str| -> BTreeMap<String, String> {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
    };
    texts.map(|text| fields(&text)).map(|status| Thread { name: status["Name"].clone(), status }).collect()
}

/// Asserts that each thread has at most what it may have of what the process had at its start.
fn assert_confined(pid: u32, given: u64, uid: u32) {
    let threads = threads(pid);
    let names: Vec<&str> = threads.iter().map(|thread| thread.name.as_str()).collect();
    for name in ["tracer", "namespaces", "socket-owners", "sweep", "user names", "record", "seal"] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    for thread in &threads {
        let (_, kept) = KEPT.iter().find(|(name, _)| [&thread.name, ""].contains(name)).unwrap();
        assert_eq!(thread.effective(), kept & given, "{thread:?}");
        for set in ["CapPrm", "CapEff"] {
            assert_eq!(thread.field(set), thread.field("CapEff"), "{thread:?}");
        }
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(u64::from_str_radix(thread.field(set), 16), Ok(0), "{thread:?}");
        }
        assert_eq!((thread.field("NoNewPrivs"), thread.field("Seccomp")), ("1", "2"), "{thread:?}");
        assert!(thread.field("Uid").split_whitespace().all(|one| one == uid.to_string()), "{thread:?}");
        if uid == 0 {
            assert_eq!(u64::from_str_radix(thread.field("CapBnd"), 16), Ok(0), "{thread:?}");
        }
    }
}

/// Loads the agent in its own network namespace and in another one, and asserts that all of it was seen, listed and recorded.
/// Without CAP_SYS_ADMIN, no other namespace is listed.
fn assert_sees_all(command: Option<Command>, arguments: &[&str], folder: &Path, given: u64, uid: u32) -> String {
    let (home, other) = (quiet_place(), quiet_place());
    let folder = folder.to_str().unwrap();
    let arguments = [&["--metrics-by", "command", "--dir", folder], arguments].concat();
    let agent = match command {
        Some(command) => Agent::start_by(&home, command, &arguments),
        None => Agent::start(&home, &arguments),
    };
    assert_confined(agent.pid(), given, uid);
    let (here, there) = (
        churn(&home, &["--processes", "3", "--connections", CONNECTIONS]),
        churn(&other, &["--processes", "3", "--connections", CONNECTIONS]),
    );
    let total = opened(&here) + opened(&there);
    let both = |report: &Value| created(report, &here) + created(report, &there);
    let answer =
        agent.wait("/api/v1/snapshot?by=pid", |answer| both(&serde_json::from_str(&answer.body).unwrap()) == total);
    let report: Value = serde_json::from_str(&answer.body).unwrap();
    assert!(report["tracing"]["lost"].as_object().unwrap().values().all(|lost| lost == 0), "{report}");
    for churned in [&here, &there] {
        for worker in &churned.workers {
            let rows = report["processes"].as_array().unwrap();
            let row = rows.iter().find(|row| row["pid"] == worker.who.pid).unwrap();
            assert_eq!(row["command"].as_str(), Some(worker.who.comm.as_str()), "{row}");
        }
    }

    let metrics = agent.get("/metrics").body;
    let of_load: f64 = samples(&metrics, "twtrace_time_wait_created_total")
        .iter()
        .filter(|(labels, _)| here.workers.iter().any(|one| labels.contains(&format!("\"{}\"", one.who.comm))))
        .map(|(_, value)| value)
        .sum();
    assert!(of_load >= opened(&here) as f64, "{metrics}");

    let mut listed = opened(&here);
    if given & SYS_ADMIN != 0 {
        listed += opened(&there);
    }
    let of_load = |socket: &&Value| {
        let mut workers = here.workers.iter().chain(&there.workers);
        workers.any(|worker| socket["closer"]["pid"] == worker.who.pid)
    };
    agent.wait("/api/v1/sockets", |answer| {
        let sockets: Value = serde_json::from_str(&answer.body).unwrap();
        sockets["sockets"].as_array().unwrap().iter().filter(of_load).count() as u64 == listed
    });
    assert_confined(agent.pid(), given, uid);
    let said = agent.before() + "\n" + &agent.end();
    let recorded = json_of(Path::new(folder), "report flight.twt --format json --by pid");
    assert_eq!(both(&recorded), total, "{}", recorded["processes"]);
    said
}

#[test]
fn user_with_two_capabilities_traces_lists_records_and_answers() {
    let installed = Installed::new();
    let command = installed.as_nobody("+bpf,+perfmon");
    let said = assert_sees_all(Some(command), &[], &installed.state(), BPF | PERFMON, nobody().uid.as_raw());
    assert!(said.contains("confined: capabilities CAP_BPF;"), "{said}");
}

#[test]
fn user_who_cannot_read_tracefs_sees_calls_return() {
    let (installed, home) = (Installed::new(), Place::new());
    let mut command = installed.as_nobody("+bpf,+perfmon");
    // Here tracefs may be readable for everyone.
    command.env("TWTRACE_EXITS", "all");
    let agent = Agent::start_by(&home, command, &[]);
    let hooks = agent.json("/api/v1/snapshot")["tracing"]["hooks"].as_array().unwrap().clone();
    let of_calls: Vec<&Value> =
        hooks.iter().filter(|hook| hook["name"].as_str().unwrap().starts_with("syscalls:")).collect();
    for hook in &of_calls {
        assert_eq!((&hook["attached"], &hook["kind"]), (&true.into(), &"tp_btf".into()), "{hook}");
    }
    assert!(of_calls.iter().any(|hook| hook["name"] == "syscalls:sys_exit_connect"), "{hooks:?}");
    home.run(|| {
        // Addresses for documentation: they are no one's here, and there is no route to them.
        (0..3).for_each(|_| assert!(TcpListener::bind("192.0.2.1:7001").is_err()));
        (0..2).for_each(|_| assert!(TcpStream::connect("192.0.2.1:7001").is_err()));
    });
    let failures = |report: &Value, call: &str, errno: &str| -> u64 {
        let rows = report["failures"].as_array().unwrap().iter();
        let ours = rows.filter(|row| row["pid"] == id() && row["call"] == call && row["errno"] == errno);
        ours.filter_map(|row| row["count"].as_u64()).sum()
    };
    agent.wait("/api/v1/snapshot", |answer| {
        let report: Value = serde_json::from_str(&answer.body).unwrap();
        let connects = report["totals"]["errors"]["ENETUNREACH"].as_u64().unwrap_or(0);
        failures(&report, "bind", "EADDRNOTAVAIL") == 3 && connects == 2
    });
    agent.end();
}

#[test]
fn five_capabilities_of_the_unit_list_other_namespaces_too() {
    let installed = Installed::new();
    let command = installed.as_nobody("+bpf,+perfmon,+sys_admin,+sys_ptrace,+dac_read_search");
    let given = BPF | PERFMON | SYS_ADMIN | SYS_PTRACE | DAC_READ_SEARCH;
    assert_sees_all(Some(command), &[], &installed.state(), given, nobody().uid.as_raw());
}

#[test]
fn root_becomes_another_user_and_keeps_what_tracing_needs() {
    let installed = Installed::new();
    let said = assert_sees_all(None, &["--user", "nobody"], &installed.state(), u64::MAX, nobody().uid.as_raw());
    assert!(said.contains("confined: "), "{said}");
}

/// What the threads tried, by thread and attempt: whether it is possible.
fn attempts(said: &str) -> BTreeMap<(String, String), bool> {
    let attempt = |line: &str| {
        let mut parts = line.strip_prefix("attempt: ")?.split(": ");
        let (thread, what, result) = (parts.next()?, parts.next()?, parts.next()?);
        assert!(["possible", "refused"].contains(&result), "{line}");
        Some(((thread.to_owned(), what.to_owned()), result == "possible"))
    };
    said.lines().filter_map(attempt).collect()
}

#[test]
fn agent_of_root_can_do_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(program("twtrace"));
    command.env("TWTRACE_ATTEMPTS", "1");
    let said = assert_sees_all(Some(command), &[], folder.path(), u64::MAX, 0);
    let attempts = attempts(&said);
    let has_landlock = said.contains("; Landlock ");
    assert!(has_landlock || said.contains("not limited by Landlock"), "{said}");
    for (thread, possible) in POSSIBLE {
        let of_thread: Vec<_> = attempts.iter().filter(|((name, _), _)| name == thread).collect();
        assert!(of_thread.len() > BY_ROOT.len(), "{thread} tried only {of_thread:?}: {said}");
        for ((_, what), is_possible) in of_thread {
            // Without Landlock, the thread that writes the recording can write elsewhere.
            let by_landlock = ["read a home directory", "write a file elsewhere"].contains(&what.as_str());
            if thread != "main" || has_landlock || !by_landlock {
                assert_eq!(*is_possible, possible.contains(&what.as_str()), "{thread}: {what}");
            }
        }
    }
}

#[test]
fn unconfined_agent_can_do_what_root_can() {
    let home = quiet_place();
    let mut command = Command::new(program("twtrace"));
    command.env("TWTRACE_ATTEMPTS", "1");
    let agent = Agent::start_by(&home, command, &["--unconfined"]);
    for thread in threads(agent.pid()) {
        assert_eq!((thread.field("NoNewPrivs"), thread.field("Seccomp")), ("0", "0"), "{thread:?}");
    }
    let said = agent.before() + "\n" + &agent.end();
    let attempts = attempts(&said);
    for what in BY_ROOT {
        assert_eq!(attempts.get(&("tracer".to_owned(), what.to_owned())), Some(&true), "{what}: {said}");
    }
    assert!(said.contains("not confined"), "{said}");
}
