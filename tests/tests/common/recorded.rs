//! A recording of events that are known.

use tempfile::TempDir;
use twtrace_core::event::{
    Comm, ConnectFailed, Connection, Event, HostFacts, KernelCounters, KernelFacts, Owner, ProcessFacts, ProcessKey,
    Role, TcpState, TracingFacts, Transition, Tuple,
};
use twtrace_recording::writer::{Recorder, WriteOptions};

pub(crate) const SECOND: u64 = 1_000_000_000;
pub(crate) const START: u64 = 5000 * SECOND;
pub(crate) const START_UNIX: u64 = 1_790_000_000;
/// Two seals by time, and the last segment.
pub(crate) const LENGTH: u64 = 25 * 60;
const NETNS: u32 = 4_026_531_840;
const OTHER_NETNS: u32 = NETNS + 1;

/// A name that begins like a formula and acts on terminals.
pub(crate) const HOSTILE: &[u8] = b"=\x1b[2J\xe2\x80\xae,\"x";

fn owner(pid: u32, name: &[u8], uid: u32, parent: (u32, &[u8])) -> Owner {
    let comm = |name: &[u8]| {
        let mut bytes = [0; 16];
        bytes[..name.len()].copy_from_slice(name);
        Comm(bytes)
    };
    Owner {
        key: ProcessKey { tgid: pid, start_ns: u64::from(pid) * 1000 },
        uid,
        ppid: parent.0,
        cgroup: 7,
        comm: comm(name),
        parent_comm: comm(parent.1),
        kthread: false,
        exiting: false,
    }
}

fn tuple(local_port: u16, remote: u8, remote_port: u16) -> Tuple {
    Tuple {
        netns: NETNS,
        local_addr: [10, 0, 0, 1].into(),
        local_port,
        remote_addr: [10, 0, 1, remote].into(),
        remote_port,
        v4_mapped: false,
    }
}

/// A connection of four steps of so many microseconds each.
fn connection(
    cookie: u64,
    owners: (Owner, Owner),
    tuple: Tuple,
    (role, first): (Role, bool),
    end_ns: u64,
    step: u64,
) -> Connection {
    use TcpState::{Close, CloseWait, Established, FinWait1, FinWait2, LastAck, Listen, SynRecv, SynSent};
    let begin = if role == Role::Active { [Close, SynSent] } else { [Listen, SynRecv] };
    let end = if first { [FinWait1, FinWait2, Close] } else { [CloseWait, LastAck, Close] };
    let states: Vec<TcpState> = begin.into_iter().chain([Established]).chain(end).collect();
    let transition = |(number, pair): (u64, &[TcpState])| {
        let at_ns = end_ns - (4 - number) * step * 1000;
        Transition { from: pair[0], to: pair[1], at_ns }
    };
    Connection {
        cookie,
        role,
        opener: Some(owners.0),
        closer: Some(owners.1),
        transitions: (0..).zip(states.windows(2)).map(transition).collect(),
        sock_dead: true,
        sock_done: true,
        established: true,
        bytes_sent: 100,
        bytes_received: 2000,
        ..Connection::bare(tuple, end_ns)
    }
}

fn kernel(overflow: u64) -> KernelFacts {
    KernelFacts {
        time_wait: 10,
        time_wait_overflow: overflow,
        max_tw_buckets: 131_072,
        tw_reuse: 2,
        port_range: (32_768, 60_999),
        reserved_in_range: 2,
        reserved_ports: "40000-40001".to_owned(),
        ..KernelFacts::default()
    }
}

/// Twenty-five minutes in which a script starts a `curl` each ten seconds (three connections each), `api` makes a
/// connection each second, `nginx` accepts one each five seconds that its peers close, what `listener` accepts each
/// minute is closed by `handler`, and three connects fail.
pub(crate) fn events() -> Vec<Event> {
    let host = HostFacts { hostname: "web-1".to_owned(), netns: NETNS, ..HostFacts::default() };
    let (at_ns, unix_ns) = (START, i128::from(START_UNIX * SECOND));
    let mut events = vec![Event::Start { at_ns, unix_ns, host, tracing: TracingFacts::default() }];
    let api = owner(300, b"api", 1001, (1, b"systemd"));
    let nginx = owner(100, b"nginx", 33, (99, b"nginx"));
    let (listener, handler) =
        (owner(600, b"listener", 1001, (1, b"systemd")), owner(601, HOSTILE, 1001, (600, b"listener")));
    for (uid, name) in [(33, "www-data"), (1000, "deploy"), (1001, "app")] {
        events.push(Event::User { uid, name: name.to_owned() });
    }
    let mut cookie = 0;
    for second in 1..=LENGTH {
        let now = START + second * SECOND;
        // Not at the end of the second: what happens there belongs to the next.
        let mut add = |owners, tuple, kind, part: u64, step| {
            cookie += 1;
            let end_ns = now - SECOND + part * SECOND / 10;
            events.push(Event::Connection(Box::new(connection(cookie, owners, tuple, kind, end_ns, step))));
        };
        let port = 32_768 + (second % 20_000) as u16;
        add((api, api), tuple(port, 2, 5432), (Role::Active, true), 1, 1000 + second);
        if second % 10 == 0 {
            let curl = owner(2000 + second as u32, b"curl", 1000, (500, b"cron.sh"));
            for part in 2..5 {
                add((curl, curl), tuple(port + part as u16, 1, 443), (Role::Active, true), part, 500);
            }
        }
        if second % 5 == 0 {
            add((nginx, nginx), tuple(80, 50, port), (Role::Passive, false), 5, 2000);
        }
        if second % 60 == 0 {
            add((listener, handler), tuple(9000, 51, port), (Role::Passive, true), 6, 3000);
        }
        if second % 500 == 0 {
            let failed = ConnectFailed { opener: api, tuple: tuple(0, 3, 11_211), errno: 99, at_ns: now - 1000 };
            events.push(Event::ConnectFailed(Box::new(failed)));
        }
        if second == 2 {
            for (who, cmdline) in [(api, "/usr/bin/api --pool=0"), (handler, "=handler \u{1b}]0;x\u{7}\u{202e}")] {
                let exe = cmdline.split(' ').next().map(str::to_owned);
                let facts = ProcessFacts { exe, cmdline: Some(cmdline.to_owned()), ..ProcessFacts::default() };
                events.push(Event::Process { key: who.key, facts });
            }
        }
        events.push(Event::Kernel { netns: NETNS, facts: kernel(3 + second / 300) });
        events.push(Event::Kernel { netns: OTHER_NETNS, facts: kernel(second / 1000) });
        let lost = second / 100;
        events.push(Event::Counters(KernelCounters {
            ring_full: lost,
            map_full: 2 * lost,
            ..KernelCounters::default()
        }));
        events.push(Event::Tick { at_ns: now });
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
