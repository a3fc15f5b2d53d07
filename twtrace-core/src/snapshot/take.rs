//! Taking a snapshot.

use super::holders::PortHolders;
use super::row::DestinationRow;
use super::sockets::{OwnerRef, Packer, Sockets};
use super::{Joined, Snapshot};
use crate::counts::Counts;
use crate::event::ProcessKey;
use crate::filter::Names;
use crate::keys::{DestRow, GroupKey};
use crate::rules;
use crate::state::{BudgetFigures, Cell, Destination, State, program_of};
use crate::table::Map;
use foldhash::fast::FixedState;
use hashbrown::HashSet;
use std::sync::{Arc, OnceLock};

impl Snapshot {
    /// What is known now, without the list of live sockets.
    pub fn take(state: &mut State) -> Self {
        Self::of(state, false)
    }

    /// The same with the list of live sockets: there can be hundreds of thousands.
    pub fn with_sockets(state: &mut State) -> Self {
        Self::of(state, true)
    }

    fn of(state: &mut State, sockets: bool) -> Self {
        let whole = state.whole.as_deref_mut().map(|whole| {
            whole.keep_failing();
            Self::unfiltered(whole, false)
        });
        state.keep_failing();
        let mut snapshot = Self::unfiltered(state, sockets);
        if state.filter.is_late() {
            snapshot.filter(state);
        }
        snapshot.sum_up();
        if state.filter.is_empty() {
            snapshot.findings = rules::check(&snapshot, |_| true);
            return snapshot;
        }
        // What leads to what the filter selects does not pass the filter: findings are those of everything.
        let mut whole = whole.unwrap_or_else(|| Self::unfiltered(state, false));
        whole.sum_up();
        snapshot.findings = rules::check(&whole, |finding| whole.concerns(&state.filter, &snapshot, finding));
        snapshot.facts = Arc::clone(&whole.facts);
        snapshot.cgroups = Arc::clone(&whole.cgroups);
        snapshot.containers = Arc::clone(&whole.containers);
        snapshot.port_holders = OnceLock::from(PortHolders::of(&whole));
        snapshot
    }

    /// Without the part of the filter that asks for names, without sums and findings.
    fn unfiltered(state: &State, sockets: bool) -> Self {
        let mut snapshot = Self {
            summary: state.summary.clone(),
            processes: Vec::new(),
            destinations: Vec::new(),
            cells: Vec::new(),
            sockets: Sockets::default(),
            lists_sockets: sockets,
            history: state.history.clone(),
            failures: state.failures.rows().cloned().collect(),
            socket_owners: state.socket_owners.clone(),
            waiting: state.waiting(),
            findings: Vec::new(),
            facts: Arc::clone(state.accounts.facts.processes()),
            cgroups: Arc::clone(state.accounts.facts.cgroups()),
            containers: Arc::clone(state.containers.all()),
            users: Arc::clone(&state.users),
            names: OnceLock::new(),
            port_holders: OnceLock::new(),
            likely: OnceLock::new(),
            last_of_pid: OnceLock::new(),
            users_of_destinations: OnceLock::new(),
            groups: Default::default(),
        };
        // A correction may be all that is left of a connection.
        let cells: Vec<&Cell> = state.accounts.cells.rows().collect();
        let has_cell = |id: fn(&Cell) -> u32| cells.iter().map(|cell| id(cell)).collect::<HashSet<u32, FixedState>>();
        let (processes, places) = (has_cell(|cell| cell.process), has_cell(|cell| cell.destination));
        snapshot.processes = state.accounts.processes.shown(|row| processes.contains(&row.id)).cloned().collect();
        snapshot.destinations = destinations(state, |row| places.contains(&row.id));
        snapshot.join(&cells);
        if sockets {
            snapshot.sockets = self::sockets(state);
        }
        snapshot
    }

    /// Adds up the figures of destinations that are sums over their cells.
    fn sum_up(&mut self) {
        for joined in &self.cells {
            self.destinations[joined.destination].counts.absorb(&joined.cell.counts);
        }
    }

    /// Takes the cells, in process order.
    fn join(&mut self, cells: &[&Cell]) {
        let of_process: Map<u32, usize> = self.processes.iter().enumerate().map(|(at, row)| (row.id, at)).collect();
        let of_destination: Map<u32, usize> =
            self.destinations.iter().enumerate().map(|(at, row)| (row.id, at)).collect();
        let cells = cells.iter().filter_map(|cell| {
            let (process, destination) = (*of_process.get(&cell.process)?, *of_destination.get(&cell.destination)?);
            Some(Joined { process, destination, cell: (*cell).clone() })
        });
        self.cells = cells.collect();
        self.cells.sort_unstable_by_key(|joined| (joined.process, joined.destination));
    }

