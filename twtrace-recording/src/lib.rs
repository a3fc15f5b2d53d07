//! Recordings: a directory of events, written while tracing and read back by later commands.
//!
//! `NAME.twt/` has a Parquet file, `TABLE-NNNN.parquet`, for each segment of the recording and each table (see
//! `tables`). The segment that is being written is an Arrow IPC stream, `TABLE-NNNN.arrows`, with checksums in
//! `TABLE-NNNN.sums` that show how far it is intact (`open_segment`). `recording.json` names the sealed segments, with
//! size and checksum of each file (`manifest`). The metadata of every file says which recording, table and segment it
//! is part of (`schema::Label`).
//!
//! Every event has a number, `seq`, which all of its rows carry, in any table: read in the order of these numbers, the
//! tables give back the original events, field by field. The numbers have no gaps, so that missing events are noticed.
//! A segment can be read without those before it: in rows marked `restated`, it repeats what they reported,
//! if that is still true.
//!
//! # Evolution
//! The number of the schema stays the same as long as versions can read each other's recordings.
//! * A nullable column may be added. A version that does not know it does not read it; where it is missing, every row
//!   reads as null, which must mean "not reported".
//! * No column is renamed, changes its type or its meaning, or is left out. A column that was never null stays so.
//! * Words (of `kind`, `role`, `state` and so on) and tables are added only together with a new number: a version that
//!   does not know a word cannot know what its row means. One exception: rows with an unknown word are left out and
//!   reported as a loss (`skipped`), so that a kind of row on which nothing else depends may be added without a new
//!   number. Its addresses, if it has any, are remembered for later rows of the same cookie, like those of every row
//!   (`tuples`).
//! * The manifest's fields follow the rules of columns.
//!
//! With a new number, older versions report who wrote the recording and that they must be upgraded; newer versions
//! continue to read every earlier number.

mod clock;
mod columns;
mod decoder;
mod dictionary;
mod dir;
mod disk;
mod encoder;
pub mod export;
mod freeze;
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

/// What is wrong with a recording as a whole, or with its location, in one line that says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Fault(String);

impl Fault {
    /// Converts an error of this crate for its callers.
    fn of(error: anyhow::Error) -> anyhow::Error {
        if error.is::<Self>() {
            return error;
        }
        let mut causes = error.chain().filter_map(|cause| {
            let errno = cause.downcast_ref::<nix::errno::Errno>().map(|errno| *errno as i32);
            errno.or_else(|| cause.downcast_ref::<std::io::Error>()?.raw_os_error())
        });
        let advice = match causes.next() {
            Some(libc::ENOSPC | libc::EDQUOT) => ": free some space there, or keep less with --keep",
            Some(libc::EROFS) => ": choose a place that can be written to",
            Some(libc::EACCES | libc::EPERM) => ": only its owner can read a recording, try sudo",
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

/// Whether a file ended before what has to be in it.
fn is_cut(error: &anyhow::Error) -> bool {
    let errors = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    errors.into_iter().any(|error| error.kind() == std::io::ErrorKind::UnexpectedEof)
}

fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}
