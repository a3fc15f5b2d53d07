//! What is kept of one network namespace from one census to the next.

use crate::event::{CensusRow, CensusState};
use crate::summary::Coverage;
use crate::table::Map;
use foldhash::fast::FixedState;
use hashbrown::HashSet;
use std::net::IpAddr;

/// Full sockets and listeners remembered in each namespace. When full, only the number of further ones is counted.
const SOCKETS: usize = 1 << 20;

/// Local address, remote address, remote port: connections that share all three need different local ports.
pub(crate) type BudgetKey = (IpAddr, IpAddr, u16);

/// A socket that is not a TIME_WAIT socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Socket {
    /// A connection in one of the states that use a port, by its local port.
    Open(BudgetKey, u16, CensusState),
    Listen(IpAddr, u16, u32),
    /// Bound, and not yet anything else.
    Bound(u16),
}

impl Socket {
    fn is_on(self, local_port: u16) -> bool {
        match self {
            Self::Open(_, port, _) | Self::Listen(_, port, _) | Self::Bound(port) => port == local_port,
        }
    }
}

/// What is kept of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KnownSocket {
    socket: Socket,
    /// The last census that contained it.
    number: u32,
    /// The first census that found it in this state, nanoseconds.
    since_ns: u64,
}

/// A full socket that uses a local port.
pub(crate) struct OpenConnection {
    /// Its destination.
    pub(crate) key: BudgetKey,
    /// Its own port.
    pub(crate) port: u16,
    /// State.
    pub(crate) state: CensusState,
    /// The first census that found it in this state, nanoseconds.
    pub(crate) since_ns: u64,
}

/// The state of a namespace by its censuses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Space {
    /// By cookie.
    sockets: Map<u64, KnownSocket>,
    open: Map<BudgetKey, u64>,
    listening: Map<(IpAddr, u16), u64>,
    /// TIME_WAIT sockets that did not fit among the live ones: whether they are older than the trace, and the last
    /// census that contained them.
    left_out: Map<u64, (bool, u32)>,
    /// Identities by cookie, where the two differ.
    identities: Map<u64, u64>,
    /// Identities of sockets that were TIME_WAIT sockets and are open now: they connected again.
    pub(crate) turned: HashSet<u64, FixedState>,
    /// A whole census has been seen.
    pub(crate) based: bool,
    /// End of its last complete census.
    pub(crate) complete_ns: Option<u64>,
    /// Begin of its last complete census: a search for socket owners that begins now knows what that census listed.
    pub(crate) searchable_ns: Option<u64>,
    /// The same when the last search for socket owners began at the earliest, and when the next one begins.
    searched_ns: [Option<u64>; 2],
}

/// There is no room.
pub(crate) struct Full;

impl Space {
    /// A whole census begins. It will not report earlier sockets as gone: identities are reported again, and must not
    /// be kept for good.
    pub(crate) fn begin_whole(&mut self) {
        self.based = true;
        self.identities.clear();
    }

    /// Remembers a socket that is not a TIME_WAIT socket, or forgets it once it has become one.
    pub(crate) fn remember(&mut self, cookie: u64, row: &CensusRow, number: u32, at_ns: u64) -> Result<(), Full> {
        let tuple = &row.tuple;
        let socket = match row.state {
            CensusState::Open
            | CensusState::FinWait1
            | CensusState::LastAck
            | CensusState::SynSent
            | CensusState::Established
            | CensusState::CloseWait
            | CensusState::Queued
            | CensusState::QueuedCloseWait
            | CensusState::FinWait2 => {
                let key = (tuple.local_addr, tuple.remote_addr, tuple.remote_port);
                Some(Socket::Open(key, tuple.local_port, row.state))
            }
            CensusState::Listen => Some(Socket::Listen(tuple.local_addr, tuple.local_port, row.backlog)),
            CensusState::Bound => Some(Socket::Bound(tuple.local_port)),
            CensusState::TimeWait | CensusState::TimewaitFinWait2 => None,
        };
        // A TIME_WAIT socket that it left before it connected again has the same cookie.
        if socket.is_none() && self.sockets.get(&cookie).is_some_and(|known| !known.socket.is_on(tuple.local_port)) {
            return Ok(());
        }
        let mut since_ns = at_ns;
        if let Some(before) = self.sockets.remove(&cookie) {
            self.count(before.socket, -1);
            if Some(before.socket) == socket {
                since_ns = before.since_ns;
            }
        }
        let Some(socket) = socket else { return Ok(()) };
        if self.sockets.len() >= SOCKETS {
            return Err(Full);
        }
        self.sockets.insert(cookie, KnownSocket { socket, number, since_ns });
        self.count(socket, 1);
        Ok(())
    }

    fn count(&mut self, socket: Socket, by: i64) {
        match socket {
            Socket::Open(key, ..) => count(&mut self.open, key, by),
            Socket::Listen(address, port, _) => count(&mut self.listening, (address, port), by),
            Socket::Bound(_) => {}
        }
    }

