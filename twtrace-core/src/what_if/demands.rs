//! What processes asked for: each recorded connection, and each that found no port.

use crate::classify::{Outcome as Ended, classify};
use crate::event::{CensusRow, CensusState, Comm, Connection, Event, KernelFacts, Owner, ProcessKey, Role, Tuple};
use crate::snapshot::Snapshot;
use crate::state::Filter;
use crate::table::Map;
use std::net::IpAddr;

/// Requests kept, about 200 bytes each. When full, later ones are counted and left out.
pub const DEMANDS: usize = 1 << 21;

/// Sockets kept that were open when the trace began, or still are at its end. When full, further ones are left out.
const HELD: usize = 1 << 18;

/// Namespaces whose settings are kept. When full, further ones count as having those of another.
const KERNELS: usize = 4096;

/// TIME_WAIT sockets of before the trace are in its first censuses.
const FIRST_NS: u64 = 2_000_000_000;

const EADDRINUSE: u16 = 98;

/// Where connections of one kind go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Flow {
    pub(super) netns: u32,
    /// This host's address; its port too where the connection was accepted.
    pub(super) local: (IpAddr, u16),
    /// The other end; port 0 where it is the client's.
    pub(super) remote: (IpAddr, u16),
    pub(super) is_accepted: bool,
}

/// Who keeps connections of a flow: a process of this host, or a client elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Client {
    flow: u32,
    process: Option<ProcessKey>,
}

/// A process.
#[derive(Clone, Copy, Debug)]
struct Party {
    key: ProcessKey,
    comm: Comm,
    ppid: u32,
}

/// What a filter by names and namespaces leaves of the sockets that no process is known of.
#[derive(Clone, Debug, Default)]
pub(super) enum Shown {
    /// All.
    #[default]
    All,
    /// Those of some namespaces.
    Of(Vec<u32>),
    /// None.
    None,
}

/// How the local port comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Local {
    /// connect(2) chooses it, from the socket's own range if it has one.
    Chosen(Option<(u16, u16)>),
    /// bind(2) chooses it, or the process does.
    Bound,
    /// It was in use when the trace began, or the other end chose it.
    Given(u16),
}

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Demand {
    pub(super) begin_ns: u64,
    pub(super) lasts_ns: u64,
    pub(super) flow: u32,
    pub(super) client: u32,
    pub(super) local: Local,
    /// This host closes first: a TIME_WAIT socket is due.
    pub(super) waits: bool,
    /// The other end is on this host as well, and that one is due there.
    pub(super) peer_waits: bool,
    /// The connection may be kept for the next request.
    pub(super) may_be_kept: bool,
    pub(super) peer_timestamps: Option<bool>,
    /// The filter selects it.
    pub(super) is_shown: bool,
    /// Its process on this host, by number.
    party: Option<u32>,
    /// There was no port for it: how long it would have lasted is not known.
    pub(super) failed: bool,
}

/// Both ends of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Ends(u32, IpAddr, u16, IpAddr, u16);

impl Ends {
    fn of(tuple: &Tuple) -> Self {
        Self(tuple.netns, tuple.local_addr, tuple.local_port, tuple.remote_addr, tuple.remote_port)
    }

    fn reversed(self) -> Self {
        Self(self.0, self.3, self.4, self.1, self.2)
    }
}

/// A socket of a census of which no connection was recorded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) tuple: Tuple,
    pub(super) state: CensusState,
    pub(super) since_ns: u64,
    /// Its end; `u64::MAX` while it is open.
    pub(super) until_ns: u64,
}

/// Everything that the trace has on who wanted to connect where, and when.
#[derive(Clone, Debug, Default)]
pub struct Demands {
    pub(super) filter: Filter,
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
    kernels: Map<u32, KernelFacts>,
    pub(super) flows: Vec<Flow>,
    flow_numbers: Map<Flow, u32>,
    client_numbers: Map<Client, u32>,
    /// Processes, and what those that were merged with others are known by.
    parties: Vec<Party>,
    party_numbers: Map<ProcessKey, u32>,
    /// Namespaces whose sockets are counted, where the filter asks for some, and whether those without an owner are.
    pub(super) shown: Shown,
    pub(super) demands: Vec<Demand>,
    /// Accepted connections and those that were opened, by their ends as the opener sees them: the latest of each.
    accepted: Map<Ends, usize>,
    opened: Map<Ends, usize>,
    /// The address that sockets of a namespace were bound to last, where they had a port from bind(2).
    bound_to: Map<u32, IpAddr>,
    held: Map<Ends, Held>,
    /// Cookies of those.
    cookies: Map<u64, Ends>,
    census: Option<(u32, u64)>,
    left_out: u64,
}

