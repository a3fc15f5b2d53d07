//! The input of the rules: the snapshot's rows, joined once.

use super::settings;
use crate::event::{CensusState, KernelFacts, Owner, ProcessKey, Role, SocketOwner};
use crate::finding::Subject;
use crate::pattern::Pattern;
use crate::ports::{TIME_WAIT_SECONDS, hold_seconds};
use crate::snapshot::{Cell, DestKey, DestRow, DestinationRow, Snapshot};
use crate::table::Map;
use std::net::IpAddr;

const SECOND_NS: u64 = 1_000_000_000;

/// Something seen within this time still goes on; something that occurs less often is given longer.
const RECENT_NS: u64 = 10 * SECOND_NS;

/// Resolution of process start times in `/proc` (`USER_HZ`), which are rounded down.
const START_NS: u64 = 10_000_000;

/// Number of one-shots that counts as a habit.
pub(super) const MANY: u64 = 20;

/// Share of connections that counts as a habit.
pub(super) const MOST: f64 = 0.8;

/// Number of destinations of a program that are one habit.
pub(super) const DESTINATIONS: usize = 10;

/// Connections per second below which a habit is not worth changing.
pub(super) const LEAST_PER_S: f64 = 1.0;

/// A process and a destination with connections between them.
pub(super) struct Pair<'a> {
    pub(super) pair: &'a Cell,
    pub(super) owner: &'a Owner,
    pub(super) row: &'a DestinationRow,
    pub(super) key: DestKey,
}

/// The snapshot, joined.
pub(super) struct RuleContext<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) now_ns: u64,
    /// In the order of their destinations and processes.
    pub(super) pairs: Vec<Pair<'a>>,
    pub(super) destinations: Vec<(DestKey, &'a DestinationRow)>,
    /// The destinations that are accepting ports of this host.
    ports: Map<(u32, IpAddr, u16), &'a DestinationRow>,
}

impl<'a> RuleContext<'a> {
    pub(super) fn of(snapshot: &'a Snapshot) -> Self {
        let rows = snapshot.destinations().iter().filter_map(|row| match row.key {
            DestRow::Dest(key) => Some((key, row)),
            DestRow::Other => None,
        });
        let mut destinations: Vec<(DestKey, &DestinationRow)> = rows.collect();
        destinations.sort_unstable_by_key(|(key, _)| *key);
        let pairs = snapshot.cells().filter_map(|(owner, row, pair)| match row.key {
            DestRow::Dest(key) => Some(Pair { pair, owner, row, key }),
            DestRow::Other => None,
        });
        let mut pairs: Vec<Pair<'_>> = pairs.collect();
        pairs.sort_unstable_by_key(|pair| (pair.key, pair.owner.key));
        let passive = destinations.iter().filter(|(key, _)| key.role == Role::Passive);
        let ports = passive.map(|(key, row)| (super::place(key.netns, key.local_addr, key.port), *row)).collect();
        Self { ports, snapshot, now_ns: snapshot.summary().window.now_ns, pairs, destinations }
    }

    /// Whether something last seen at `last_ns` still goes on, if it occurs `per_s` times per second.
    pub(super) fn goes_on(&self, last_ns: u64, per_s: f64) -> bool {
        let patience_ns = if per_s > 0.0 { (3e9 / per_s) as u64 } else { 0 };
        self.now_ns.saturating_sub(last_ns) <= RECENT_NS.max(patience_ns)
    }

    /// Whether a habit goes on at a rate that matters: an occasional connection does not continue an old flood.
    pub(super) fn habit_goes_on(&self, pattern: &Pattern) -> bool {
        match pattern.burst() {
            Some(burst) => self.goes_on(pattern.ended_ns, 1.0 / burst.period_s),
            None => self.goes_on(pattern.ended_ns, 0.0) && pattern.recent_per_s(self.now_ns) >= LEAST_PER_S / 2.0,
        }
    }

