//! What stays the same from one recording to the next: names, not numbers that change with a restart.

use crate::label;
use std::collections::{BTreeMap, BTreeSet};
use twtrace_core::event::{Comm, Role};
use twtrace_core::snapshot::{Counts, DestRow, DestinationRow, GroupBy, GroupKey, Row, Snapshot};

/// Who or what. Its text is clean.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Key {
    /// What it is called.
    pub(super) name: String,
    /// What distinguishes it from others of that name: the executable of a command, the role of a destination.
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Who {
    /// The process; null for whichever.
    pub(super) process: Option<Key>,
    /// The destination; null for whichever.
    pub(super) destination: Option<Key>,
}

/// How processes are matched.
#[derive(Debug)]
pub(super) struct Keys {
    /// Commands with more than one executable in these recordings. If a command has only one, the executable of each
    /// process need not be known: most short-lived processes are gone before they can be looked up.
    ambiguous: BTreeSet<Comm>,
}

impl Keys {
    pub(super) fn of(models: [&Snapshot; 2]) -> Self {
        let mut executables: BTreeMap<Comm, BTreeSet<&str>> = BTreeMap::new();
        for model in models {
            for (comm, executable) in model.rows(GroupBy::Pid).iter().filter_map(|row| executable(row, model)) {
                executables.entry(comm).or_default().insert(executable);
            }
        }
        executables.retain(|_, executables| executables.len() > 1);
        Self { ambiguous: executables.into_keys().collect() }
    }

    /// Figures of each row of a grouping.
    pub(super) fn figures<'a>(&self, model: &'a Snapshot, by: GroupBy) -> Vec<(Key, &'a Counts)> {
        match by {
            GroupBy::Process | GroupBy::Pid => {
                let commands = model.rows(GroupBy::Command).iter().filter(|row| !self.is_ambiguous(row));
                let processes = model.rows(GroupBy::Pid).iter().filter(|row| self.is_ambiguous(row));
                commands.chain(processes).map(|row| (self.process(row, model), &row.counts)).collect()
            }
            GroupBy::Destination => {
                model.destinations().iter().map(|row| (destination(row, model), &row.counts)).collect()
            }
            by => groups(model, by),
        }
    }

    /// Figures of each process with each destination. Their peaks are lower bounds.
    pub(super) fn pairs(&self, model: &Snapshot) -> Vec<(Who, Counts)> {
        let pairs = model.rows(GroupBy::Pid).iter().flat_map(|row| {
            let process = self.process(row, model);
            model.counts_by_destination(GroupBy::Pid, row).into_iter().map(move |(to, counts)| {
                (Who { process: Some(process.clone()), destination: Some(destination(to, model)) }, counts)
            })
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
    fn process(&self, row: &Row, model: &Snapshot) -> Key {
        let mut key = group(row, model);
        if self.is_ambiguous(row) {
            let executable = executable(row, model).map(|(_, executable)| executable);
            key.detail = executable.map_or_else(|| "(unknown)".to_owned(), |path| crate::text::clean(path).into());
        }
        key
    }
}

fn executable<'a>(row: &Row, model: &'a Snapshot) -> Option<(Comm, &'a str)> {
    let owner = row.owner?;
    Some((owner.comm, model.facts(owner.key)?.exe.as_deref()?))
}

fn groups(model: &Snapshot, by: GroupBy) -> Vec<(Key, &Counts)> {
    model.rows(by).iter().map(|row| (group(row, model), &row.counts)).collect()
}

/// Key of a row of any grouping, without numbers that mean nothing in another recording.
fn group(row: &Row, model: &Snapshot) -> Key {
    match &row.key {
        GroupKey::Other => Key::new("(other)"),
        GroupKey::Parent(_, comm) if comm.bytes().is_empty() => Key::new("(unknown)"),
        GroupKey::Parent(_, comm) => Key::new(label::command(comm)),
        GroupKey::Netns(netns) => namespace(*netns, model),
        _ => Key::new(label::group(row, model)),
    }
}

fn destination(row: &DestinationRow, model: &Snapshot) -> Key {
    let DestRow::Dest(key) = &row.key else { return Key::new("(other)") };
    let summary = model.summary();
    let mut detail = label::role(key.role).to_owned();
    if ![0, summary.host.netns].contains(&key.netns) {
        detail = format!("{detail} in {}", namespace(key.netns, model).name);
    }
    Key { name: label::destination(&row.key, row.folded), detail, role: Some(key.role) }
}

/// A namespace. Its number changes with each restart; its name may stay the same.
fn namespace(netns: u32, model: &Snapshot) -> Key {
    let summary = model.summary();
    let name = summary.namespace(netns).filter(|namespace| !namespace.name.is_empty());
    let unnamed = if netns == summary.host.netns { "this namespace" } else { "another namespace" };
    Key::new(name.map_or_else(|| unnamed.to_owned(), |_| label::namespace(summary, netns)))
}

/// Figures of all rows together.
pub(super) fn total(model: &Snapshot) -> Counts {
    model.summary().totals.counts.clone()
}
