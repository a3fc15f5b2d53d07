//! Several recordings together: what has the same name on several hosts is one row.

use super::{Part, ROWS, Report};
use crate::grid::{Grid, Head};
use crate::report::lines::{self, share};
use crate::{label, text};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use twtrace_core::counts::FIELDS;
use twtrace_core::event::Role;
use twtrace_core::snapshot::{Counts, DestRow, GroupBy, GroupKey, Row, Window};

/// What rows of several hosts have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Same {
    /// A name as it is. Hostile input.
    Named(String),
    /// A destination: who opened its connections, the peer's address or else the own one, and the service's port.
    Place(Role, IpAddr, u16),
    /// They have no such name.
    None,
    /// No process was seen.
    Unknown,
    /// They did not fit into the tables.
    Other,
}

/// Rows of several hosts.
#[derive(Clone, Debug, Default)]
pub(super) struct Sum<'a> {
    pub(super) processes: u64,
    /// Figures; those that are peaks are the most of any one row.
    pub(super) counts: Counts,
    /// TIME_WAIT sockets created on each host.
    hosts: BTreeMap<&'a str, u64>,
    /// Highest share of its ports that is in use, and where.
    fullest: Option<(f64, &'a Part<'a>)>,
    /// Recordings that it is in.
    pub(super) recordings: usize,
}

impl<'a> Sum<'a> {
    fn add(&mut self, part: &'a Part<'_>, counts: &Counts, processes: u64) {
        for field in FIELDS {
            (field.merge)(&mut self.counts, counts);
        }
        self.processes = self.processes.saturating_add(processes);
        *self.hosts.entry(part.hostname()).or_default() += counts.time_wait_created;
    }

    /// Number of hosts.
    pub(super) fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// The host with the most TIME_WAIT sockets of the row, as it is, and its share of them.
    pub(super) fn mostly_on(&self) -> Option<(&'a str, f64)> {
        let (host, most) = self.hosts.iter().min_by_key(|(_, created)| Reverse(**created))?;
        (*most > 0).then(|| (*host, share(*most, self.counts.time_wait_created)))
    }

    /// The highest share of its ports that is in use on a host, and which host.
    pub(super) fn fullest(&self) -> Option<(f64, &'a str)> {
        self.fullest.map(|(share, part)| (share, part.hostname()))
    }
}

/// A row of several hosts.
pub(super) type Together<'a> = (Same, Sum<'a>);

impl Part<'_> {
    /// The name of its host as it is.
    pub(super) fn hostname(&self) -> &str {
        &self.model.summary().host.hostname
    }
}

/// The grouping in which rows of several hosts mean the same: a process and a network namespace are of one host.
pub(super) fn comparable(by: GroupBy) -> GroupBy {
    match by {
        GroupBy::Process | GroupBy::Pid | GroupBy::Netns | GroupBy::Destination => GroupBy::Program,
        by => by,
    }
}

fn same(row: &Row, by: GroupBy, part: &Part<'_>) -> Same {
    Same::Named(match &row.key {
        GroupKey::None => return Same::None,
        GroupKey::Unknown => return Same::Unknown,
        GroupKey::Other => return Same::Other,
        GroupKey::Program(name) => name.as_ref().to_owned(),
        // The same job has another PID on each host.
        GroupKey::Named(name) if by == GroupBy::Ancestor => {
            name.rsplit_once('[').map_or(name.as_ref(), |(name, _)| name).to_owned()
        }
        GroupKey::Named(name) => name.as_ref().to_owned(),
        GroupKey::Command(comm) | GroupKey::Parent(_, comm) => text::lossless(comm.bytes()).into_owned(),
        GroupKey::User(uid) => part.model.user_name(*uid).map_or_else(|| uid.to_string(), str::to_owned),
        _ => label::group(row, part.model),
    })
}

