//! The order of rows. It is the same in every view.

use crate::label;
use std::cmp::Ordering;
use strum::VariantArray as _;
use twtrace_core::counts::{FIELDS, Field};
use twtrace_core::ports::Budget;
use twtrace_core::snapshot::{Counts, DestRow, DestinationRow, GroupBy, GroupKey, Row, Snapshot};

/// What rows are sorted by: the largest figure first, or names from a to z.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// A figure, by its place in [`FIELDS`].
    Figure(usize),
    /// Program, group or address.
    Name,
    /// Another column. Rows that do not have it are sorted by what they created.
    Column(Key),
}

/// A column that is neither a figure nor the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum Key {
    /// PID.
    Pid,
    /// Distinct processes.
    Processes,
    /// Name of the user.
    User,
    /// Command and PID of the parent.
    Parent,
    /// Unit, container, or path of the cgroup.
    Cgroup,
    /// Command line.
    CommandLine,
    /// Active or passive.
    Role,
    /// Name of the network namespace.
    Netns,
    /// Full sockets.
    Open,
    /// Share of the ports that connect cannot choose.
    Ports,
    /// Ports in use.
    Used,
    /// Time until no port is left.
    FullIn,
    /// Sustainable rate.
    MaxRate,
    /// Local address.
    From,
}

impl Key {
    /// Its meaning.
    pub fn doc(self) -> &'static str {
        match self {
            Self::Pid => "Process ID (thread group)",
            Self::Processes => "Distinct processes",
            Self::User => "Real user",
            Self::Parent => "Command and PID of the parent",
            Self::Cgroup => "Unit, container or path of the cgroup",
            Self::CommandLine => "Command line",
            Self::Role => "active: this host connects; passive: it accepts",
            Self::Netns => "Network namespace",
            Self::Open => "Sockets that use a port to it and are not in TIME_WAIT, by the last census",
            Self::Ports => "Share of the ports that connect cannot choose",
            Self::Used => "Ports in use, and all of the range",
            Self::FullIn => "Time until no port is left at the present rate",
            Self::MaxRate => "Connections per second that the ports sustain",
            Self::From => "Local address",
        }
    }

    fn name(self) -> &'static str {
        self.into()
    }

    fn is_of_destinations(self) -> bool {
        use Key::{From, FullIn, MaxRate, Netns, Open, Ports, Role, Used};
        matches!(self, Role | Netns | Open | Ports | Used | FullIn | MaxRate | From)
    }

    /// What a row is sorted by: the largest number first, then texts from a to z.
    fn of_row(self, row: &Row, snapshot: &Snapshot) -> (f64, String) {
        let text = |text: Option<String>| of_text(text.unwrap_or_default().to_lowercase());
        match self {
            // Low numbers first.
            Self::Pid => match row.key {
                GroupKey::Process(key) => (-f64::from(key.tgid), String::new()),
                _ => (f64::NEG_INFINITY, String::new()),
            },
            Self::Processes => (row.processes as f64, String::new()),
            Self::User => text(row.owner.map(|owner| label::user(owner.uid, snapshot))),
            Self::Parent => text(row.owner.as_ref().map(label::parent)),
            Self::Cgroup => text(label::cgroup_of(row, snapshot)),
            Self::CommandLine => text(Some(label::command_line(row, snapshot))),
            _ => text(None),
        }
    }

    /// The same of a destination.
    fn of_destination(self, row: &DestinationRow, snapshot: &Snapshot) -> (f64, String) {
        let number = |of: fn(&Budget) -> f64| (row.budget.as_ref().map_or(f64::NEG_INFINITY, of), String::new());
        let text = of_text;
        let key = match &row.key {
            DestRow::Dest(key) => Some(key),
            DestRow::Other => None,
        };
        match self {
            Self::Role => text(key.map_or_else(String::new, |key| label::role(key.role).to_owned())),
            Self::Netns => text(label::netns(row, snapshot).unwrap_or_default()),
            Self::Open => (row.open as f64, String::new()),
            Self::Ports => number(|budget| budget.utilization),
            Self::Used => number(|budget| budget.used.into()),
            // The soonest first, and those that are full before.
            Self::FullIn => number(|budget| match budget.seconds_to_exhaustion {
                _ if budget.available == 0 => f64::INFINITY,
                Some(seconds) => -seconds,
                None => f64::MIN,
            }),
            Self::MaxRate => number(|budget| budget.max_rate_per_s),
            Self::From => text(key.map_or_else(String::new, |key| key.local_addr.to_string())),
            _ => text(String::new()),
        }
    }
}

/// Where a text is sorted: from a to z, and last if there is none.
fn of_text(text: String) -> (f64, String) {
    (if text.is_empty() { f64::NEG_INFINITY } else { 0.0 }, text)
}

impl Default for Sort {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Sort {
    /// The default order.
    pub const DEFAULT: Self = Self::Figure(0);

    /// The order of a figure's name, of a column or of `name`, as on the command line.
    pub fn of(name: &str) -> Option<Self> {
        if name == "name" {
            return Some(Self::Name);
        }
        let is_it = |field: &Field| field.name == name || field.short == name;
        let figure = FIELDS.iter().position(is_it).map(Self::Figure);
        figure.or_else(|| Key::VARIANTS.iter().find(|key| key.name() == name).map(|key| Self::Column(*key)))
    }