    /// Sysctls of a destination's namespace.
    pub(super) fn kernel(&self, key: DestKey) -> Option<&'a KernelFacts> {
        self.snapshot.summary().kernel_of(key.netns)
    }

    /// How long a connection to a destination keeps its port after this host closed it, in seconds.
    pub(super) fn hold_seconds(&self, key: DestKey) -> f64 {
        let budget = self.row(key).and_then(|row| row.budget);
        let peer_timestamps = budget.is_some_and(|budget| budget.lacks_timestamps()).then_some(false);
        self.kernel(key).map_or(TIME_WAIT_SECONDS, |kernel| hold_seconds(kernel, key.is_loopback(), peer_timestamps))
    }

    /// A destination's row.
    pub(super) fn row(&self, key: DestKey) -> Option<&'a DestinationRow> {
        let at = self.destinations.binary_search_by_key(&key, |(key, _)| *key).ok()?;
        self.destinations.get(at).map(|(_, row)| *row)
    }

    /// Pairs of a destination.
    pub(super) fn pairs_of(&self, key: DestKey) -> impl Iterator<Item = &Pair<'a>> {
        let from = self.pairs.partition_point(|pair| pair.key < key);
        self.pairs[from..].iter().take_while(move |pair| pair.key == key)
    }

    /// The process that closed many of the connections that another one opened to a destination and that left TIME_WAIT
    /// sockets: it got them passed.
    pub(super) fn closer_of(&self, key: DestKey, opener: ProcessKey) -> Option<&'a Owner> {
        let left = self.pairs_of(key).find(|pair| pair.owner.key == opener)?.pair.pattern.time_wait;
        let others = self.pairs_of(key).filter(|pair| pair.owner.key != opener);
        // Of what they closed, they opened some themselves.
        let passed = |pair: &Pair<'_>| pair.pair.counts.time_wait_created.saturating_sub(pair.pair.pattern.time_wait);
        let most = others.max_by_key(|pair| (passed(pair), pair.owner.key))?;
        (left > 0 && 4 * passed(most) >= left).then_some(most.owner)
    }

    /// Processes with open sockets that match.
    pub(super) fn socket_owners(
        &self,
        matches: impl Fn(&SocketOwner) -> bool,
    ) -> impl Iterator<Item = &'a SocketOwner> {
        self.snapshot.socket_owners().rows.iter().filter(move |owner| matches(owner))
    }

    /// Whether a process has a listening socket of its own, so it is a service.
    pub(super) fn listens(&self, process: ProcessKey) -> bool {
        self.socket_owners(|owner| owner.state == CensusState::Listen && is_of(owner, process)).next().is_some()
    }

    /// The process that listens on a port. Of several that share a listener, the eldest started the others.
    pub(super) fn listener(&self, key: DestKey) -> Option<&'a SocketOwner> {
        let listens = |owner: &SocketOwner| {
            key.role == Role::Passive
                && owner.state == CensusState::Listen
                && (owner.netns, owner.local_port) == (key.netns, key.port)
                && (owner.local_addr == key.local_addr
                    || owner.local_addr.is_unspecified()
                    || key.local_addr.is_unspecified())
        };
        self.socket_owners(listens).min_by_key(|owner| (owner.start_ns, owner.tgid))
    }

    /// Established connections of a process to a destination, from the last search for socket owners.
    pub(super) fn established(&self, process: ProcessKey, key: DestKey) -> u64 {
        let matches =
            |owner: &SocketOwner| owner.state == CensusState::Established && is_of(owner, process) && is_to(owner, key);
        self.socket_owners(matches).map(|owner| owner.sockets).sum()
    }

    /// The other end of a destination, if it is on this host.
    fn local_peer(&self, key: DestKey) -> Option<&'a DestinationRow> {
        let remote = key.remote_addr.filter(|_| key.role == Role::Active)?;
        self.ports.get(&super::place(key.netns, remote, key.port)).copied()
    }

    /// Whether connections to a destination end on this host.
    pub(super) fn is_local(&self, key: DestKey) -> bool {
        self.local_peer(key).is_some()
    }

    /// TIME_WAIT sockets that the other end has created for `opened` connections to a destination, if it is on this
    /// host.
    pub(super) fn created_by_local_peer(&self, key: DestKey, opened: u64) -> f64 {
        self.local_peer(key).map_or(0.0, |row| {
            let share = opened as f64 / row.pattern.accepted.max(1) as f64;
            row.counts.time_wait_created as f64 * share.min(1.0)
        })
    }

    /// Whether a process on this host accepts the connections to a destination and closes them first.
    pub(super) fn is_closed_by_local_peer(&self, key: DestKey, pattern: &Pattern) -> bool {
        let mostly_last = (pattern.closed_first as f64) < (1.0 - MOST) * pattern.connections() as f64;
        mostly_last && self.local_peer(key).is_some_and(|row| row.pattern.accepted > 0)
    }

    /// The process on this host that accepts most of the connections to a destination.
    pub(super) fn server_of(&self, key: DestKey) -> Option<&'a Owner> {
        let DestRow::Dest(port) = self.local_peer(key)?.key else { return None };
        self.most_accepting(port).map(|pair| pair.owner)
    }

    /// The process that accepts most of the connections on a port.
    pub(super) fn most_accepting(&self, port: DestKey) -> Option<&Pair<'a>> {
        self.pairs_of(port).max_by_key(|pair| (pair.pair.pattern.accepted, pair.owner.key))
    }

    /// Whether the server of a destination is on this host, and keeps other connections on its port open.
    pub(super) fn server_keeps_others(&self, key: DestKey) -> bool {
        self.local_peer(key).is_some_and(|port| keeps_others(&port.pattern))
    }

    /// Whether the server of a destination is on this host, closes first, and that by its own settings as far as can be seen.
    pub(super) fn is_servers_doing(&self, key: DestKey, pattern: &Pattern) -> bool {
        self.is_closed_by_local_peer(key, pattern) && !self.server_keeps(key)
    }

    /// Whether the server of a destination is on this host and keeps connections open: others on its port, or by default.
    pub(super) fn server_keeps(&self, key: DestKey) -> bool {
        let keeps = |server: &Owner| settings::keeps_alive(&server.comm);
        self.server_keeps_others(key) || self.server_of(key).is_some_and(keeps)
    }

    /// Whether a client is to blame for its connections with that pattern. Where its server closes first, it may be the
    /// server's doing, unless that keeps connections open when it is not asked to close them. A client that is itself a
    /// service has its own configuration.
    pub(super) fn is_to_blame(&self, client: ProcessKey, key: DestKey, pattern: &Pattern) -> bool {
        !self.is_servers_doing(key, pattern) || self.listens(client)
    }
}

