//! What stays the same from one recording to the next: names, not numbers that a restart gives anew.

use crate::label;
use crate::order::{self, By};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use twtrace_core::compare::Figures;
use twtrace_core::engine::Model;
use twtrace_core::input::{Comm, Role};
use twtrace_core::model::{Counts, DestRow, DestinationRow, GroupBy, GroupKey, Row};

/// Who or what. Its text is clean.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub(super) struct Key {
    /// What it is called.
    pub(super) name: String,
    /// What tells it from others of that name: the executable of a command, the role of a destination.
    pub(super) detail: String,
    /// Of a destination, the role of its connections. JSON has it in `detail`.
    #[serde(skip)]
    pub(super) role: Option<Role>,
}

impl Key {
    fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

/// A process and where it connects to, or one of both whatever the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub(super) struct Who {
    pub(super) process: Option<Key>,
    pub(super) destination: Option<Key>,
}

/// How processes are told apart.
#[derive(Debug)]
pub(super) struct Keys {
    /// Commands that are more than one executable in these recordings. Where there is one only, it need not be known
    /// of each process: most short-lived ones are gone before they can be looked up.
    ambiguous: BTreeSet<Comm>,
}

impl Keys {
    pub(super) fn of(models: [&Model; 2]) -> Self {
        let mut executables: BTreeMap<Comm, BTreeSet<&str>> = BTreeMap::new();
        for model in models {
            for (comm, executable) in model.rows(GroupBy::Process).filter_map(|row| executable(row, model)) {
                executables.entry(comm).or_default().insert(executable);
            }
        }
        executables.retain(|_, executables| executables.len() > 1);
        Self { ambiguous: executables.into_keys().collect() }
    }

    /// Figures of each row of a grouping.
    pub(super) fn figures(&self, model: &Model, by: By) -> Vec<(Key, Figures)> {
        match by {
            By::Process => {
                let commands = model.rows(GroupBy::Command).filter(|row| !self.is_ambiguous(row));
                let processes = model.rows(GroupBy::Process).filter(|row| self.is_ambiguous(row));
                commands.chain(processes).map(|row| (self.process(row, model), figures(&row.counts))).collect()
            }
            By::Destination => {
                model.destinations().map(|row| (destination(row, model), figures(&row.counts))).collect()
            }
            By::Command => groups(model, GroupBy::Command),
            By::Parent => groups(model, GroupBy::Parent),
            By::User => groups(model, GroupBy::User),
            By::Cgroup => groups(model, GroupBy::Cgroup),
        }
    }

    /// Figures of each process towards each destination. How many are alive and which connects failed is not known of
    /// them.
    pub(super) fn pairs(&self, model: &Model) -> Vec<(Who, Figures)> {
        let processes: HashMap<u32, Key> =
            model.rows(GroupBy::Process).map(|row| (row.id, self.process(row, model))).collect();
        let destinations: HashMap<u32, Key> =
            model.destinations().map(|row| (row.id, destination(row, model))).collect();
        let other = || Key::new("(other)");
        let pairs = model.pairs().map(|pair| {
            let process = processes.get(&pair.process).cloned().unwrap_or_else(other);
            let destination = destinations.get(&pair.destination).cloned().unwrap_or_else(other);
            let figures = Figures { made: pair.time_wait_made, connections: pair.connections, ..Figures::default() };
            (Who { process: Some(process), destination: Some(destination) }, figures)
        });
        pairs.collect()
    }

    fn is_ambiguous(&self, row: &Row) -> bool {
        let comm = match row.key {
            GroupKey::Command(comm) => Some(comm),
            _ => row.owner.map(|owner| owner.comm),
        };
        comm.is_some_and(|comm| self.ambiguous.contains(&comm))
    }

    /// Key of a row of commands or of processes.
    fn process(&self, row: &Row, model: &Model) -> Key {
        let mut key = group(row, model);
        if self.is_ambiguous(row) {
            let executable = executable(row, model).map(|(_, executable)| executable);
            key.detail = executable.map_or_else(|| "(unknown)".to_owned(), |path| crate::text::clean(path).into());
        }
        key
    }
}

fn executable<'a>(row: &Row, model: &'a Model) -> Option<(Comm, &'a str)> {
    let owner = row.owner?;
    Some((owner.comm, model.facts(owner.key)?.exe.as_deref()?))
}

fn groups(model: &Model, by: GroupBy) -> Vec<(Key, Figures)> {
    model.rows(by).map(|row| (group(row, model), figures(&row.counts))).collect()
}

/// Key of a row of any grouping, without numbers that mean nothing in another recording.
fn group(row: &Row, model: &Model) -> Key {
    match row.key {
        GroupKey::Other => Key::new("(other)"),
        GroupKey::Parent(_, comm) if comm.bytes().is_empty() => Key::new("(unknown)"),
        GroupKey::Parent(_, comm) => Key::new(label::command(&comm)),
        _ => Key::new(label::group(row, model)),
    }
}

fn destination(row: &DestinationRow, model: &Model) -> Key {
    let DestRow::Dest(key) = &row.key else { return Key::new("(other)") };
    let summary = model.summary();
    let mut detail = label::role(key.role).to_owned();
    if ![0, summary.host.netns].contains(&key.netns) {
        // Its number is another one after each restart; its name may be the same.
        let name = summary.namespace(key.netns).filter(|namespace| !namespace.name.is_empty());
        let name = name.map_or_else(|| "another namespace".to_owned(), |_| label::namespace(summary, key.netns));
        detail = format!("{detail} in {name}");
    }
    Key { name: label::destination(&row.key, row.folded), detail, role: Some(key.role) }
}

/// Figures of everything.
pub(super) fn total(model: &Model) -> Figures {
    figures(&model.summary().totals.counts)
}

fn figures(counts: &Counts) -> Figures {
    Figures {
        made: counts.time_wait_made,
        connections: counts.opened.saturating_add(counts.accepted),
        errors: order::errors(counts),
        live_peak: counts.time_wait_live_peak,
    }
}
