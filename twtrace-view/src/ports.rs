//! The port budget of a destination in words, and as shares of a bar.

use crate::{label, text};
use std::collections::HashMap;
use twtrace_core::event::Role;
use twtrace_core::ports::Budget;
use twtrace_core::snapshot::{DestKey, DestRow, DestinationRow, PortHolder, PortState, Snapshot};

/// State of the ports, in the order in which a bar shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Share {
    /// Bound, for all destinations.
    Bound,
    /// Connections in ESTABLISHED.
    Established,
    /// Connections in other states.
    Other,
    /// TIME_WAIT sockets that keep their port.
    #[strum(serialize = "TIME_WAIT")]
    TimeWait,
    /// TIME_WAIT sockets that a connect may take over.
    Reusable,
    /// No socket.
    Free,
}

impl Share {
    /// All of them, in their order.
    pub const ALL: [Self; 6] =
        [Self::Bound, Self::Established, Self::Other, Self::TimeWait, Self::Reusable, Self::Free];

    /// Its letter in a bar: shares can be distinguished without colour.
    pub fn letter(self) -> char {
        match self {
            Self::Bound => 'B',
            Self::Established => 'E',
            Self::Other => 'O',
            Self::TimeWait => 'T',
            Self::Reusable => 'R',
            Self::Free => '.',
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The share in which a holder's ports are; those in TIME_WAIT may be reusable as well.
    pub fn of(state: PortState) -> Self {
        match state {
            PortState::Bound => Self::Bound,
            PortState::Established => Self::Established,
            PortState::SynSent | PortState::CloseWait | PortState::Closing => Self::Other,
            PortState::TimeWait => Self::TimeWait,
        }
    }
}

/// All shares of a budget.
pub fn shares(budget: &Budget) -> [(Share, u32); 6] {
    [
        (Share::Bound, budget.bound),
        (Share::Established, budget.established),
        (Share::Other, budget.other),
        (Share::TimeWait, budget.time_wait.saturating_sub(budget.reusable)),
        (Share::Reusable, budget.reusable),
        (Share::Free, budget.total.saturating_sub(budget.used)),
    ]
}

/// The cells of a bar for each share. Every share with a port has at least one cell, if there are enough cells.
pub fn cells(budget: &Budget, width: usize) -> [(Share, usize); 6] {
    let shares = shares(budget);
    let mut cells = spread(&shares.map(|(_, ports)| ports.into()), width).into_iter();
    shares.map(|(share, _)| (share, cells.next().unwrap_or(0)))
}

/// The cells of a bar for each part of a whole. Every part that is not 0 has at least one cell, if there are enough cells; if
/// all are 0, the last one has them all.
pub fn spread(parts: &[u64], width: usize) -> Vec<usize> {
    let whole: u128 = parts.iter().map(|part| u128::from(*part)).sum::<u128>().max(1);
    let cell = |part: &u64| {
        let cells = u128::from(*part) * width as u128 / whole;
        // Not more than the width.
        (cells as usize).max(usize::from(*part > 0))
    };
    let mut cells: Vec<usize> = parts.iter().map(cell).collect();
    loop {
        let sum: usize = cells.iter().sum();
        let Some(largest) = cells.iter_mut().max() else { break };
        match sum.cmp(&width) {
            std::cmp::Ordering::Equal => break,
            std::cmp::Ordering::Less => *largest += width - sum,
            // Each of the others has one cell, and there are few parts.
            std::cmp::Ordering::Greater => *largest -= 1,
        }
    }
    cells
}

/// Holders that are named in a line.
const NAMED: usize = 4;

/// Holders of one name and one state, and how many ports they have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holders {
    /// What they are called, clean; `None` where no process is known.
    pub name: Option<String>,
    /// The PID of a single process.
    pub pid: Option<u32>,
    /// Number of processes; 0 where none is known.
    pub processes: u64,
    /// In which state.
    pub state: PortState,
    /// How many.
    pub ports: u64,
    /// At least one of them was looked up in `/proc`, and not seen in the trace.
    pub is_looked_up: bool,
}

impl Holders {
    /// Holders by name and state, the ones with the most ports first, last what no process is known to have. There may be
    /// one process for each connection: processes of one name are one entry.
    pub fn of(holders: &[PortHolder], name: impl Fn(&PortHolder) -> String) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        let mut places: HashMap<(String, PortState), usize> = HashMap::new();
        for holder in holders {
            let name = holder.pid.map(|_| name(holder));
            let place = name.clone().map(|name| (name, holder.state));
            let new = Self {
                name,
                pid: holder.pid,
                processes: holder.pid.is_some().into(),
                state: holder.state,
                ports: holder.ports,
                is_looked_up: holder.is_looked_up,
            };
            match place.as_ref().and_then(|place| places.get(place)) {
                Some(at) => groups[*at].add(&new),
                None => {
                    places.extend(place.map(|place| (place, groups.len())));
                    groups.push(new);
                }
            }
        }
        groups.sort_by_key(|group| (group.name.is_none(), std::cmp::Reverse(group.ports)));
        groups
    }

