//! Taking a snapshot.

use super::row::DestinationRow;
use super::{Joined, OwnerRef, Snapshot, TimeWaitSocket};
use crate::counts::Counts;
use crate::filter::Names;
use crate::keys::{DestRow, GroupKey};
use crate::rules;
use crate::state::{BudgetFigures, Cell, Destination, State, TimeWait, program_of};
use crate::summary::Summary;
use crate::table::Map;
use foldhash::fast::FixedState;
use hashbrown::HashSet;
use std::sync::OnceLock;

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
        state.keep_failing();
        let state = &*state;
        let mut snapshot = Self {
            summary: state.summary.clone(),
            processes: Vec::new(),
            destinations: Vec::new(),
            cells: Vec::new(),
            sockets: Vec::new(),
            history: state.history.clone(),
            failures: state.failures.rows().cloned().collect(),
            holders: state.holders.clone(),
            waiting: state.waiting(),
            findings: Vec::new(),
            facts: state.accounts.facts.processes().clone(),
            cgroups: state.accounts.facts.cgroups().clone(),
            users: state.users.clone(),
            names: OnceLock::new(),
            groups: Default::default(),
        };
        // What is left of a connection may be a correction alone.
        let cells: Vec<&Cell> = state.accounts.cells.rows().collect();
        let has_cell = |id: fn(&Cell) -> u32| cells.iter().map(|cell| id(cell)).collect::<HashSet<u32, FixedState>>();
        let (processes, places) = (has_cell(|cell| cell.process), has_cell(|cell| cell.destination));
        snapshot.processes = state.accounts.processes.shown(|row| processes.contains(&row.id)).cloned().collect();
        snapshot.destinations = destinations(state, |row| places.contains(&row.id));
        snapshot.join(&cells);
        if sockets {
            let shown = state.time_wait.iter().filter(|socket| socket.shown);
            snapshot.sockets = shown.map(|at| socket(state, at)).collect();
        }
        if state.filter.is_late() {
            snapshot.filter(state);
        }
        for joined in &snapshot.cells {
            snapshot.destinations[joined.destination].counts.absorb(&joined.cell.counts);
        }
        snapshot.findings = rules::check(&snapshot);
        snapshot
    }

    /// Takes the cells, in the order of their processes.
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

    /// Leaves out what the filter asks for by names that may have arrived after the connections.
    fn filter(&mut self, state: &State) {
        let filter = &state.filter;
        let processes: Vec<bool> = self
            .processes
            .iter()
            .map(|row| {
                let program = self.program(row);
                filter.passes_names(Names { program: program.as_deref(), facts: self.facts_of(row) })
            })
            .collect();
        let summary = &self.summary;
        let passes_netns =
            |netns: u32| filter.passes_netns(netns, summary.namespace(netns).map(|namespace| namespace.name.as_str()));
        let destinations: Vec<bool> = self
            .destinations
            .iter()
            .map(|row| match &row.key {
                DestRow::Dest(key) => passes_netns(key.netns),
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
            filter.passes_names(Names { program: program.as_deref(), facts: facts.or(cgroup) })
        };
        let sockets = self.sockets.iter().filter(|socket| {
            passes_netns(socket.tuple.netns)
                && (passes_owner(socket.closer.as_ref()) || passes_owner(socket.opener.as_ref()))
        });
        let sockets: Vec<TimeWaitSocket> = sockets.copied().collect();
        let cells: Vec<Joined> = self.cells.iter().filter(|joined| is_in(joined)).cloned().collect();
        let mut counts = Counts::default();
        cells.iter().for_each(|joined| counts.absorb(&joined.cell.counts));
        // What has nothing left is no row, and places change.
        let mut has_process = vec![false; processes.len()];
        let mut has_destination = vec![false; destinations.len()];
        for joined in &cells {
            (has_process[joined.process], has_destination[joined.destination]) = (true, true);
        }
        let (of_process, of_destination) = (places(&has_process), places(&has_destination));
        let owners: Vec<_> = self.processes.iter().zip(&processes).filter(|(_, passes)| **passes).collect();
        let owners: Vec<_> = owners.into_iter().filter_map(|(row, _)| row.owner.map(|owner| owner.key)).collect();
        self.failures.retain(|row| {
            row.owner.is_some_and(|owner| owners.contains(&owner.key))
                && row.destination.is_none_or(|key| passes_netns_of(&self.summary, filter, key.netns))
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

fn passes_netns_of(summary: &Summary, filter: &crate::filter::Filter, netns: u32) -> bool {
    filter.passes_netns(netns, summary.namespace(netns).map(|namespace| namespace.name.as_str()))
}

/// Where what is kept will be.
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
        let BudgetFigures { stable, bound, fin_wait2_aged, budget } = figures.get(&row.id).copied().unwrap_or_default();
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
        };
        row.meter.show(&mut shown.counts, &mut shown.series);
        shown
    };
    state.accounts.destinations.shown(has_cell).map(row).collect()
}

fn socket(state: &State, at: &TimeWait) -> TimeWaitSocket {
    let reference = |number| {
        let owner = state.accounts.owners.owner(number)?;
        Some(OwnerRef { key: owner.key, comm: owner.comm, uid: owner.uid })
    };
    TimeWaitSocket {
        cookie: at.cookie,
        tuple: at.tuple,
        role: at.role,
        substate: at.substate,
        created_ns: at.created_ns,
        expires_ns: at.expires_ns,
        opener: reference(at.opener),
        closer: reference(at.closer),
        known: at.known,
        before_start: at.before_start,
    }
}