impl Demands {
    /// Of everything that happens; what the filter does not select keeps what it has when connections are kept, and is
    /// not counted.
    pub fn new(filter: Filter) -> Self {
        Self { filter, ..Self::default() }
    }

    /// Requests that were left out: there were more than [`DEMANDS`].
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Length of the trace, nanoseconds.
    pub fn length_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }

    /// Takes one event.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Start { at_ns, .. } => self.start_ns = *at_ns,
            // Settings as they were at the beginning: what is changed later is no part of the question.
            Event::Kernel { netns, facts } if self.kernels.len() < KERNELS => {
                self.kernels.entry(*netns).or_insert_with(|| facts.clone());
            }
            Event::Connection(connection) => self.connection(connection),
            Event::BindFailed(failed) if failed.errno == EADDRINUSE && failed.tuple.local_port == 0 => {
                let mut tuple = failed.tuple;
                if tuple.local_addr.is_unspecified() {
                    tuple.local_addr = self.bound_to.get(&tuple.netns).copied().unwrap_or(tuple.local_addr);
                }
                self.failed(&tuple, Some(&failed.owner), Local::Bound, failed.at_ns);
            }
            Event::SocketDumpBegin { netns, at_ns, .. } => self.census = Some((*netns, *at_ns)),
            Event::SocketDump(rows) => rows.iter().for_each(|row| self.listed(row)),
            Event::SocketsRemoved(cookies) => {
                let Some((_, at_ns)) = self.census else { return };
                for cookie in cookies {
                    let held = self.cookies.get(cookie).and_then(|ends| self.held.get_mut(ends));
                    if let Some(held) = held.filter(|held| held.until_ns == u64::MAX) {
                        held.until_ns = at_ns;
                    }
                }
            }
            Event::Tick { at_ns } => self.end_ns = self.end_ns.max(*at_ns),
            _ => {}
        }
    }

    fn connection(&mut self, connection: &Connection) {
        let ends = Ends::of(&connection.tuple);
        let begin_ns = connection.transitions.first().map_or(connection.end_ns, |first| first.at_ns);
        match self.held.get_mut(&ends) {
            // The one before it with these ports.
            Some(held) if begin_ns > held.since_ns && !connection.older => held.until_ns = held.until_ns.min(begin_ns),
            Some(_) => _ = self.held.remove(&ends),
            None => {}
        }
        self.end_ns = self.end_ns.max(connection.end_ns);
        if self.is_full() {
            return;
        }
        let outcome = classify(connection).outcome;
        let role = match connection.role {
            Role::Unknown if self.is_chosen(&connection.tuple) => Role::Active,
            Role::Unknown => Role::Passive,
            role => role,
        };
        let is_accepted = role == Role::Passive;
        if matches!(outcome, Ended::NoPort) {
            let local = if connection.binding.port { Local::Bound } else { Local::Chosen(connection.binding.range) };
            self.failed(&connection.tuple, connection.opener.as_ref(), local, connection.end_ns);
            return;
        }
        let begin_ns = if connection.older { self.start_ns.min(begin_ns) } else { begin_ns };
        let local = match connection.binding {
            _ if is_accepted || connection.older => Local::Given(connection.tuple.local_port),
            binding if binding.port => Local::Bound,
            binding => Local::Chosen(binding.range),
        };
        let owner = if is_accepted { None } else { connection.opener.as_ref().or(connection.closer.as_ref()) };
        let waits = matches!(outcome, Ended::TimeWait(_) | Ended::Overflow);
        let demand = Demand {
            begin_ns,
            lasts_ns: connection.end_ns.saturating_sub(begin_ns),
            flow: self.flow(&connection.tuple, is_accepted),
            client: 0,
            local,
            waits,
            peer_waits: false,
            // The exit of a process ends its connections. And one that never worked serves no other request.
            may_be_kept: connection.established
                && !connection.older
                && !connection.closer.is_some_and(|closer| closer.exiting)
                && (waits || outcome == Ended::PassiveClose),
            peer_timestamps: connection.peer_timestamps,
            is_shown: self.filter.passes(&connection.tuple, [connection.opener.as_ref(), connection.closer.as_ref()]),
            party: self.party(connection.opener.as_ref().or(connection.closer.as_ref())),
            failed: false,
        };
        if local == Local::Bound {
            self.bound_to.insert(connection.tuple.netns, connection.tuple.local_addr);
        }
        // The other end's record comes right before or after this one: both are one request, of the end that opened it.
        let of_opener = if is_accepted { ends.reversed() } else { ends };
        let (mine, theirs) =
            if is_accepted { (&mut self.accepted, &self.opened) } else { (&mut self.opened, &self.accepted) };
        let other = theirs.get(&of_opener).copied().filter(|at| {
            let other = &self.demands[*at];
            other.begin_ns.saturating_add(other.lasts_ns) >= begin_ns && other.begin_ns <= connection.end_ns
        });
        match other {
            Some(at) if is_accepted => self.demands[at].peer_waits |= waits,
            Some(at) => {
                mine.insert(of_opener, at);
                self.demands[at] = Demand { peer_waits: self.demands[at].waits, ..demand };
                self.join(at, owner);
            }
            None => {
                mine.insert(of_opener, self.demands.len());
                self.add(demand, owner);
            }
        }
    }

    /// connect(2) or bind(2) found no port.
    fn failed(&mut self, tuple: &Tuple, owner: Option<&Owner>, local: Local, at_ns: u64) {
        self.end_ns = self.end_ns.max(at_ns);
        if self.is_full() {
            return;
        }
        let demand = Demand {
            begin_ns: at_ns,
            lasts_ns: 0,
            flow: self.flow(tuple, false),
            client: 0,
            local,
            waits: true,
            peer_waits: false,
            may_be_kept: true,
            peer_timestamps: None,
            is_shown: self.filter.passes(tuple, [owner, None]),
            party: self.party(owner),
            failed: true,
        };
        self.add(demand, owner);
    }

    /// Counts what is left out.
    fn is_full(&mut self) -> bool {
        let is_full = self.demands.len() >= DEMANDS;
        self.left_out += u64::from(is_full);
        is_full
    }

    fn add(&mut self, demand: Demand, owner: Option<&Owner>) {
        self.demands.push(demand);
        self.join(self.demands.len() - 1, owner);
    }

    /// A request is one of its process, or of a client elsewhere.
    fn join(&mut self, at: usize, owner: Option<&Owner>) {
        let client = Client { flow: self.demands[at].flow, process: owner.map(|owner| owner.key) };
        let next = self.client_numbers.len() as u32;
        self.demands[at].client = *self.client_numbers.entry(client).or_insert(next);
    }

    fn flow(&mut self, tuple: &Tuple, is_accepted: bool) -> u32 {
        let (local_port, remote_port) = if is_accepted { (tuple.local_port, 0) } else { (0, tuple.remote_port) };
        let flow = Flow {
            netns: tuple.netns,
            local: (tuple.local_addr, local_port),
            remote: (tuple.remote_addr, remote_port),
            is_accepted,
        };
        let next = self.flows.len() as u32;
        *self.flow_numbers.entry(flow).or_insert_with(|| {
            self.flows.push(flow);
            next
        })
    }

    fn is_chosen(&self, tuple: &Tuple) -> bool {
        let kernel = self.kernels.get(&tuple.netns);
        kernel.is_some_and(|kernel| (kernel.port_range.0..=kernel.port_range.1).contains(&tuple.local_port))
    }

    fn listed(&mut self, row: &CensusRow) {
        let Some((netns, at_ns)) = self.census else { return };
        let tuple = Tuple { netns, ..row.tuple };
        let ends = Ends::of(&tuple);
        let waits = row.state.is_timewait();
        let until_ns = at_ns.saturating_add(u64::from(row.expires_ms) * 1_000_000);
        if let Some(held) = self.held.get_mut(&ends) {
            if waits && held.until_ns == u64::MAX {
                held.until_ns = until_ns;
            }
            return;
        }
        let is_old = at_ns.saturating_sub(self.start_ns) < FIRST_NS;
        let recorded = self.opened.contains_key(&ends) || self.accepted.contains_key(&ends.reversed());
        if waits && (recorded || !is_old) || self.held.len() >= HELD || self.cookies.len() >= 2 * HELD {
            return;
        }
        let until_ns = if waits { until_ns } else { u64::MAX };
        let since_ns = if is_old { self.start_ns } else { at_ns };
        self.held.insert(ends, Held { tuple, state: row.state, since_ns, until_ns });
        self.cookies.insert(row.cookie, ends);
    }

    /// Sockets of which no connection was recorded.
    pub(super) fn held(&self) -> impl Iterator<Item = &Held> {
        self.held.values()
    }

    /// A namespace's settings; where they are not known, those of another one.
    pub(super) fn kernel(&self, netns: u32) -> KernelFacts {
        let known = self
            .kernels
            .get(&netns)
            .or_else(|| self.kernels.iter().min_by_key(|(netns, _)| **netns).map(|(_, facts)| facts));
        known.cloned().unwrap_or_default()
    }

    /// The number of a process; `None` if it is not known, or if the filter does not ask for names.
    fn party(&mut self, owner: Option<&Owner>) -> Option<u32> {
        let owner = owner.filter(|_| self.filter.asks_for_names())?;
        let next = self.parties.len() as u32;
        Some(*self.party_numbers.entry(owner.key).or_insert_with(|| {
            self.parties.push(Party { key: owner.key, comm: owner.comm, ppid: owner.ppid });
            next
        }))
    }

    /// Applies the part of the filter that asks for names, which may be known late: `snapshot` is one of the same events
    /// with the same filter. A process that was merged with others is known by its command and parent.
    pub fn select(&mut self, snapshot: &Snapshot) {
        if !self.filter.is_late() {
            return;
        }
        let (filter, summary) = (&self.filter, snapshot.summary());
        let netns = self.flows.iter().map(|flow| filter.passes_netns(flow.netns, summary)).collect::<Vec<bool>>();
        let selected = snapshot.selected();
        let passes = |party: &Party| selected.has(party.key, party.comm, party.ppid);
        let parties: Vec<bool> = self.parties.iter().map(passes).collect();
        let by_name = filter.asks_for_names();
        for demand in &mut self.demands {
            let is_its = demand.party.is_some_and(|party| parties[party as usize]);
            demand.is_shown &= netns[demand.flow as usize] && (!by_name || is_its);
        }
        let spaces = self.held.values().map(|held| held.tuple.netns).collect::<std::collections::BTreeSet<u32>>();
        self.shown = match by_name {
            true => Shown::None,
            false => Shown::Of(spaces.into_iter().filter(|netns| filter.passes_netns(*netns, summary)).collect()),
        };
    }

    /// Whether a socket of which no process is known is counted.
    pub(super) fn shows(&self, tuple: &Tuple) -> bool {
        let is_there = match &self.shown {
            Shown::All => true,
            Shown::Of(spaces) => spaces.contains(&tuple.netns),
            Shown::None => false,
        };
        is_there && self.filter.passes(tuple, [None, None])
    }

    /// How many clients there are.
    pub(super) fn clients(&self) -> usize {
        self.client_numbers.len()
    }

    /// How many connections this host opened, of those that the filter selects.
    pub fn recorded_connections(&self) -> u64 {
        let opened =
            |demand: &&Demand| demand.is_shown && !demand.failed && !self.flows[demand.flow as usize].is_accepted;
        self.demands.iter().filter(opened).count() as u64
    }

    /// How many requests found no port, of those that the filter selects, and when the first was.
    pub fn recorded_failures(&self) -> (u64, Option<u64>) {
        let failed = self.demands.iter().filter(|demand| demand.failed && demand.is_shown);
        let first = failed.clone().map(|demand| demand.begin_ns.saturating_sub(self.start_ns)).min();
        (failed.count() as u64, first)
    }
}
