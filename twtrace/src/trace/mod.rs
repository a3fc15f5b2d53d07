//! Recordings: a directory of Inputs, written while tracing and read back by the commands that come after.
//!
//! `NAME.twt/` holds for each segment of the recording and each of the four tables (see `tables`) a Parquet file,
//! `TABLE-NNNN.parquet`. The segment that is being written is an Arrow IPC stream, `TABLE-NNNN.arrows`, with sums in
//! `TABLE-NNNN.sums` that say how far it is whole (`tail`). `recording.json` names the sealed segments, with size and
//! sum of each file (`manifest`). Every file says in its metadata which recording, table and segment it is part of
//! (`schema::Label`).
//!
//! Every Input has a number, `seq`, which its rows carry in whatever tables they are: read in the order of numbers the
//! four tables give back the Inputs as they were, field by field. Numbers have no gaps, so that what is missing is
//! noticed. A segment can be read without those before it: it tells again, in rows that are marked `restated`, what
//! they told and still holds.
//!
//! # Evolution
//! The number of the schema stays as long as versions can read each other's recordings.
//! * A column that may be null may be added. Who does not know it does not read it; where it is missing every row
//!   reads as null, which must mean "not told".
//! * No column is renamed, changes its type or its meaning, or is left out. A column that was never null stays so.
//! * Words (of `kind`, `role`, `state` and so on) are added only together with a new number: who does not know a word
//!   cannot tell what its row means. From number 2 on, rows with a word that is not known are left out and named as a
//!   loss (`skipped`), so that a kind of row which nothing else depends on may be added without a number. Its addresses,
//!   if it has any, are remembered for later rows of the same cookie like those of every row (`tuples`).
//! * The manifest's fields follow the rules of columns.
//!
//! With a new number, older versions say who wrote the recording and that they must be upgraded; newer versions go on
//! to read every number that there was. With 2 came rows of kind `bind_failed`, `bound_connect` and `holders`, the flags
//! `bound_port`, `bound_address` and `reuse`, and the states `established`, `close_wait`, `fin_wait2_open` and `bound`.

mod clock;
mod columns;
mod decoder;
mod encoder;
mod guard;
mod manifest;
mod pages;
pub(crate) mod pass;
mod place;
pub mod reader;
pub(crate) mod rows;
pub(crate) mod schema;
mod sealed;
mod sealer;
mod skipped;
mod stream;
mod tables;
mod tail;
mod tuples;
mod words;
pub mod writer;

use std::path::PathBuf;
use twtrace_core::input::HostFacts;

/// What a recording says of itself.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Info {
    /// Where it is.
    pub path: PathBuf,
    /// Random number that all of its files carry.
    pub id: String,
    /// The traced host.
    pub host: HostFacts,
    /// Wall clock of its first and last moment that can be read, nanoseconds since the Unix epoch.
    pub start_unix_ns: i128,
    #[allow(missing_docs, reason = "see above")]
    pub end_unix_ns: i128,
    /// Rows of `connections` that can be read, as far as that was known at opening.
    pub connections: u64,
    /// Rows of `connections` that cannot be read: of segments that are damaged, and of what is cut off at the end.
    pub connections_lost: u64,
    /// More connections were lost, and nothing says how many.
    pub lost_more: bool,
    /// Size of all of its files.
    pub bytes: u64,
    /// It was ended in order: nothing is missing at its end.
    pub finished: bool,
    /// Segments that `--keep` has dropped from its beginning.
    pub segments_dropped: u64,
    /// What could not be read, in the order of time.
    pub losses: Vec<Loss>,
}

impl Info {
    /// What is known after a pass: with what turned out to be unreadable on the way.
    #[must_use]
    pub fn after(mut self, losses: &[Loss], connections_lost: u64) -> Self {
        self.losses.extend_from_slice(losses);
        self.connections = self.connections.saturating_sub(connections_lost);
        self.connections_lost = self.connections_lost.saturating_add(connections_lost);
        self
    }

    /// Whether anything that was recorded, and not dropped on purpose, cannot be read.
    pub fn is_cut(&self) -> bool {
        !self.losses.is_empty() || self.connections_lost > 0 || self.lost_more
    }

    /// Share of the recorded connections that can be read, 0 to 1; an upper bound with [`Self::lost_more`].
    pub fn covers(&self) -> f64 {
        let all = self.connections.saturating_add(self.connections_lost);
        if all == 0 { 1.0 } else { self.connections as f64 / all as f64 }
    }
}

/// What is wrong with a recording as a whole, or with the place where it is, in one line that says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Fault(String);

impl Fault {
    /// An error of everything in here, for those who called.
    fn of(error: anyhow::Error) -> anyhow::Error {
        if error.is::<Self>() {
            return error;
        }
        let mut causes = error.chain().filter_map(|cause| {
            let errno = cause.downcast_ref::<nix::errno::Errno>().map(|errno| *errno as i32);
            errno.or_else(|| cause.downcast_ref::<std::io::Error>()?.raw_os_error())
        });
        let advice = match causes.next() {
            Some(libc::ENOSPC | libc::EDQUOT) => ": make room there, or have less kept with --keep",
            Some(libc::EROFS) => ": choose a place that can be written to",
            Some(libc::EACCES | libc::EPERM) => ": recordings belong to who made them, try sudo",
            _ => "",
        };
        Self(format!("{error:#}{advice}")).into()
    }
}

/// A part of a recording that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Loss {
    /// File name inside the recording.
    pub file: String,
    /// What is wrong with it and what is missing, for people.
    pub what: String,
}

impl Loss {
    pub(crate) fn new(file: String, error: &anyhow::Error) -> Self {
        Self { file, what: describe(error) }
    }
}

/// What is wrong with a file, as the rest of a sentence that begins with its name.
fn describe(error: &anyhow::Error) -> String {
    if is_missing(error) && error.chain().count() == 1 { "is missing".to_owned() } else { format!("{error:#}") }
}

fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}
