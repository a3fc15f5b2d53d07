//! Recordings: a directory of events, written while tracing and read back by the commands that come after.
//!
//! `NAME.twt/` holds for each segment of the recording and each table (see `tables`) a Parquet file,
//! `TABLE-NNNN.parquet`. The segment that is being written is an Arrow IPC stream, `TABLE-NNNN.arrows`, with sums in
//! `TABLE-NNNN.sums` that say how far it is whole (`tail`). `recording.json` names the sealed segments, with size and
//! sum of each file (`manifest`). Every file says in its metadata which recording, table and segment it is part of
//! (`schema::Label`).
//!
//! Every event has a number, `seq`, which its rows carry in whatever tables they are: read in the order of numbers the
//! tables give back the events as they were, field by field. Numbers have no gaps, so that what is missing is noticed. A
//! segment can be read without those before it: it repeats, in rows that are marked `restated`, what they reported and
//! still holds.
//!
//! # Evolution
//! The number of the schema stays as long as versions can read each other's recordings.
//! * A column that may be null may be added. Who does not know it does not read it; where it is missing every row
//!   reads as null, which must mean "not reported".
//! * No column is renamed, changes its type or its meaning, or is left out. A column that was never null stays so.
//! * Words (of `kind`, `role`, `state` and so on) and tables are added only together with a new number: who does not know
//!   a word cannot tell what its row means. One exception: rows with a word that is not known are left out and named as a
//!   loss (`skipped`), so that a kind of row which nothing else depends on may be added without a number. Its addresses,
//!   if it has any, are remembered for later rows of the same cookie like those of every row (`tuples`).
//! * The manifest's fields follow the rules of columns.
//!
//! With a new number, older versions say who wrote the recording and that they must be upgraded; newer versions go on
//! to read every number that there was.

mod clock;
mod columns;
mod decoder;
mod dictionary;
mod dir;
mod encoder;
pub mod export;
mod guard;
mod manifest;
mod numbers;
mod open_segment;
mod order;
mod pages;
mod part;
mod pass;
pub mod reader;
mod remembered;
pub mod replay;
mod rows;
mod schema;
mod sealed;
mod sealer;
mod skipped;
mod stream;
mod streams;
mod table;
mod tables;
mod tuples;
mod words;
pub mod writer;

pub use twtrace_core::recording::{Info, Loss};

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

/// What is lost with a file, and what is wrong with it.
fn loss(file: String, error: &anyhow::Error) -> Loss {
    Loss { file, what: describe(error) }
}

/// What is wrong with a file, as the rest of a sentence that begins with its name.
fn describe(error: &anyhow::Error) -> String {
    if is_missing(error) && error.chain().count() == 1 { "is missing".to_owned() } else { format!("{error:#}") }
}

fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}
