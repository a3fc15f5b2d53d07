//! In which order rows come. The same for every view.

use crate::label;
use clap::ValueEnum;
use std::cmp::Ordering;
use twtrace_core::engine::Model;
use twtrace_core::model::{Counts, DestinationRow, GroupBy, Row};

/// What one row stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// One process
    #[default]
    Process,
    /// All processes of one command name
    Command,
    /// All children of one parent process, such as the script that starts them
    Parent,
    /// All processes of one user
    User,
    /// All processes of one cgroup: a container or a systemd unit
    Cgroup,
    /// One service that is connected to, or one port that is listened on
    Destination,
}

impl By {
    /// A grouping of the ledger.
    pub fn of(group: GroupBy) -> Self {
        match group {
            GroupBy::Process => Self::Process,
            GroupBy::Command => Self::Command,
            GroupBy::Parent => Self::Parent,
            GroupBy::User => Self::User,
            GroupBy::Cgroup => Self::Cgroup,
        }
    }

    /// The grouping of the ledger; `None` for destinations, which have a ledger of their own.
    pub fn group(self) -> Option<GroupBy> {
        Some(match self {
            Self::Process => GroupBy::Process,
            Self::Command => GroupBy::Command,
            Self::Parent => GroupBy::Parent,
            Self::User => GroupBy::User,
            Self::Cgroup => GroupBy::Cgroup,
            Self::Destination => return None,
        })
    }

    /// Name, as on the command line.
    pub fn name(self) -> &'static str {
        self.group().map_or("destination", group_name)
    }
}

/// Name of a grouping, as on the command line.
pub fn group_name(by: GroupBy) -> &'static str {
    match by {
        GroupBy::Process => "process",
        GroupBy::Command => "command",
        GroupBy::Parent => "parent",
        GroupBy::User => "user",
        GroupBy::Cgroup => "cgroup",
    }
}

/// What rows are sorted by: the largest first, names from a to z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// Timewait sockets made
    #[default]
    Made,
    /// Timewait sockets alive now
    Live,
    /// Timewait sockets made per second of late
    Rate,
    /// Connections opened
    Opened,
    /// Connections accepted
    Accepted,
    /// Connections reset
    Reset,
    /// Failed connects
    Errors,
    /// Command, group or address
    Name,
}

impl Sort {
    /// All, in the order in which keys go through them.
    pub const ALL: [Self; 8] =
        [Self::Made, Self::Live, Self::Rate, Self::Opened, Self::Accepted, Self::Reset, Self::Errors, Self::Name];

    /// Name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Live => "live",
            Self::Rate => "rate",
            Self::Opened => "opened",
            Self::Accepted => "accepted",
            Self::Reset => "reset",
            Self::Errors => "errors",
            Self::Name => "name",
        }
    }

    /// Compares two rows' figures; equal for [`Self::Name`].
    fn compare(self, left: &Counts, right: &Counts) -> Ordering {
        let by = |figure: fn(&Counts) -> u64| figure(right).cmp(&figure(left));
        match self {
            Self::Made => by(|counts| counts.time_wait_made),
            Self::Live => by(|counts| counts.time_wait_live),
            Self::Rate => right.rate_per_s.total_cmp(&left.rate_per_s),
            Self::Opened => by(|counts| counts.opened),
            Self::Accepted => by(|counts| counts.accepted),
            Self::Reset => by(|counts| counts.reset),
            Self::Errors => by(errors),
            Self::Name => Ordering::Equal,
        }
        .then_with(|| right.time_wait_made.cmp(&left.time_wait_made))
    }
}

/// Failed connects of all errnos.
pub fn errors(counts: &Counts) -> u64 {
    counts.connect_errors.values().sum()
}

/// Rows of a ledger in order. Equal ones are told apart by their id, so that rows do not change places for nothing.
pub fn rows<'a>(rows: impl Iterator<Item = &'a Row>, sort: Sort, model: &dyn label::Names) -> Vec<&'a Row> {
    let mut rows: Vec<&Row> = rows.collect();
    if sort == Sort::Name {
        rows.sort_by_cached_key(|row| (label::group(row, model).to_lowercase(), row.id));
    } else {
        rows.sort_unstable_by(|a, b| sort.compare(&a.counts, &b.counts).then(a.id.cmp(&b.id)));
    }
    rows
}

/// Destinations in order.
pub fn destinations<'a>(rows: impl Iterator<Item = &'a DestinationRow>, sort: Sort) -> Vec<&'a DestinationRow> {
    let mut rows: Vec<&DestinationRow> = rows.collect();
    if sort == Sort::Name {
        rows.sort_unstable_by_key(|row| (row.key, row.id));
    } else {
        rows.sort_unstable_by(|a, b| sort.compare(&a.counts, &b.counts).then(a.id.cmp(&b.id)));
    }
    rows
}

/// Rows of one grouping of a model in order.
pub fn of_model(model: &Model, by: GroupBy, sort: Sort) -> Vec<&Row> {
    rows(model.rows(by), sort, model)
}
