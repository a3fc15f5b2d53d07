//! The order of rows. It is the same in every view.

use crate::label;
use std::cmp::Ordering;
use twtrace_core::counts::{FIELDS, Field};
use twtrace_core::snapshot::{Counts, DestinationRow, GroupBy, Row, Snapshot};

/// What rows are sorted by: the largest figure first, or names from a to z.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// A figure, by its place in [`FIELDS`].
    Figure(usize),
    /// Program, group or address.
    Name,
}

impl Default for Sort {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Sort {
    /// The default order.
    pub const DEFAULT: Self = Self::Figure(0);

    /// The order of a figure's name or of `name`, as on the command line.
    pub fn of(name: &str) -> Option<Self> {
        if name == "name" {
            return Some(Self::Name);
        }
        let is_it = |field: &Field| field.name == name || field.short == name;
        FIELDS.iter().position(is_it).map(Self::Figure)
    }

    /// All orders that the keys cycle through: the figures that live tables show, and the name.
    pub fn all() -> Vec<Self> {
        let shown = (0..FIELDS.len()).filter(|at| FIELDS[*at].width > 0).map(Self::Figure);
        shown.chain([Self::Name]).collect()
    }

    /// Name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Figure(at) => FIELDS[at].short,
            Self::Name => "name",
        }
    }

    /// Compares two rows' figures; equal for [`Self::Name`].
    fn compare(self, left: &Counts, right: &Counts) -> Ordering {
        let by_figure = match self {
            Self::Figure(at) => (FIELDS[at].get)(right).size().total_cmp(&(FIELDS[at].get)(left).size()),
            Self::Name => Ordering::Equal,
        };
        by_figure.then_with(|| right.time_wait_created.cmp(&left.time_wait_created))
    }
}

/// Failed calls of all errnos.
pub fn errors(counts: &Counts) -> u64 {
    counts.errors.values().sum()
}

/// Rows in order. Equal rows are ordered by their identity, so that they do not swap places without a reason.
pub fn rows<'a>(rows: impl Iterator<Item = &'a Row>, sort: Sort, snapshot: &Snapshot) -> Vec<&'a Row> {
    let mut rows: Vec<&Row> = rows.collect();
    if sort == Sort::Name {
        rows.sort_by_cached_key(|row| (label::group(row, snapshot).to_lowercase(), row.key.clone()));
    } else {
        rows.sort_unstable_by(|a, b| sort.compare(&a.counts, &b.counts).then_with(|| a.key.cmp(&b.key)));
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

/// Rows of one grouping in order.
pub fn of_snapshot(snapshot: &Snapshot, by: GroupBy, sort: Sort) -> Vec<&Row> {
    rows(snapshot.rows(by).iter(), sort, snapshot)
}
