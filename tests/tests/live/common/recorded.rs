//! A recording of known events.

use tempfile::TempDir;
use twtrace_core::event::{Event, KernelCounters, KernelFacts, Role};
use twtrace_recording::writer::{Recorder, WriteOptions};
pub(crate) use twtrace_testkit::SECOND_NS as SECOND;
use twtrace_testkit::{
    BuildConnection as _, BuildOwner as _, MICROSECOND_NS, NETNS, answered, connect_failed, kernel, kernel_facts,
    owner, process, process_facts, start, tick, tuple, user,
};

pub(crate) const START: u64 = 5000 * SECOND;
/// Two seals by time, and the last segment.
pub(crate) const LENGTH: u64 = 25 * 60;
const OTHER_NETNS: u32 = NETNS + 1;

/// A name that begins like a formula and acts on terminals.
pub(crate) const HOSTILE: &[u8] = b"=\x1b[2J\xe2\x80\xae,\"x";

/// The cgroup of all processes.
const CGROUP: u64 = 7;

fn figures(overflow: u64) -> KernelFacts {
    KernelFacts {
        time_wait: 10,
        time_wait_overflow: overflow,
        tw_reuse: 2,
        reserved_in_range: 2,
        reserved_ports: "40000-40001".to_owned(),
        ..kernel_facts()
    }
}

/// Twenty-five minutes in which a script starts a `curl` each ten seconds (three connections each), `api` opens a
/// connection each second, `nginx` accepts one each five seconds that its peers close, what `listener` accepts each
/// minute is closed by `handler`, and three connects fail.
pub(crate) fn events() -> Vec<Event> {
    let mut events = vec![start(START).host("web-1", "", "").event()];
    let api = owner(300, "api").user(1001).in_cgroup(CGROUP);
    let nginx = owner(100, "nginx").user(33).parent(99, "nginx").in_cgroup(CGROUP);
    let listener = owner(600, "listener").user(1001).in_cgroup(CGROUP);
    let handler = owner(601, HOSTILE).user(1001).parent(600, "listener").in_cgroup(CGROUP);
    events.extend([(33, "www-data"), (1000, "deploy"), (1001, "app")].map(|(uid, name)| user(uid, name)));
    let mut cookie = 0;
    for second in 1..=LENGTH {
        let now = START + second * SECOND;
        // Not at the end of the second: what happens there belongs to the next.
        let mut add = |(opener, closer), tuple, (role, first), part: u64, step_us: u64| {
            cookie += 1;
            let end_ns = now - SECOND + part * SECOND / 10;
            let connection = answered(cookie, opener, tuple, end_ns).closed_by(closer);
            events.push(connection.usual(role, first, step_us * MICROSECOND_NS).event());
        };
        let port = 32_768 + (second % 20_000) as u16;
        add((api, api), tuple(port, [10, 0, 1, 2], 5432), (Role::Active, true), 1, 1000 + second);
        if second % 10 == 0 {
            let curl = owner(2000 + second as u32, "curl").user(1000).parent(500, "cron.sh").in_cgroup(CGROUP);
            for part in 2..5 {
                add((curl, curl), tuple(port + part as u16, [10, 0, 1, 1], 443), (Role::Active, true), part, 500);
            }
        }
        if second % 5 == 0 {
            add((nginx, nginx), tuple(80, [10, 0, 1, 50], port), (Role::Passive, false), 5, 2000);
        }
        if second % 60 == 0 {
            add((listener, handler), tuple(9000, [10, 0, 1, 51], port), (Role::Passive, true), 6, 3000);
        }
        if second % 500 == 0 {
            events.push(connect_failed(api, tuple(0, [10, 0, 1, 3], 11_211), 99, now - 1000));
        }
        if second == 2 {
            for (who, cmdline) in [(api, "/usr/bin/api --pool=0"), (handler, "=handler \u{1b}]0;x\u{7}\u{202e}")] {
                events.push(process(&who, process_facts(cmdline)));
            }
        }
        events.push(kernel(figures(3 + second / 300)));
        events.push(Event::Kernel { netns: OTHER_NETNS, facts: figures(second / 1000) });
        let lost = second / 100;
        events.push(Event::Counters(KernelCounters { ring_full: lost, stale: 2 * lost, ..KernelCounters::default() }));
        events.push(tick(now));
    }
    events
}

/// Name of the recording.
pub(crate) const NAME: &str = "incident.twt";

/// A folder with the recording.
pub(crate) fn recorded() -> TempDir {
    let mut folder = TempDir::new().unwrap();
    folder.disable_cleanup(std::env::var_os("TWTRACE_KEEP").is_some());
    let mut recorder = Recorder::create(&folder.path().join(NAME), WriteOptions::default()).unwrap();
    for event in events() {
        recorder.record(&event).unwrap();
    }
    recorder.finish().unwrap();
    folder
}