    /// Applies the part of the filter that asks for names, which may have arrived after the connections.
    fn filter(&mut self, state: &State) {
        if let Some(history) = &mut self.history {
            history.set_before_names();
        }
        let mut sockets = std::mem::take(&mut self.sockets);
        let filter = &state.filter;
        let processes: Vec<bool> = self
            .processes
            .iter()
            .map(|row| {
                let program = self.program(row);
                filter.passes_names(Names { program: program.as_deref(), runs_in: self.runs_in(self.facts_of(row)) })
            })
            .collect();
        let summary = &self.summary;
        let destinations: Vec<bool> = self
            .destinations
            .iter()
            .map(|row| match &row.key {
                DestRow::Dest(key) => filter.passes_netns(key.netns, summary),
                DestRow::Other => filter.netns.is_empty(),
            })
            .collect();
        let is_in = |joined: &Joined| processes[joined.process] && destinations[joined.destination];
        let passes_owner = |owner: Option<&OwnerRef>| {
            let Some(owner) = owner else { return !filter.asks_for_names() };
            let process = state.accounts.processes.find(&GroupKey::Process(owner.key));
            let whole = process.and_then(|place| state.accounts.processes.row(place).owner);
            let facts = self.facts.get(&owner.key).map(|facts| &**facts);
            let cgroup = whole.and_then(|owner| self.cgroups.get(&owner.cgroup)).map(|facts| &**facts);
            let program = whole.map(|owner| program_of(&owner, facts));
            filter.passes_names(Names { program: program.as_deref(), runs_in: self.runs_in(facts.or(cgroup)) })
        };
        sockets.retain(|socket| {
            filter.passes_netns(socket.tuple.netns, summary)
                && (passes_owner(socket.closer.as_ref()) || passes_owner(socket.opener.as_ref()))
        });
        let cells: Vec<Joined> = self.cells.iter().filter(|joined| is_in(joined)).cloned().collect();
        let mut counts = Counts::default();
        cells.iter().for_each(|joined| counts.absorb(&joined.cell.counts));
        // Rows with nothing left are dropped, and indices change.
        let mut has_process = vec![false; processes.len()];
        let mut has_destination = vec![false; destinations.len()];
        for joined in &cells {
            (has_process[joined.process], has_destination[joined.destination]) = (true, true);
        }
        let (of_process, of_destination) = (places(&has_process), places(&has_destination));
        let owners = self.processes.iter().zip(&processes).filter(|(_, passes)| **passes);
        let owners: HashSet<ProcessKey, FixedState> =
            owners.filter_map(|(row, _)| row.owner.map(|owner| owner.key)).collect();
        self.failures.retain(|row| {
            row.owner.is_some_and(|owner| owners.contains(&owner.key))
                && row.destination.is_none_or(|key| filter.passes_netns(key.netns, &self.summary))
        });
        self.cells = cells;
        for joined in &mut self.cells {
            joined.process = of_process[joined.process];
            joined.destination = of_destination[joined.destination];
        }
        retain(&mut self.processes, &has_process);
        retain(&mut self.destinations, &has_destination);
        self.sockets = sockets;
        self.summary.totals.counts = counts;
    }
}

/// New indices of the entries that are kept.
fn places(kept: &[bool]) -> Vec<usize> {
    let mut next = 0;
    let place = |kept: &bool| {
        let place = next;
        next += usize::from(*kept);
        place
    };
    kept.iter().map(place).collect()
}

fn retain<T>(rows: &mut Vec<T>, kept: &[bool]) {
    let mut kept = kept.iter();
    rows.retain(|_| kept.next().copied().unwrap_or(false));
}

/// Destinations with their budgets, and without figures so far.
fn destinations(state: &State, has_cell: impl Fn(&Destination) -> bool) -> Vec<DestinationRow> {
    let figures = state.budgets();
    let row = |row: &Destination| {
        let BudgetFigures { stable, bound, fin_wait2_aged, budget, asked } =
            figures.get(&row.id).cloned().unwrap_or_default();
        let mut shown = DestinationRow {
            id: row.id,
            key: row.key,
            folded: row.folded,
            counts: Counts::default(),
            series: Default::default(),
            open: row.established,
            stable,
            bound,
            fin_wait2_aged,
            pattern: row.pattern,
            connect_us: row.connect_us.clone(),
            budget,
            exhausted: row.exhausted,
            asked,
        };
        row.meter.show(&mut shown.counts, &mut shown.series);
        shown
    };
    state.accounts.destinations.shown(has_cell).map(row).collect()
}

fn sockets(state: &State) -> Sockets {
    let owner = |number| {
        let owner = state.accounts.owners.owner(number)?;
        Some(OwnerRef { key: owner.key, comm: owner.comm, uid: owner.uid })
    };
    let shown = || state.time_wait.iter().filter(|socket| socket.shown);
    let mut packer = Packer::new(shown().count(), owner);
    shown().for_each(|socket| packer.push(socket, state.shared.cookie(socket.cookie)));
    packer.finish()
}
