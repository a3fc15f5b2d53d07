//! Who most likely closed the TIME_WAIT sockets whose close the trace has not seen, most of which are older.
//!
//! Nothing in the kernel says it: this is *inferred* from what happens now, and never added to exact figures. A socket on a
//! port that a process listens on was closed by that server. Those to a destination are shared out by who uses it now.

use super::{DestKey, DestRow, GroupKey, Snapshot};
use crate::event::{CensusState, Role, SocketOwner};
use crate::table::Map;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// A process, or several of one command, and how many of those sockets it most likely closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LikelyOwner {
    /// PID; `None` if there are several.
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
}

/// A process: PID, or none for merged one-shot processes, and command.
type Who = (Option<u32>, String);

impl Snapshot {
    /// Who most likely closed the live TIME_WAIT sockets without a known closer. *Inferred*.
    pub fn likely_owners(&self) -> Likely {
        let is_unknown = |process: usize| self.processes[process].key == GroupKey::Unknown;
        let mut wanted: BTreeMap<usize, u64> = BTreeMap::new();
        for joined in self.cells.iter().filter(|joined| is_unknown(joined.process)) {
            *wanted.entry(joined.destination).or_default() += joined.cell.counts.time_wait_live;
        }
        wanted.retain(|_, sockets| *sockets > 0);
        let mut users = self.users_of(&wanted);
        let mut likely = Likely::default();
        let mut sums: BTreeMap<Who, u64> = BTreeMap::new();
        for (destination, sockets) in wanted {
            let seen = users.remove(&destination).unwrap_or_default();
            let weights = match &self.destinations[destination].key {
                // What was seen is better than what is there.
                _ if !seen.is_empty() => seen,
                DestRow::Dest(key) if key.role == Role::Passive => {
                    self.listener(key).map(|who| (who, 1)).into_iter().collect()
                }
                DestRow::Dest(key) => self.connected(key),
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
        likely.owners = by_command(sums).into_iter().filter(|(_, sockets)| *sockets > 0).map(owner).collect();
        likely.owners.sort_by(|one, other| {
            (Reverse(one.sockets), one.pid, &one.command).cmp(&(Reverse(other.sockets), other.pid, &other.command))
        });
        likely
    }

    /// Who created TIME_WAIT sockets with these destinations in the trace, and how many.
    fn users_of(&self, wanted: &BTreeMap<usize, u64>) -> Map<usize, Vec<(Who, u64)>> {
        let mut users: Map<usize, Vec<(Who, u64)>> = Map::default();
        for joined in self.cells.iter().filter(|joined| wanted.contains_key(&joined.destination)) {
            let process = &self.processes[joined.process];
            let (created, Some(owner)) = (joined.cell.counts.time_wait_created, &process.owner) else { continue };
            if created == 0 {
                continue;
            }
            let pid = matches!(process.key, GroupKey::Process(_)).then_some(owner.key.tgid);
            let command = String::from_utf8_lossy(owner.comm.bytes()).into_owned();
            users.entry(joined.destination).or_default().push(((pid, command), created));
        }
        users
    }

    /// The process that listens on a port. Of several that share a listener, the eldest started the others.
    fn listener(&self, key: &DestKey) -> Option<Who> {
        let is_its = |owner: &&SocketOwner| {
            owner.state == CensusState::Listen
                && (owner.netns, owner.local_port) == (key.netns, key.port)
                && (owner.local_addr == key.local_addr || owner.local_addr.is_unspecified())
        };
        let all = self.socket_owners.rows.iter().filter(is_its);
        all.min_by_key(|owner| (owner.start_ns, owner.tgid)).map(|owner| (Some(owner.tgid), owner.command.clone()))
    }

    /// Who has open connections to a destination, and how many.
    fn connected(&self, key: &DestKey) -> Vec<(Who, u64)> {
        let is_its = |owner: &&SocketOwner| {
            owner.local_port == 0
                && owner.state.is_connection()
                && (owner.netns, owner.remote_port) == (key.netns, key.port)
                && Some(owner.remote_addr) == key.remote_addr
        };
        let all = self.socket_owners.rows.iter().filter(is_its);
        all.map(|owner| ((Some(owner.tgid), owner.command.clone()), owner.sockets)).collect()
    }
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

/// Processes that have one socket or two each, as those of a loop of `curl`, are one by their command.
fn by_command(sums: BTreeMap<Who, u64>) -> BTreeMap<Who, u64> {
    const FEW: u64 = 2;
    let mut processes: Map<String, u64> = Map::default();
    for (_, command) in sums.keys() {
        *processes.entry(command.clone()).or_default() += 1;
    }
    let mut merged: BTreeMap<Who, u64> = BTreeMap::new();
    for ((pid, command), sockets) in sums {
        let is_alone = processes.get(&command) == Some(&1);
        *merged.entry((pid.filter(|_| is_alone || sockets > FEW), command)).or_default() += sockets;
    }
    merged
}
