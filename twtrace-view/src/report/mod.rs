//! The churn report over recordings: which processes created TIME_WAIT sockets when, to which destinations, and how
//! that is known.
//!
//! Each recording has its own model. Rows of all recordings are in one list, distinguished by their host; before it, what
//! has the same name on several hosts is one row.

pub mod csv;
mod facts;
mod findings;
mod fleet;
mod fleet_json;
pub mod html;
pub mod json;
mod lines;
pub mod markdown;
pub mod text;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
pub(super) mod tests;

use crate::text as words;
use crate::timeline::Timeline;
use std::collections::HashMap;
use twtrace_core::recording::{Info, Loss};
use twtrace_core::snapshot::GroupBy;
use twtrace_core::snapshot::Snapshot;

/// Rows of a table for people when no number is given.
const ROWS: usize = 20;

/// Text in the place of an empty table.
pub(super) const NOTHING: &str = "Nothing to show: no connection that passes the filters has ended.";

/// What to report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Grouping.
    pub by: GroupBy,
    /// Maximum number of rows of each table.
    pub top: Option<usize>,
}

/// One recording that was read, or the requested part of it.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// What it says about itself after it was read, including what could not be read.
    pub info: &'a Info,
    /// Its content.
    pub model: &'a Snapshot,
}

impl Source<'_> {
    /// Name of its host, clean.
    pub(crate) fn host(&self) -> String {
        match self.model.summary().host.hostname.as_str() {
            "" => "(unnamed)".to_owned(),
            name => words::clean(name).into_owned(),
        }
    }

    /// Name of its directory, clean.
    pub(crate) fn recording(&self) -> String {
        let path = &self.info.path;
        words::clean(&path.file_name().unwrap_or(path.as_os_str()).to_string_lossy()).into_owned()
    }

    /// What could not be read, one line each for people: recording, file and what is wrong.
    pub(crate) fn losses(&self) -> Vec<String> {
        let recording = self.recording();
        let line = |loss: &Loss| format!("{recording}: {} {}", words::clean(&loss.file), words::clean(&loss.what));
        self.info.losses.iter().map(line).collect()
    }
}

/// A recording with its names. Both are clean.
#[derive(Debug)]
struct Part<'a> {
    source: Source<'a>,
    info: &'a Info,
    model: &'a Snapshot,
    /// Its index among the parts.
    number: usize,
    /// Its host; for several recordings of one host, with the name of the recording.
    host: String,
    /// Name of its directory.
    recording: String,
}

impl Part<'_> {
    /// TIME_WAIT sockets created.
    fn created(&self) -> u64 {
        self.model.summary().totals.counts.time_wait_created
    }

    /// Maximum of live TIME_WAIT sockets by the kernel's count, which no filter changes; `None` when it was never read.
    fn kernel_peak(&self) -> Option<u64> {
        Timeline::of(self.model).fullest().map(|(_, count)| count)
    }
}

/// Recordings to report on.
#[derive(Debug)]
pub struct Report<'a> {
    parts: Vec<Part<'a>>,
    options: Options,
}

impl<'a> Report<'a> {
    /// A report on these.
    pub fn new(sources: &[Source<'a>], options: Options) -> Self {
        let path = |source: &Source<'_>| words::clean(&source.info.path.to_string_lossy()).into_owned();
        let hosts =
            distinguished(sources.iter().map(Source::host).collect(), sources.iter().map(Source::recording).collect());
        // Recordings of the same host and name are in different directories.
        let hosts = distinguished(hosts, sources.iter().map(path).collect());
        let parts = sources.iter().zip(hosts).enumerate().map(|(number, (source, host))| Part {
            source: *source,
            info: source.info,
            model: source.model,
            number,
            host,
            recording: source.recording(),
        });
        Self { parts: parts.collect(), options }
    }

    /// Whether rows need their host next to them.
    fn is_of_several(&self) -> bool {
        self.parts.len() > 1
    }

    /// Groupings that are shown to people as tables.
    fn tables(&self) -> Vec<GroupBy> {
        let by = self.options.by;
        if by == GroupBy::Destination { vec![by] } else { vec![by, GroupBy::Destination] }
    }

    /// What could not be read, one line each for people: recording, file and what is wrong.
    pub fn losses(&self) -> Vec<String> {
        self.parts.iter().flat_map(|part| part.source.losses()).collect()
    }
}

/// Names, with another one in parentheses where they are not unique.
fn distinguished(names: Vec<String>, by: Vec<String>) -> Vec<String> {
    let mut times: HashMap<String, usize> = HashMap::new();
    for name in &names {
        *times.entry(name.clone()).or_default() += 1;
    }
    let unique = |(name, by): (String, String)| if times[&name] > 1 { format!("{name} ({by})") } else { name };
    names.into_iter().zip(by).map(unique).collect()
}
