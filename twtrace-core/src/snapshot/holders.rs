//! Who has the ports of a budget, and in which state.

use super::{DestKey, DestRow, DestinationRow, Snapshot};
use crate::event::{CensusState, Comm, Role, SocketOwner};
use crate::table::Map;
use std::net::IpAddr;

/// State of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, strum::IntoStaticStr)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PortState {
    /// bind(2) took it for a connection to somewhere else, or for none.
    #[strum(serialize = "bound")]
    Bound,
    /// ESTABLISHED.
    #[strum(serialize = "ESTABLISHED")]
    Established,
    /// SYN_SENT.
    #[strum(serialize = "SYN_SENT")]
    SynSent,
    /// CLOSE_WAIT.
    #[strum(serialize = "CLOSE_WAIT")]
    CloseWait,
    /// FIN_WAIT1 and other states on the way to the end.
    #[strum(serialize = "closing")]
    Closing,
    /// A TIME_WAIT socket of either substate.
    #[strum(serialize = "TIME_WAIT")]
    TimeWait,
}

impl PortState {
    /// As people write it.
    pub fn name(self) -> &'static str {
        self.into()
    }

    fn of(state: CensusState) -> Option<Self> {
        match state {
            CensusState::Established => Some(Self::Established),
            CensusState::SynSent => Some(Self::SynSent),
            CensusState::CloseWait => Some(Self::CloseWait),
            CensusState::FinWait1 | CensusState::LastAck | CensusState::FinWait2 | CensusState::Open => {
                Some(Self::Closing)
            }
            CensusState::Bound => Some(Self::Bound),
            _ => None,
        }
    }
}

/// Ports of one state that one process has.
#[derive(Clone, Debug, PartialEq)]
pub struct PortHolder {
    /// PID; `None` for those of which nobody is known: orphans, and TIME_WAIT sockets from before the trace.
    pub pid: Option<u32>,
    /// Its command. Hostile input.
    pub command: String,
    /// In which state.
    pub state: PortState,
    /// How many.
    pub ports: u64,
    /// Found in `/proc`, by the last search for socket owners, and not seen in the trace: others may have the same sockets.
    pub is_looked_up: bool,
}

type Place = (u32, IpAddr, Option<IpAddr>, u16);

fn place(key: &DestKey) -> Place {
    (key.netns, key.local_addr, key.remote_addr, key.port)
}

/// Who has which ports, for all destinations.
#[derive(Debug, Default)]
pub(super) struct PortHolders {
    /// By destination.
    to: Map<Place, Vec<PortHolder>>,
    /// Bound ports by namespace, with the destination that they are used for.
    bound: Map<u32, Vec<(Option<Place>, PortHolder)>>,
}

impl PortHolders {
    /// Of a snapshot.
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let mut all = Self::default();
        for (owner, row, cell) in snapshot.cells() {
            let DestRow::Dest(key) = &row.key else { continue };
            if key.role != Role::Active || cell.counts.time_wait_live == 0 {
                continue;
            }
            let holder = PortHolder {
                pid: Some(owner.key.tgid),
                command: name(&owner.comm),
                state: PortState::TimeWait,
                ports: cell.counts.time_wait_live,
                is_looked_up: false,
            };
            // Those of connections that were bound first have a port that no other destination gets.
            if 2 * u64::from(cell.pattern.bound) > cell.pattern.opened {
                all.bound.entry(key.netns).or_default().push((Some(place(key)), holder.clone()));
            }
            all.to.entry(place(key)).or_default().push(holder);
        }
        for owner in &snapshot.socket_owners().rows {
            let Some(state) = PortState::of(owner.state) else { continue };
            let holder = PortHolder {
                pid: Some(owner.tgid),
                command: owner.command.clone(),
                state,
                ports: owner.sockets,
                is_looked_up: true,
            };
            if state == PortState::Bound {
                all.bound.entry(owner.netns).or_default().push((None, holder));
                continue;
            }
            let to = to(owner);
            // Not those that were accepted.
            if owner.local_port == 0 {
                all.bound.entry(owner.netns).or_default().push((Some(to), holder.clone()));
                all.to.entry(to).or_default().push(holder);
            }
        }
        all
    }

    /// Those of one destination's budget, the ones with the most ports first; what nobody is known to have comes last.
    pub(super) fn of_row(&self, row: &DestinationRow) -> Vec<PortHolder> {
        let (DestRow::Dest(key), Some(budget)) = (&row.key, row.budget) else { return Vec::new() };
        let place = place(key);
        let mut found = self.to.get(&place).cloned().unwrap_or_default();
        if budget.bound > 0 {
            found.extend(self.elsewhere(key.netns, place, budget.bound.into()));
        }
        found.sort_by(|one, other| (other.ports, one.state, one.pid).cmp(&(one.ports, other.state, other.pid)));
        let closing = (budget.other - budget.close_wait.min(budget.other)).saturating_sub(budget.syn_sent);
        for (state, ports) in [
            (PortState::Bound, budget.bound),
            (PortState::Established, budget.established),
            (PortState::SynSent, budget.syn_sent),
            (PortState::CloseWait, budget.close_wait),
            (PortState::Closing, closing),
            (PortState::TimeWait, budget.time_wait),
        ] {
            let known: u64 = found.iter().filter(|holder| holder.state == state).map(|holder| holder.ports).sum();
            let unknown = u64::from(ports).saturating_sub(known);
            if unknown > 0 {
                found.push(PortHolder {
                    pid: None,
                    command: String::new(),
                    state,
                    ports: unknown,
                    is_looked_up: false,
                });
            }
        }
        found
    }

    /// Who may have bound the ports that are in use for other destinations. Whether an open connection was bound first is
    /// not known of those that are older than the trace.
    fn elsewhere(&self, netns: u32, except: Place, bound: u64) -> Vec<PortHolder> {
        let mut by_process: Map<(u32, bool), PortHolder> = Map::default();
        let others = self.bound.get(&netns).into_iter().flatten().filter(|(to, _)| *to != Some(except));
        for (_, holder) in others {
            let Some(pid) = holder.pid else { continue };
            let none = PortHolder { state: PortState::Bound, ports: 0, ..holder.clone() };
            by_process.entry((pid, holder.is_looked_up)).or_insert(none).ports += holder.ports;
        }
        let mut all: Vec<PortHolder> = by_process.into_values().collect();
        all.sort_by_key(|holder| (std::cmp::Reverse(holder.ports), holder.pid));
        // At most as many as there are: the processes with the most sockets come first.
        let mut left = bound;
        for holder in &mut all {
            holder.ports = holder.ports.min(left);
            left -= holder.ports;
        }
        all.retain(|holder| holder.ports > 0);
        all
    }
}

fn to(owner: &SocketOwner) -> Place {
    (owner.netns, owner.local_addr, Some(owner.remote_addr), owner.remote_port)
}

fn name(comm: &Comm) -> String {
    String::from_utf8_lossy(comm.bytes()).into_owned()
}