/// Whether a server keeps other connections on its port open.
pub(super) fn keeps_others(port: &Pattern) -> bool {
    port.kept > 0
}

impl Subject {
    /// A process.
    pub(super) fn of(owner: &Owner) -> Self {
        Self {
            process: Some(owner.key),
            command: owner.comm,
            ppid: owner.ppid,
            parent_command: owner.parent_comm,
            processes: 1,
            uid: owner.uid,
        }
    }

    /// A process that is known only from its sockets.
    pub(super) fn of_socket_owner(owner: &SocketOwner) -> Self {
        let mut command = crate::event::Comm::default();
        let bytes = owner.command.as_bytes();
        let length = bytes.len().min(command.0.len() - 1);
        command.0[..length].copy_from_slice(&bytes[..length]);
        Self {
            process: Some(ProcessKey { tgid: owner.tgid, start_ns: owner.start_ns }),
            command,
            ppid: 0,
            parent_command: Default::default(),
            processes: 1,
            uid: owner.uid,
        }
    }
}

/// The name of a process, for evidence.
pub(super) fn name(owner: &Owner) -> String {
    String::from_utf8_lossy(owner.comm.bytes()).into_owned()
}

/// PID of a finding's process, if it is about a single one.
pub(super) fn pid(subject: Option<Subject>) -> Option<u32> {
    subject.and_then(|subject| subject.process).map(|process| process.tgid)
}

/// Whether a socket owner is that process.
pub(super) fn is_of(owner: &SocketOwner, process: ProcessKey) -> bool {
    owner.tgid == process.tgid && owner.start_ns.abs_diff(process.start_ns) <= 2 * START_NS
}

/// Whether a socket owner's sockets connect to a destination, or were accepted on it.
pub(super) fn is_to(owner: &SocketOwner, key: DestKey) -> bool {
    let place = match key.role {
        Role::Passive => owner.local_port == key.port,
        Role::Active | Role::Unknown => Some(owner.remote_addr) == key.remote_addr && owner.remote_port == key.port,
    };
    place && owner.netns == key.netns && owner.local_addr == key.local_addr
}
