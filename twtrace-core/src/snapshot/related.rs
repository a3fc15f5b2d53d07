//! Which findings a filter keeps: those that concern what it selects, as the cause or as the victim. A filter by
//! destination that hid who has bound the ports, or one by process that hid why it fails, would hide the answer.

use super::{DestKey, DestRow, ProcessRow, Snapshot};
use crate::event::{Owner, Role};
use crate::evidence::{Evidence, Unit, Value};
use crate::failure::FailureRow;
use crate::filter::{Filter, Names};
use crate::finding::Finding;
use crate::state::program_of;
use std::net::{IpAddr, SocketAddr};

impl Snapshot {
    /// Whether a finding of this snapshot, which is of everything, concerns what a filter selects; `selected` is the snapshot
    /// of that. What is about no process and no destination, such as a limit of the host, concerns all.
    pub(super) fn concerns(&self, filter: &Filter, selected: &Self, finding: &Finding) -> bool {
        let pids = || finding.evidence.iter().filter_map(pid);
        let has_party = finding.process.is_some() || pids().next().is_some();
        let is_there = |key| selected.destinations.iter().any(|row| row.key == DestRow::Dest(key));
        if filter.asks_for_owners() || filter.asks_for_names() {
            let passes = match finding.destination {
                // Whose it is was not seen: that of all who are there.
                Some(key) if !has_party => is_there(key),
                _ => !has_party,
            };
            if !passes && !self.subject_passes(filter, finding) && !pids().any(|pid| self.pid_passes(filter, pid)) {
                return false;
            }
        }
        self.place_passes(filter, finding, is_there)
    }

    fn place_passes(&self, filter: &Filter, finding: &Finding, has_row: impl Fn(DestKey) -> bool) -> bool {
        let peers = || finding.evidence.iter().filter_map(peer);
        match finding.destination {
            Some(key) if !filter.passes_netns(key.netns, &self.summary) => false,
            Some(key) => {
                at(filter, key)
                    || has_row(key)
                    || peers().any(|peer| filter.passes_remote(peer.ip(), peer.port(), None))
            }
            // The sum over many places: it is about one of them if the process has connections or failures there.
            None => {
                let Some(subject) = finding.process else { return true };
                let is_its = |owner: &Owner| match subject.process {
                    Some(process) => owner.key == process,
                    None => (owner.comm, owner.ppid) == (subject.command, subject.ppid),
                };
                let is_there = |key| at(filter, key) && filter.passes_netns(key.netns, &self.summary);
                let failed =
                    |row: &FailureRow| row.owner.as_ref().is_some_and(is_its) && row.destination.is_some_and(is_there);
                !(filter.asks_for_place() || filter.asks_for_netns())
                    || self
                        .cells()
                        .any(|(owner, row, _)| is_its(owner) && matches!(row.key, DestRow::Dest(key) if is_there(key)))
                    || self.failures.iter().any(failed)
            }
        }
    }

    fn subject_passes(&self, filter: &Filter, finding: &Finding) -> bool {
        let Some(subject) = finding.process else { return false };
        if let Some(process) = subject.process {
            let known = self.processes.iter().find(|row| row.owner.is_some_and(|owner| owner.key == process));
            if let Some(row) = known {
                return self.row_passes(filter, row);
            }
            // Known from its sockets alone.
            let facts = self.facts(process);
            let owner = Owner {
                key: process,
                uid: subject.uid,
                ppid: subject.ppid,
                cgroup: 0,
                comm: subject.command,
                parent_comm: subject.parent_command,
                kthread: false,
                exiting: false,
            };
            let program = program_of(&owner, facts);
            let names = Names { program: Some(&program), runs_in: self.runs_in(facts) };
            return filter.passes_owner(&owner) && filter.passes_names(names);
        }
        // Several processes of one command and one parent.
        let is_one = |row: &&ProcessRow| {
            row.owner.is_some_and(|owner| owner.comm == subject.command && owner.ppid == subject.ppid)
        };
        let asks_for_it = filter.pids.contains(&subject.ppid);
        asks_for_it || self.processes.iter().filter(is_one).any(|row| self.row_passes(filter, row))
    }

    fn pid_passes(&self, filter: &Filter, pid: u32) -> bool {
        let has_pid = |row: &&ProcessRow| row.owner.is_some_and(|owner| owner.key.tgid == pid);
        // A process that is known from its sockets alone has no row.
        let by_pid_alone =
            filter.pids.contains(&pid) && filter.comms.is_empty() && filter.uids.is_empty() && !filter.asks_for_names();
        by_pid_alone || self.processes.iter().filter(has_pid).any(|row| self.row_passes(filter, row))
    }

    fn row_passes(&self, filter: &Filter, row: &ProcessRow) -> bool {
        let program = self.program(row);
        let names = Names { program: program.as_deref(), runs_in: self.runs_in(self.facts_of(row)) };
        row.owner.is_some_and(|owner| filter.passes_owner(&owner)) && filter.passes_names(names)
    }
}

/// Whether connections of a destination may pass, or those to a port of this host.
fn at(filter: &Filter, key: DestKey) -> bool {
    match key.role {
        Role::Passive => filter.passes_remote(key.local_addr, key.port, Some(key.port)),
        Role::Active | Role::Unknown => {
            let any = IpAddr::from([0_u16; 8]);
            filter.passes_remote(key.remote_addr.unwrap_or(any), key.port, Some(key.port))
        }
    }
}

fn pid(evidence: &Evidence) -> Option<u32> {
    match (evidence.kind().unit, evidence.value()) {
        (Unit::Pid, Value::Count(pid)) => u32::try_from(pid).ok(),
        _ => None,
    }
}

fn peer(evidence: &Evidence) -> Option<SocketAddr> {
    match evidence {
        Evidence::HolderPeer(peer) => peer.parse().ok(),
        _ => None,
    }
}