    fn add(&mut self, other: &Self) {
        self.processes += other.processes;
        self.ports += other.ports;
        self.pid = None;
        self.is_looked_up |= other.is_looked_up;
    }

    /// Who they are: `mailer[812]`, `curl (40 processes)`, `no known process`. A tilde marks what was looked up in `/proc`.
    pub fn who(&self) -> String {
        let about = if self.is_looked_up { "~" } else { "" };
        match (&self.name, self.pid) {
            (None, _) => "no known process".to_owned(),
            (Some(name), Some(pid)) => format!("{about}{name}[{pid}]"),
            (Some(name), None) => format!("{about}{name} ({} processes)", text::count(self.processes)),
        }
    }
}

/// What an operator calls a holder.
pub fn program(holder: &PortHolder, snapshot: &Snapshot) -> String {
    let facts = holder.pid.and_then(|pid| snapshot.facts_of_pid(pid));
    label::program_of_command(&holder.command, facts)
}

/// Who has the ports, the ones with the most first: `mailer[812] 2,990 bound, curl (40 processes) 80 TIME_WAIT, and 3 more`. A
/// tilde marks those that were looked up in `/proc`; empty when no port is in use.
pub fn holders(holders: &[PortHolder], snapshot: &Snapshot) -> String {
    let groups = Holders::of(holders, |holder| program(holder, snapshot));
    let say = |group: &Holders| format!("{} {} {}", group.who(), text::count(group.ports), group.state.name());
    let mut named: Vec<String> = groups.iter().take(NAMED).map(say).collect();
    let more = groups.len().saturating_sub(NAMED);
    if more > 0 {
        named.push(format!("and {} more", text::count(more as u64)));
    }
    named.join(", ")
}

/// When connect gets slow, and when no port is left: `slow in 20s, full in 42s (38s to 51s)`, `never at this rate`.
pub fn forecast(budget: &Budget) -> String {
    let full = full(budget);
    let slow = match budget.seconds_to_slow.filter(|_| budget.available > 0) {
        None => return full,
        Some(seconds) if seconds > 0.0 => format!("slow in {}", text::seconds(seconds)),
        Some(_) => "slow now".to_owned(),
    };
    match budget.seconds_to_exhaustion {
        Some(_) => format!("{slow}, {full}"),
        None => format!("{slow}, full {full}"),
    }
}

fn full(budget: &Budget) -> String {
    let bound = |seconds: Option<f64>| seconds.map(text::seconds);
    let (soonest, latest) = (bound(budget.soonest_seconds), bound(budget.latest_seconds));
    match (budget.seconds_to_exhaustion, soonest, latest) {
        _ if budget.available == 0 => "FULL: no connect finds a port".to_owned(),
        (Some(seconds), Some(soonest), Some(latest)) => {
            format!("full in {} ({soonest} to {latest})", text::seconds(seconds))
        }
        (Some(seconds), Some(soonest), None) => {
            format!("full in {} (soonest {soonest}, or never)", text::seconds(seconds))
        }
        (Some(seconds), None, _) => format!("full in {}", text::seconds(seconds)),
        (None, Some(soonest), _) => format!("never at this rate ({soonest} if it is a little higher)"),
        (None, None, _) => "never at this rate".to_owned(),
    }
}

/// Why a destination has no budget, in a short phrase.
pub fn without(row: &DestinationRow) -> &'static str {
    match &row.key {
        DestRow::Dest(DestKey { role: Role::Passive, port: 0, .. }) => "calls of bind(2) that failed, for any port",
        DestRow::Dest(DestKey { role: Role::Passive, .. }) if row.counts.closed_first > 0 => {
            "closes first on its own listening port: costs memory, no ephemeral port"
        }
        DestRow::Dest(DestKey { role: Role::Passive, .. }) => "accepted on its own listening port: no ephemeral port",
        DestRow::Dest(DestKey { role: Role::Unknown, .. }) => "who opened these connections is unknown: no budget",
        DestRow::Dest(_) => "the range of its network namespace is unknown: no budget",
        DestRow::Other => "several destinations together: no budget",
    }
}

