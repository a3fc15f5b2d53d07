//! Events as a loopback workload makes them: short connections between a few processes.

use twtrace_core::event::{
    CensusRow, CensusState, Comm, Connection, Event, HostFacts, KernelCounters, KernelFacts, Owner, ProcessFacts,
    ProcessKey, Role, SocketOwner, TcpState, Timewait, TracingFacts, Transition, Tuple, TwCount,
};

const SECOND_NS: u64 = 1_000_000_000;

/// How long a timewait socket lasts.
const TIME_WAIT_NS: u64 = 60 * SECOND_NS;

/// Between two searches for the owners of sockets, in censuses.
const SEARCH_EVERY: u64 = 5;

/// Random numbers that are the same each time (xorshift).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Nanoseconds in whole microseconds, exponential with this mean.
    fn exponential_ns(&mut self, mean_us: f64) -> u64 {
        let share = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        (-mean_us * (1.0 - share).ln()) as u64 * 1000
    }
}

/// Makes connections.
pub(crate) struct Churn {
    random: Random,
    now_ns: u64,
    port: u16,
    cookie: u64,
    made: u64,
    ended: u64,
    censuses: u64,
    /// Made since the last census, and those that the census knows.
    fresh: Vec<(u64, Tuple, u64)>,
    old: std::collections::VecDeque<(u64, u64)>,
    next_tick_ns: u64,
    next_census_ns: u64,
    rate: f64,
}

fn owner(tgid: u32, comm: &[u8]) -> Owner {
    let mut name = Comm::default();
    name.0[..comm.len()].copy_from_slice(comm);
    let mut parent = Comm::default();
    parent.0[..4].copy_from_slice(b"bash");
    Owner {
        key: ProcessKey { tgid, start_ns: 4_000_000_000 + u64::from(tgid) * 10_000_000 },
        uid: 1000,
        ppid: 900,
        cgroup: 4711,
        comm: name,
        parent_comm: parent,
        kthread: false,
        exiting: false,
    }
}

impl Churn {
    /// So many connections a second.
    pub(crate) fn new(rate: f64) -> Self {
        Self {
            random: Random::new(42),
            now_ns: 5_000_000_000_000,
            port: 32768,
            cookie: 8_192,
            made: 0,
            ended: 0,
            censuses: 0,
            fresh: Vec::new(),
            old: Default::default(),
            next_tick_ns: 0,
            next_census_ns: 0,
            rate,
        }
    }

    /// What comes before all connections.
    pub(crate) fn start(&self, sink: &mut dyn FnMut(Event)) {
        sink(Event::Start {
            at_ns: self.now_ns,
            unix_ns: 1_790_000_000_123_456_789,
            host: HostFacts {
                hostname: "web-1".into(),
                kernel: "6.8.0".into(),
                boot_id: "b".into(),
                netns: 4_026_531_840,
            },
            tracing: TracingFacts::default(),
        });
        sink(Event::Namespace { netns: 4_026_531_840, name: "host".into(), refused: None });
        sink(Event::User { uid: 1000, name: "app".into() });
        for tgid in 1000..1010 {
            let facts = ProcessFacts {
                exe: Some("/usr/bin/worker".into()),
                cmdline: Some(format!("worker --number {tgid}")),
                ..ProcessFacts::default()
            };
            sink(Event::Process { key: owner(tgid, b"").key, facts });
        }
    }