    /// Name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Figure(at) => FIELDS[at].short,
            Self::Name => "name",
            Self::Column(key) => key.name(),
        }
    }

    /// The same where rows of that kind have the column, else the default order.
    #[must_use]
    pub fn where_it_exists(self, by: GroupBy) -> Self {
        let of_destinations = by == GroupBy::Destination;
        match self {
            Self::Column(key) if key.is_of_destinations() != of_destinations => Self::DEFAULT,
            sort => sort,
        }
    }

    /// Compares two rows' figures; other orders, by what they created.
    pub fn compare(self, left: &Counts, right: &Counts) -> Ordering {
        let by_figure = match self {
            Self::Figure(at) => (FIELDS[at].get)(right).size().total_cmp(&(FIELDS[at].get)(left).size()),
            Self::Name | Self::Column(_) => Ordering::Equal,
        };
        by_figure.then_with(|| right.time_wait_created.cmp(&left.time_wait_created))
    }
}

/// Failed calls of all errnos.
pub fn errors(counts: &Counts) -> u64 {
    counts.errors.values().sum()
}

/// Sorts rows by what `place` returns: the largest number first, then texts from a to z.
fn by_place<T>(rows: &mut Vec<T>, place: impl Fn(&T) -> (f64, String), then: impl Fn(&T, &T) -> Ordering) {
    let mut placed: Vec<((f64, String), T)> = rows.drain(..).map(|row| (place(&row), row)).collect();
    placed.sort_by(|(a, left), (b, right)| {
        b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)).then_with(|| then(left, right))
    });
    rows.extend(placed.into_iter().map(|(_, row)| row));
}

/// Rows in order. Equal rows are ordered by their identity, so that they do not swap places without a reason.
pub fn rows<'a>(rows: impl Iterator<Item = &'a Row>, sort: Sort, snapshot: &Snapshot) -> Vec<&'a Row> {
    let mut rows: Vec<&Row> = rows.collect();
    let figures = |a: &&Row, b: &&Row| sort.compare(&a.counts, &b.counts).then_with(|| a.key.cmp(&b.key));
    match sort {
        Sort::Name => rows.sort_by_cached_key(|row| (label::group(row, snapshot).to_lowercase(), row.key.clone())),
        Sort::Column(key) => by_place(&mut rows, |row| key.of_row(row, snapshot), figures),
        Sort::Figure(_) => rows.sort_unstable_by(figures),
    }
    rows
}

/// Destinations in order.
pub fn destinations<'a>(
    rows: impl Iterator<Item = &'a DestinationRow>,
    sort: Sort,
    snapshot: &Snapshot,
) -> Vec<&'a DestinationRow> {
    let mut rows: Vec<&DestinationRow> = rows.collect();
    let figures = |a: &&DestinationRow, b: &&DestinationRow| sort.compare(&a.counts, &b.counts).then(a.id.cmp(&b.id));
    match sort {
        Sort::Name => rows.sort_unstable_by_key(|row| (row.key, row.id)),
        Sort::Column(key) => by_place(&mut rows, |row| key.of_destination(row, snapshot), figures),
        Sort::Figure(_) => rows.sort_unstable_by(figures),
    }
    rows
}

/// Rows of one grouping in order.
pub fn of_snapshot(snapshot: &Snapshot, by: GroupBy, sort: Sort) -> Vec<&Row> {
    rows(snapshot.rows(by).iter(), sort, snapshot)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;
    use twtrace_testkit::web;

    #[test]
    fn each_order_has_a_name_of_its_own() {
        let keys = Key::VARIANTS.iter().map(|key| Sort::Column(*key));
        let all = (0..FIELDS.len()).map(Sort::Figure).chain([Sort::Name]).chain(keys);
        for sort in all {
            assert_eq!(Sort::of(sort.name()), Some(sort), "{}", sort.name());
        }
    }

    #[test]
    fn rows_are_sorted_by_any_column() {
        let snapshot = web::snapshot();
        for (name, first) in
            [("pid", "nginx"), ("processes", "curl"), ("parent", "curl"), ("user", "=\\x1b[2J\\xff\\u{202e},\"x")]
        {
            let rows = of_snapshot(&snapshot, GroupBy::Process, Sort::of(name).unwrap());
            let names: Vec<String> = rows.iter().map(|row| label::group(row, &snapshot)).collect();
            assert_eq!(names[0], first, "{name}: {names:?}");
        }
        for name in ["ports", "used", "full-in", "max-rate"] {
            let rows = destinations(snapshot.destinations().iter(), Sort::of(name).unwrap(), &snapshot);
            let with = rows.iter().take_while(|row| row.budget.is_some()).count();
            assert!(with > 0 && rows[with..].iter().all(|row| row.budget.is_none()), "{name}");
        }
        let rows = destinations(snapshot.destinations().iter(), Sort::of("open").unwrap(), &snapshot);
        assert!(rows.is_sorted_by(|a, b| a.open >= b.open));
    }
}