/// How long connects take: `connect p50 120us, p99 3ms`; empty when none was seen.
pub fn latency(row: &DestinationRow) -> String {
    let quantile = |share| row.connect_us.quantile(share).map(|us| text::seconds(us as f64 / 1e6));
    match (quantile(0.5), quantile(0.99)) {
        (Some(half), Some(most)) => format!("connect p50 {half}, p99 {most}"),
        _ => String::new(),
    }
}

/// How many ports there are: `250 ports (6 reserved)`, without the reserved ones.
pub fn total(budget: &Budget) -> String {
    let reserved = if budget.reserved == 0 { String::new() } else { format!(" ({} reserved)", budget.reserved) };
    format!("{} ports{reserved}", text::count(budget.total.into()))
}

/// The result of a budget: `250 ports, 48.0% used; 30.0/s now, 4.2/s for ever`.
pub fn rates(budget: &Budget) -> String {
    format!(
        "{}, {} used; {}/s now, sustains {}/s",
        total(budget),
        text::percent(budget.utilization),
        text::rate(budget.rate_per_s),
        text::rate(budget.max_rate_per_s),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_are_named_with_what_they_have() {
        // Its process 666 is the only one of these.
        let snapshot = twtrace_testkit::web::snapshot();
        let holder = |pid, command: &str, state, ports, is_looked_up| PortHolder {
            pid,
            command: command.to_owned(),
            state,
            ports,
            is_looked_up,
        };
        let mut all = vec![
            holder(Some(812), "mail\u{1b}er", PortState::Bound, 2990, true),
            holder(Some(1), "curl", PortState::TimeWait, 3, false),
            holder(Some(2), "curl", PortState::TimeWait, 2, false),
            holder(None, "", PortState::TimeWait, 7, false),
        ];
        assert_eq!(
            holders(&all, &snapshot),
            "~mail\\x1ber[812] 2,990 bound, curl (2 processes) 5 TIME_WAIT, no known process 7 TIME_WAIT"
        );
        all.extend((0..5).map(|pid| holder(Some(100 + pid), &format!("app{pid}"), PortState::Established, 1, true)));
        assert!(
            holders(&all, &snapshot).ends_with(", ~app0[100] 1 ESTABLISHED, ~app1[101] 1 ESTABLISHED, and 4 more"),
            "{}",
            holders(&all, &snapshot)
        );
        assert_eq!(holders(&[], &snapshot), "");
    }

    #[test]
    fn bars_are_as_wide_as_asked_and_show_all_that_is_there() {
        let budget = Budget {
            total: 28_232,
            bound: 1,
            established: 20,
            time_wait: 9000,
            reusable: 3000,
            used: 9021,
            ..Budget::default()
        };
        for width in [6, 10, 76, 200] {
            let cells = cells(&budget, width);
            assert_eq!(cells.iter().map(|(_, cells)| cells).sum::<usize>(), width);
            for ((share, cells), (_, ports)) in cells.iter().zip(shares(&budget)) {
                assert_eq!(*cells > 0, ports > 0, "{share:?} of {width}");
            }
        }
        // Too narrow, empty, more ports used than exist.
        for budget in [budget, Budget::default(), Budget { total: 5, used: 9, time_wait: 9, ..Budget::default() }] {
            for width in 0..7 {
                assert_eq!(cells(&budget, width).iter().map(|(_, cells)| cells).sum::<usize>(), width);
            }
        }
    }

    #[test]
    fn slow_comes_before_full() {
        let of = |seconds_to_slow, seconds_to_exhaustion| {
            forecast(&Budget { available: 1, seconds_to_slow, seconds_to_exhaustion, ..Budget::default() })
        };
        assert_eq!(of(Some(20.0), Some(45.0)), "slow in 20.0s, full in 45.0s");
        assert_eq!(of(Some(0.0), Some(45.0)), "slow now, full in 45.0s");
        assert_eq!(of(Some(20.0), None), "slow in 20.0s, full never at this rate");
        assert_eq!(of(Some(0.0), None), "slow now, full never at this rate");
    }

    #[test]
    fn forecasts_have_their_band() {
        let of = |at, soonest_seconds, latest_seconds| {
            forecast(&Budget {
                available: 1,
                seconds_to_exhaustion: at,
                soonest_seconds,
                latest_seconds,
                ..Budget::default()
            })
        };
        assert_eq!(of(Some(42.0), Some(38.0), Some(51.0)), "full in 42.0s (38.0s to 51.0s)");
        assert_eq!(of(Some(42.0), Some(38.0), None), "full in 42.0s (soonest 38.0s, or never)");
        assert_eq!(of(None, Some(70.0), None), "never at this rate (1m10s if it is a little higher)");
        assert_eq!(of(None, None, None), "never at this rate");
        assert_eq!(forecast(&Budget::default()), "FULL: no connect finds a port");
    }
}
