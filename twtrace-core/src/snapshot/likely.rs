//! Who most likely closed the TIME_WAIT sockets whose close the trace has not seen, most of which are older.
//!
//! Nothing in the kernel says it: this is *inferred* from what happens now, and never added to exact figures. Those of a
//! destination are shared out by who created such sockets in the trace. Where nobody did, a socket on a port that a process
//! listens on was closed by that server, and one to a destination by who is connected to it.

use super::{DestKey, DestRow, GroupKey, Snapshot};
use crate::event::{CensusState, Role, SocketOwner};
use crate::plain::lossless;
use crate::table::Map;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A process, or several of one command, and how many of those sockets it most likely closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LikelyOwner {
    /// PID; `None` for processes with a connection or two each, which are together.
    pub pid: Option<u32>,
    /// The command. Hostile input.
    pub command: String,
    /// How many sockets.
    pub sockets: u64,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Likely {
    /// Those with the most sockets first.
    pub owners: Vec<LikelyOwner>,
    /// Sockets of which nothing suggests an owner.
    pub unknown: u64,
}

impl Likely {
    /// How many sockets have a likely owner.
    pub fn sockets(&self) -> u64 {
        self.owners.iter().map(|owner| owner.sockets).sum()
    }

    /// Of a snapshot.
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let is_unknown = |process: usize| snapshot.processes[process].key == GroupKey::Unknown;
        let mut wanted: BTreeMap<usize, u64> = BTreeMap::new();
        for joined in snapshot.cells.iter().filter(|joined| is_unknown(joined.process)) {
            *wanted.entry(joined.destination).or_default() += joined.cell.counts.time_wait_live;
        }
        wanted.retain(|_, sockets| *sockets > 0);
        let mut likely = Self::default();
        if wanted.is_empty() {
            return likely;
        }
        let mut users = users_of(snapshot, &wanted);
        let open = Open::of(&snapshot.socket_owners.rows);
        let mut sums: BTreeMap<Who, u64> = BTreeMap::new();
        for (destination, sockets) in wanted {
            let seen = users.remove(&destination).unwrap_or_default();
            let weights = match &snapshot.destinations[destination].key {
                // What was seen is better than what is there.
                _ if !seen.is_empty() => seen,
                DestRow::Dest(key) if key.role == Role::Passive => open.listener(key).into_iter().collect(),
                DestRow::Dest(key) => open.connected(key),
                DestRow::Other => Vec::new(),
            };
            if weights.is_empty() {
                likely.unknown += sockets;
            }
            for (who, share) in shared_out(sockets, weights) {
                *sums.entry(who).or_default() += share;
            }
        }
        let owner = |((pid, command), sockets)| LikelyOwner { pid, command, sockets };
        likely.owners = sums.into_iter().filter(|(_, sockets)| *sockets > 0).map(owner).collect();
        likely.owners.sort_by(|one, other| {
            (Reverse(one.sockets), one.pid, &one.command).cmp(&(Reverse(other.sockets), other.pid, &other.command))
        });
        likely
    }
}

/// A process: PID, or none for several, and command.
type Who = (Option<u32>, String);

/// Who created TIME_WAIT sockets with these destinations in the trace, and how many.
fn users_of(snapshot: &Snapshot, wanted: &BTreeMap<usize, u64>) -> Map<usize, Vec<(Who, u64)>> {
    let mut users: Map<usize, BTreeMap<Who, u64>> = Map::default();
    for joined in snapshot.cells.iter().filter(|joined| wanted.contains_key(&joined.destination)) {
        let process = &snapshot.processes[joined.process];
        let (created, Some(owner)) = (joined.cell.counts.time_wait_created, &process.owner) else { continue };
        if created == 0 {
            continue;
        }
        // The processes of a loop are not those that closed earlier ones.
        let is_one = matches!(process.key, GroupKey::Process(_)) && !snapshot.is_one_shot(joined.process);
        let who = (is_one.then_some(owner.key.tgid), lossless(owner.comm.bytes()).into_owned());
        *users.entry(joined.destination).or_default().entry(who).or_default() += created;
    }
    users.into_iter().map(|(destination, users)| (destination, users.into_iter().collect())).collect()
}

/// Open sockets by the last search for their owners.
struct Open<'a> {
    /// By namespace and port.
    listeners: Map<(u32, u16), Vec<&'a SocketOwner>>,
    /// By namespace, remote address and port.
    connections: Map<(u32, IpAddr, u16), Vec<&'a SocketOwner>>,
}

impl<'a> Open<'a> {
    fn of(rows: &'a [SocketOwner]) -> Self {
        let mut open = Self { listeners: Map::default(), connections: Map::default() };
        for row in rows {
            if row.state == CensusState::Listen {
                open.listeners.entry((row.netns, row.local_port)).or_default().push(row);
            } else if row.local_port == 0 && row.state.is_connection() {
                open.connections.entry((row.netns, row.remote_addr, row.remote_port)).or_default().push(row);
            }
        }
        open
    }

    /// The process that listens on a port, rather at the very address than at any. Of several that share a listener, the
    /// eldest started the others.
    fn listener(&self, key: &DestKey) -> Option<(Who, u64)> {
        let all = self.listeners.get(&(key.netns, key.port))?.iter();
        let fits = all.filter(|owner| owner.local_addr == key.local_addr || owner.local_addr.is_unspecified());
        let one = fits.min_by_key(|owner| (owner.local_addr != key.local_addr, owner.start_ns, owner.tgid))?;
        Some((who(one), 1))
    }

    /// Who has open connections to a destination, and how many.
    fn connected(&self, key: &DestKey) -> Vec<(Who, u64)> {
        let all = key.remote_addr.and_then(|remote| self.connections.get(&(key.netns, remote, key.port)));
        all.into_iter().flatten().map(|owner| (who(owner), owner.sockets)).collect()
    }
}

fn who(owner: &SocketOwner) -> Who {
    (Some(owner.tgid), owner.command.clone())
}

/// Divides sockets by weight: the shares add up to all of them.
fn shared_out(sockets: u64, weights: Vec<(Who, u64)>) -> Vec<(Who, u64)> {
    let all: u128 = weights.iter().map(|(_, weight)| u128::from(*weight)).sum();
    let mut before = 0;
    let mut given = 0;
    let share = |(who, weight): (Who, u64)| {
        before += u128::from(weight);
        // At most the number of sockets.
        let until = (u128::from(sockets) * before / all.max(1)) as u64;
        let share = until - given;
        given = until;
        (who, share)
    };
    weights.into_iter().map(share).collect()
}
