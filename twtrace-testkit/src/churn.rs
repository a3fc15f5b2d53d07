//! The events of a loopback workload: short connections between a few processes. The same calls give the same events.

use crate::chance::Random;
use crate::{
    BuildConnection as _, BuildOwner as _, BuildTuple as _, MILLISECOND_NS, NETNS, SECOND_NS, START_UNIX_NS,
    census_row, connection, kernel, kernel_facts, namespace, owner, process, process_facts, socket_owner,
    socket_owners, start, states, tick, tuple, user,
};
use std::collections::VecDeque;
use twtrace_core::cost::CostReading;
use twtrace_core::event::{
    CensusRow, CensusState, Event, KernelCounters, KernelFacts, Owner, ProcessFacts, Role, Timewait, Tuple, TwCount,
};

/// Lifetime of a TIME_WAIT socket.
const TIME_WAIT_NS: u64 = 60 * SECOND_NS;

/// Interval between two searches for socket owners, in censuses.
const SEARCH_EVERY: u64 = 5;

/// This many connections at this rate per second, and all events before and after them.
pub fn churn(connections: u64, rate: f64) -> Vec<Event> {
    let mut churn = Churn::new(rate);
    let mut events = Vec::new();
    let mut sink = |event| events.push(event);
    churn.start(&mut sink);
    (0..connections).for_each(|_| churn.connection(&mut sink));
    churn.end(&mut sink);
    events
}

/// Creates connections, and passes each event to a function.
#[derive(Debug)]
pub struct Churn {
    random: Random,
    now_ns: u64,
    port: u16,
    cookie: u64,
    created: u64,
    ended: u64,
    censuses: u64,
    /// Created since the last census; `old` has those that the census knows.
    fresh: Vec<(u64, Tuple, u64)>,
    old: VecDeque<(u64, u64)>,
    next_tick_ns: u64,
    next_census_ns: u64,
    rate: f64,
}

/// One process of the workload.
fn process_of(tgid: u32, name: &str) -> Owner {
    owner(tgid, name)
        .started(4 * SECOND_NS + u64::from(tgid) * 10 * MILLISECOND_NS)
        .user(1000)
        .parent(900, "bash")
        .in_cgroup(4711)
}

impl Churn {
    /// A workload of `rate` connections per second.
    pub fn new(rate: f64) -> Self {
        Self {
            random: Random::new(42),
            now_ns: 5_000 * SECOND_NS,
            port: 32768,
            cookie: 8_192,
            created: 0,
            ended: 0,
            censuses: 0,
            fresh: Vec::new(),
            old: VecDeque::new(),
            next_tick_ns: 0,
            next_census_ns: 0,
            rate,
        }
    }

    /// The events before all connections.
    pub fn start(&self, sink: &mut dyn FnMut(Event)) {
        sink(start(self.now_ns).unix(START_UNIX_NS + 123_456_789).host("web-1", "6.8.0", "b").event());
        sink(namespace(NETNS, "host"));
        sink(user(1000, "app"));
        for tgid in 1000..1010 {
            let facts = ProcessFacts {
                exe: Some("/usr/bin/worker".into()),
                ..process_facts(&format!("worker --number {tgid}"))
            };
            sink(process(&process_of(tgid, ""), facts));
        }
    }