    /// A search for socket owners has ended. The next one begins later.
    pub(crate) fn searched(&mut self) {
        self.searched_ns = [self.searched_ns[1], self.searchable_ns];
    }

    /// Whether the last search for socket owners looked for a socket that was first listed at that time.
    pub(crate) fn was_searched(&self, since_ns: u64) -> bool {
        self.searched_ns[0].is_some_and(|listed_ns| since_ns <= listed_ns)
    }

    /// A TIME_WAIT socket has another identity than its cookie. When full, censuses do not notice its end.
    pub(crate) fn alias_cookie(&mut self, cookie: u64, identity: u64, limit: usize) {
        if self.identities.len() < limit {
            self.identities.insert(cookie, identity);
        }
    }

    /// Forgets a socket that is gone; returns the identity of a TIME_WAIT socket with that cookie.
    pub(crate) fn release(&mut self, cookie: u64) -> u64 {
        if let Some(known) = self.sockets.remove(&cookie) {
            self.count(known.socket, -1);
        }
        let identity = self.identities.remove(&cookie).unwrap_or(cookie);
        self.left_out.remove(&identity);
        identity
    }

    /// Forgets what a whole census did not contain.
    pub(crate) fn keep_only(&mut self, number: u32) {
        let over: Vec<u64> =
            self.sockets.iter().filter(|(_, known)| known.number != number).map(|(cookie, _)| *cookie).collect();
        for cookie in over {
            self.release(cookie);
        }
        self.left_out.retain(|_, left_out| left_out.1 == number);
    }

    /// A TIME_WAIT socket does not fit among the live ones. When full, it is not counted either.
    pub(crate) fn leave_out(&mut self, identity: u64, before_start: bool, number: u32, limit: usize) {
        if self.left_out.len() < limit {
            self.left_out.insert(identity, (before_start, number));
        }
    }

    /// Adds those to the coverage.
    pub(crate) fn add_left_out(&self, coverage: &mut Coverage) {
        for (before_start, _) in self.left_out.values() {
            *coverage.place(false, *before_start) += 1;
        }
    }

    /// Number of full sockets that use a port to a destination.
    pub(crate) fn open_to(&self, local: IpAddr, remote: IpAddr, port: u16) -> u64 {
        self.open.get(&(local, remote, port)).copied().unwrap_or(0)
    }

    /// Destinations with at least `least` of them, in order.
    pub(crate) fn crowds(&self, least: u64) -> Vec<BudgetKey> {
        let many = self.open.iter().filter(|(_, count)| **count >= least);
        let mut crowds: Vec<BudgetKey> = many.map(|(key, _)| *key).collect();
        crowds.sort_unstable();
        crowds
    }

    /// Full sockets that use a local port. In recordings of older versions all are [`CensusState::Open`].
    pub(crate) fn connections(&self) -> impl Iterator<Item = OpenConnection> {
        self.sockets.values().filter_map(|known| match known.socket {
            Socket::Open(key, port, state) => Some(OpenConnection { key, port, state, since_ns: known.since_ns }),
            Socket::Listen(..) | Socket::Bound(_) => None,
        })
    }

    /// Ports that no connect chooses: of listeners, and of sockets that are bound, each with the first census that found
    /// it so, nanoseconds.
    pub(crate) fn bound_ports(&self) -> impl Iterator<Item = (u16, u64)> {
        self.sockets.values().filter_map(|known| match known.socket {
            Socket::Listen(_, port, _) | Socket::Bound(port) => Some((port, known.since_ns)),
            Socket::Open(..) => None,
        })
    }

    /// Whether there is a socket with that cookie that is not a TIME_WAIT socket.
    pub(crate) fn has(&self, cookie: u64) -> bool {
        self.sockets.contains_key(&cookie)
    }

    /// How many connections may wait for each listener.
    pub(crate) fn backlogs(&self) -> Map<(IpAddr, u16), u32> {
        let mut backlogs: Map<(IpAddr, u16), u32> = Map::default();
        for known in self.sockets.values() {
            if let Socket::Listen(address, port, backlog) = known.socket {
                let most = backlogs.entry((address, port)).or_default();
                *most = backlog.max(*most);
            }
        }
        backlogs
    }

    /// Whether a socket listens there.
    pub(crate) fn listens(&self, address: IpAddr, port: u16) -> bool {
        self.listening.contains_key(&(address, port))
    }
}

fn count<K: std::hash::Hash + Eq>(counts: &mut Map<K, u64>, key: K, by: i64) {
    match counts.entry(key) {
        hashbrown::hash_map::Entry::Occupied(mut entry) => {
            let count = entry.get().saturating_add_signed(by);
            if count == 0 {
                entry.remove();
            } else {
                entry.insert(count);
            }
        }
        hashbrown::hash_map::Entry::Vacant(entry) => {
            if by > 0 {
                entry.insert(by.unsigned_abs());
            }
        }
    }
}