    /// One connection, and what else is due.
    pub(crate) fn connection(&mut self, sink: &mut dyn FnMut(Event)) {
        self.now_ns += self.random.exponential_ns(1e6 / self.rate);
        if self.now_ns >= self.next_tick_ns {
            self.next_tick_ns = self.now_ns + SECOND_NS / 10;
            if self.now_ns >= self.next_census_ns {
                self.next_census_ns = self.now_ns + SECOND_NS;
                self.census(sink);
            }
            sink(Event::Tick { at_ns: self.now_ns });
        }
        // As the kernel does: even ports, a random step on.
        self.port = self.port.wrapping_add(2 + 2 * self.random.below(8) as u16);
        if !(32768..61000).contains(&self.port) {
            self.port = 32768;
        }
        let client = owner(1000 + self.random.below(4) as u32, b"worker");
        let server = owner(1008, b"server");
        let address = [127, 0, 0, 1].into();
        let tuple = Tuple {
            netns: 4_026_531_840,
            local_addr: address,
            local_port: self.port,
            remote_addr: address,
            remote_port: 9000,
            v4_mapped: false,
        };
        let mirrored = Tuple { local_port: 9000, remote_port: self.port, ..tuple };
        self.cookie += 2 + self.random.below(2);
        let started = self.now_ns;
        self.made += 1;
        let bytes = 100 + self.random.below(3);
        let before = Some((self.made - self.ended) as u32 - 1);
        let tw = Some(TwCount { before, after: (self.made - self.ended) as u32, max: 131_072 });
        use TcpState::*;
        let mut connection =
            |cookie, tuple, role, who, states: &[TcpState], means: &[f64], end_ns: u64, tw, timewait| {
                let mut at_ns = end_ns;
                let mut transitions: Vec<Transition> = Vec::new();
                for (pair, mean) in states.windows(2).zip(means).rev() {
                    transitions.push(Transition { from: pair[0], to: pair[1], at_ns });
                    at_ns -= self.random.exponential_ns(*mean);
                }
                transitions.reverse();
                Connection {
                    cookie,
                    role,
                    opener: Some(who),
                    closer: Some(who),
                    transitions,
                    sock_dead: true,
                    sock_done: role == Role::Active,
                    connect_exit: role == Role::Active,
                    established: true,
                    tw,
                    timewait,
                    bytes_sent: if role == Role::Active { 10 } else { bytes },
                    bytes_received: if role == Role::Active { bytes } else { 10 },
                    ..Connection::bare(tuple, end_ns)
                }
            };
        let end = started + 200_000;
        let made = Some(Timewait::Created { fin_wait2: false });
        let active = [Close, SynSent, Established, FinWait1, FinWait2, Close];
        let first = connection(
            self.cookie,
            tuple,
            Role::Active,
            client,
            &active,
            &[0.0, 25.0, 80.0, 12.0, 20.0],
            end,
            tw,
            made,
        );
        let passive = [Listen, SynRecv, Established, CloseWait, LastAck, Close];
        let second = connection(
            self.cookie + 1,
            mirrored,
            Role::Passive,
            server,
            &passive,
            &[0.0, 5.0, 90.0, 15.0, 10.0],
            end + 7000,
            tw,
            None,
        );
        self.fresh.push((self.cookie, tuple, end));
        sink(Event::Connection(Box::new(first)));
        sink(Event::Connection(Box::new(second)));
    }

    /// A census that tells what differs from the last one, in the order of cookies.
    fn census(&mut self, sink: &mut dyn FnMut(Event)) {
        let now_ns = self.now_ns;
        sink(Event::Counters(KernelCounters { transitions: 10 * self.made, ..KernelCounters::default() }));
        sink(Event::Kernel {
            netns: 4_026_531_840,
            facts: KernelFacts {
                time_wait: self.made - self.ended,
                port_range: (32768, 60999),
                max_tw_buckets: 131_072,
                ..KernelFacts::default()
            },
        });
        sink(Event::CensusBegin { netns: 4_026_531_840, at_ns: now_ns, whole: self.made == 0 });
        let rows: Vec<CensusRow> = self
            .fresh
            .drain(..)
            .map(|(cookie, tuple, end_ns)| {
                self.old.push_back((cookie, end_ns + TIME_WAIT_NS));
                let left_ms = (end_ns + TIME_WAIT_NS).saturating_sub(now_ns) / 1_000_000;
                CensusRow { cookie, tuple, state: CensusState::TimeWait, expires_ms: left_ms as u32 / 4 * 4 }
            })
            .collect();
        for piece in rows.chunks(300) {
            sink(Event::CensusRows(piece.to_vec()));
        }
        let over = self.old.iter().take_while(|(_, expires_ns)| *expires_ns <= now_ns).count();
        self.ended += over as u64;
        let gone: Vec<u64> = self.old.drain(..over).map(|(cookie, _)| cookie).collect();
        if !gone.is_empty() {
            sink(Event::CensusGone(gone));
        }
        sink(Event::CensusEnd { at_ns: now_ns + 1_000_000, complete: true });
        self.censuses += 1;
        if self.censuses.is_multiple_of(SEARCH_EVERY) {
            self.owners(sink);
        }
    }

    /// Who has sockets open: up to four processes, and now and then nobody.
    fn owners(&self, sink: &mut dyn FnMut(Event)) {
        let owner = |tgid: u32| SocketOwner {
            tgid,
            start_ns: owner(tgid, b"").key.start_ns,
            command: "worker".to_owned(),
            uid: 1000,
            netns: 4_026_531_840,
            state: CensusState::Established,
            local_addr: [127, 0, 0, 1].into(),
            local_port: 0,
            remote_addr: [127, 0, 0, 1].into(),
            remote_port: 9000,
            sockets: self.made % 50,
        };
        let rows = (1000..1000 + (self.made % 5) as u32).map(owner).collect();
        sink(Event::SocketOwners { at_ns: self.now_ns + 2_000_000, complete: true, rows });
    }

    /// What comes after all connections.
    pub(crate) fn end(&mut self, sink: &mut dyn FnMut(Event)) {
        self.now_ns += TIME_WAIT_NS + SECOND_NS;
        self.census(sink);
        self.census(sink);
        sink(Event::Tick { at_ns: self.now_ns });
    }
}