    /// One connection, and other events that are due.
    pub fn connection(&mut self, sink: &mut dyn FnMut(Event)) {
        self.now_ns += self.random.exponential_ns(1e6 / self.rate);
        if self.now_ns >= self.next_tick_ns {
            self.next_tick_ns = self.now_ns + SECOND_NS / 10;
            if self.now_ns >= self.next_census_ns {
                self.next_census_ns = self.now_ns + SECOND_NS;
                self.census(sink);
            }
            sink(tick(self.now_ns));
        }
        // Like the kernel: even ports, in random steps.
        self.port = self.port.wrapping_add(2 + 2 * self.random.below(8) as u16);
        if !(32768..61000).contains(&self.port) {
            self.port = 32768;
        }
        let client = process_of(1000 + self.random.below(4) as u32, "worker");
        let server = process_of(1008, "server");
        let there = tuple(self.port, [127, 0, 0, 1], 9000).local_addr([127, 0, 0, 1]);
        self.cookie += 2 + self.random.below(2);
        let started_ns = self.now_ns;
        self.created += 1;
        let answer = 100 + self.random.below(3);
        let before = Some((self.created - self.ended) as u32 - 1);
        let count = TwCount { before, after: (self.created - self.ended) as u32, max: 131_072 };
        let mut ended = |cookie, tuple, role, who, means_us: [f64; 5], end_ns| {
            let is_active = role == Role::Active;
            connection(cookie, who, tuple, end_ns)
                .role(role)
                .timed(&states(role, is_active), |number| self.random.exponential_ns(means_us[number]))
                .peer_done(is_active)
                .with(|connection| connection.connect_exit = is_active)
                .timewait(is_active.then_some(Timewait::Created { fin_wait2: false }), count)
        };
        let end_ns = started_ns + 200_000;
        let first = ended(self.cookie, there, Role::Active, client, [0.0, 25.0, 80.0, 12.0, 20.0], end_ns);
        let back = there.mirrored();
        let second = ended(self.cookie + 1, back, Role::Passive, server, [0.0, 5.0, 90.0, 15.0, 10.0], end_ns + 7000);
        self.fresh.push((self.cookie, there, end_ns));
        sink(first.bytes(10, answer).event());
        sink(second.bytes(answer, 10).event());
    }

    /// A census that reports the differences from the last one, in the order of cookies.
    fn census(&mut self, sink: &mut dyn FnMut(Event)) {
        let now_ns = self.now_ns;
        sink(Event::Counters(KernelCounters { transitions: 10 * self.created, ..KernelCounters::default() }));
        let process_ns = 20_000 * self.created;
        sink(Event::Cost(CostReading { at_ns: now_ns, process_ns, ..CostReading::default() }));
        sink(kernel(KernelFacts { time_wait: self.created - self.ended, ..kernel_facts() }));
        sink(Event::SocketDumpBegin { netns: NETNS, at_ns: now_ns, whole: self.created == 0 });
        let rows: Vec<CensusRow> = self
            .fresh
            .drain(..)
            .map(|(cookie, tuple, end_ns)| {
                self.old.push_back((cookie, end_ns + TIME_WAIT_NS));
                let left_ms = (end_ns + TIME_WAIT_NS).saturating_sub(now_ns) / 1_000_000;
                census_row(cookie, tuple, CensusState::TimeWait, left_ms as u32 / 4 * 4)
            })
            .collect();
        for piece in rows.chunks(300) {
            sink(Event::SocketDump(piece.to_vec()));
        }
        let over = self.old.iter().take_while(|(_, expires_ns)| *expires_ns <= now_ns).count();
        self.ended += over as u64;
        let gone: Vec<u64> = self.old.drain(..over).map(|(cookie, _)| cookie).collect();
        if !gone.is_empty() {
            sink(Event::SocketsRemoved(gone));
        }
        sink(Event::SocketDumpEnd { at_ns: now_ns + MILLISECOND_NS, complete: true });
        self.censuses += 1;
        if self.censuses.is_multiple_of(SEARCH_EVERY) {
            self.owners(sink);
        }
    }

    /// The owners of open sockets: up to four processes, and sometimes none.
    fn owners(&self, sink: &mut dyn FnMut(Event)) {
        let to = tuple(0, [127, 0, 0, 1], 9000).local_addr([127, 0, 0, 1]);
        let owner = |tgid| socket_owner(&process_of(tgid, "worker"), CensusState::Established, to, self.created % 50);
        let rows = (1000..1000 + (self.created % 5) as u32).map(owner).collect();
        sink(socket_owners(self.now_ns + 2 * MILLISECOND_NS, rows));
    }

    /// The events after all connections.
    pub fn end(&mut self, sink: &mut dyn FnMut(Event)) {
        self.now_ns += TIME_WAIT_NS + SECOND_NS;
        self.census(sink);
        self.census(sink);
        sink(tick(self.now_ns));
    }
}