fn in_order(sums: BTreeMap<Same, Sum<'_>>) -> Vec<Together<'_>> {
    let mut rows: Vec<Together<'_>> = sums.into_iter().collect();
    // Stable: equal ones stay in the order of their names.
    rows.sort_by_key(|(_, sum)| Reverse(sum.counts.time_wait_created));
    rows
}

impl Report<'_> {
    /// Everything of all recordings.
    pub(super) fn totals_together(&self) -> Sum<'_> {
        let mut totals = Sum::default();
        for part in &self.parts {
            totals.add(part, &part.model.summary().totals.counts, 0);
        }
        totals
    }

    /// One row for each host.
    pub(super) fn hosts_together(&self) -> Vec<Together<'_>> {
        let mut sums: BTreeMap<Same, Sum<'_>> = BTreeMap::new();
        for part in &self.parts {
            let sum = sums.entry(Same::Named(part.hostname().to_owned())).or_default();
            sum.add(part, &part.model.summary().totals.counts, 0);
            sum.recordings += 1;
        }
        in_order(sums)
    }

    /// Rows of a [`comparable`] grouping.
    pub(super) fn rows_together(&self, by: GroupBy) -> Vec<Together<'_>> {
        let mut sums: BTreeMap<Same, Sum<'_>> = BTreeMap::new();
        for part in &self.parts {
            for row in part.model.rows(by) {
                sums.entry(same(row, by, part)).or_default().add(part, &row.counts, row.processes);
            }
        }
        in_order(sums)
    }

    /// Destinations. What a host accepts is another one on each of its addresses.
    pub(super) fn destinations_together(&self) -> Vec<Together<'_>> {
        let mut sums: BTreeMap<Same, Sum<'_>> = BTreeMap::new();
        for part in &self.parts {
            for row in part.model.destinations() {
                let same = match row.key {
                    DestRow::Dest(key) => Same::Place(key.role, key.remote_addr.unwrap_or(key.local_addr), key.port),
                    DestRow::Other => Same::Other,
                };
                let sum = sums.entry(same).or_default();
                sum.add(part, &row.counts, 0);
                let used = row.budget.map(|budget| (budget.utilization, part));
                sum.fullest = sum.fullest.into_iter().chain(used).max_by(|one, other| one.0.total_cmp(&other.0));
            }
        }
        in_order(sums)
    }

    /// Hosts of which several recordings are of the same time: what both saw counts twice. As they are.
    pub(super) fn counted_twice(&self) -> Vec<&str> {
        let mut twice = Vec::new();
        for (at, part) in self.parts.iter().enumerate() {
            let own = part.model.summary();
            let overlaps = |other: &Part<'_>| {
                let other = other.model.summary();
                let end = |window: &Window| {
                    window.start_unix_ns.saturating_add(window.now_ns.saturating_sub(window.start_ns).into())
                };
                own.host.hostname == other.host.hostname
                    && own.host.boot_id == other.host.boot_id
                    && own.window.start_unix_ns < end(&other.window)
                    && other.window.start_unix_ns < end(&own.window)
            };
            if !twice.contains(&part.hostname()) && self.parts[..at].iter().any(overlaps) {
                twice.push(part.hostname());
            }
        }
        twice
    }

    /// All hosts in words: what was created, and what counts twice.
    pub(super) fn headline_together(&self) -> Vec<String> {
        let Sum { counts, hosts, .. } = self.totals_together();
        let errors = lines::errors(&counts);
        let mut said = vec![format!(
            "{} TIME_WAIT sockets created on {}; {} connections opened, {} accepted, {} reset{}",
            text::count(counts.time_wait_created),
            text::counted(hosts.len(), "host", "hosts"),
            text::count(counts.opened),
            text::count(counts.accepted),
            text::count(counts.reset),
            if errors.is_empty() { String::new() } else { format!("; errors: {errors}") },
        )];
        for host in self.counted_twice() {
            let host = text::clean(host);
            said.push(format!("WARNING: recordings of {host} are of the same time: what both saw counts twice"));
        }
        said
    }

    /// The table of a grouping over all hosts for people, and a note on the rows that it leaves out.
    pub(super) fn grid_together(&self, by: GroupBy) -> (Grid, Option<String>) {
        let whole = self.totals_together().counts.time_wait_created;
        let mut rows = match by {
            GroupBy::Destination => self.destinations_together(),
            by => self.rows_together(by),
        };
        let total = rows.len();
        rows.truncate(self.options.top.unwrap_or(ROWS));
        let left_out = (rows.len() < total).then(|| {
            format!("first {} of {} rows by created", text::count(rows.len() as u64), text::count(total as u64))
        });
        (Grid::of(columns(by, whole), &rows), left_out)
    }

    /// Groupings of the tables over all hosts.
    pub(super) fn tables_together(&self) -> [GroupBy; 2] {
        [comparable(self.options.by), GroupBy::Destination]
    }
}

/// Its name, clean.
fn name(same: &Same) -> String {
    match same {
        Same::Named(name) if name.is_empty() => "(unnamed)".to_owned(),
        Same::Named(name) => text::clean(name).into_owned(),
        Same::Place(Role::Passive, address, 0) => format!("bind on {address}"),
        Same::Place(_, address, port) => text::address(*address, *port),
        Same::None => "(none)".to_owned(),
        Same::Unknown => "(unknown)".to_owned(),
        Same::Other => "(other)".to_owned(),
    }
}

type Cell = Box<dyn for<'a, 'b> Fn(&'a Together<'b>) -> String>;

fn left(title: &'static str, cell: impl for<'a, 'b> Fn(&'a Together<'b>) -> String + 'static) -> (Head, Cell) {
    (Head::left(title), Box::new(cell))
}

fn right(title: &'static str, cell: impl for<'a, 'b> Fn(&'a Together<'b>) -> String + 'static) -> (Head, Cell) {
    (Head::right(title), Box::new(cell))
}

fn columns(by: GroupBy, whole: u64) -> Vec<(Head, Cell)> {
    let count = |title, of: fn(&Counts) -> u64| right(title, move |(_, sum)| text::count(of(&sum.counts)));
    let mut columns = vec![left(by.grouping().heading, |(same, _)| name(same))];
    if by == GroupBy::Destination {
        columns.push(left("ROLE", |(same, _)| match same {
            Same::Place(role, ..) => label::role(*role).to_owned(),
            _ => "-".to_owned(),
        }));
    }
    columns.push(right("HOSTS", |(_, sum)| text::count(sum.hosts() as u64)));
    if by != GroupBy::Destination {
        columns.push(right("PROCS", |(_, sum)| text::count(sum.processes)));
    }
    columns.extend([
        count("CREATED", |counts| counts.time_wait_created),
        right("SHARE", move |(_, sum)| text::percent(share(sum.counts.time_wait_created, whole))),
        left("MOSTLY ON", |(_, sum)| {
            let on = |(host, share)| format!("{} ({})", text::clean(host), text::percent(share));
            sum.mostly_on().map_or_else(|| "-".to_owned(), on)
        }),
        count("OPENED", |counts| counts.opened),
        count("ACCEPTED", |counts| counts.accepted),
        count("RESET", |counts| counts.reset),
        left("ERRORS", |(_, sum)| lines::errors(&sum.counts)),
    ]);
    if by == GroupBy::Destination {
        columns.push(left("PORTS IN USE AT THE END", |(_, sum)| {
            let at_most = |(share, host)| format!("at most {} ({})", text::percent(share), text::clean(host));
            sum.fullest().map_or_else(|| "-".to_owned(), at_most)
        }));
    }
    columns
}
