//! Compares two recordings: rates before and after, and a verdict.

mod columns;
pub(crate) mod figures;
pub mod json;
mod keys;
pub mod markdown;
mod sentence;
pub mod text;

#[cfg(test)]
mod tests;

use crate::grid::{Grid, Head};
use crate::report::{NOTHING, Options, Source};
use crate::text as words;
use keys::{Key, Keys, Who};
use twtrace_core::compare::{Change, Direction, Lengths, Verdict};
use twtrace_core::snapshot::GroupBy;

/// Rows of a table for people when no number is given.
const ROWS: usize = 20;

/// Share of a change that counts as most of it.
const MOST: f64 = 0.5;

/// One of the two recordings.
#[derive(Debug)]
struct Side<'a> {
    source: Source<'a>,
    /// Clean.
    host: String,
    /// Name of its directory, clean.
    recording: String,
}

impl Side<'_> {
    fn seconds(&self) -> f64 {
        self.source.model.summary().window.seconds()
    }
}

/// A comparison.
#[derive(Debug)]
pub struct Diff<'a> {
    before: Side<'a>,
    after: Side<'a>,
    options: Options,
    lengths: Lengths,
    total: Change<()>,
    rows: Vec<Change<Key>>,
    destinations: Vec<Change<Key>>,
    /// Candidates for the verdict, the most specific first: a process with a destination, a process, a destination.
    named: [Vec<Change<Who>>; 3],
}

impl<'a> Diff<'a> {
    /// Compares two recordings.
    pub fn new(before: Source<'a>, after: Source<'a>, options: Options) -> Self {
        let [before, after] =
            [before, after].map(|source| Side { source, host: source.host(), recording: source.recording() });
        let lengths = Lengths { before: before.seconds(), after: after.seconds() };
        let keys = Keys::of([before.source.model, after.source.model]);
        let changes = |by| lengths.changes(keys.figures(before.source.model, by), keys.figures(after.source.model, by));
        let pairs = lengths.changes(keys.pairs(before.source.model), keys.pairs(after.source.model));
        let (rows, destinations) = (changes(options.by), changes(GroupBy::Destination));
        let named = |changes: Vec<Change<Key>>, who: fn(Key) -> Who| -> Vec<Change<Who>> {
            let renamed = |Change { key, before, after }| Change { key: who(key), before, after };
            changes.into_iter().map(renamed).collect()
        };
        let processes = named(changes(GroupBy::Process), |key| Who { process: Some(key), destination: None });
        let of_destinations = named(destinations.clone(), |key| Who { process: None, destination: Some(key) });
        let named = [pairs, processes, of_destinations];
        let total = lengths.change((), keys::total(before.source.model), keys::total(after.source.model));
        Self { before, after, options, lengths, total, rows, destinations, named }
    }

    /// What could not be read, one line each for people.
    pub fn losses(&self) -> Vec<String> {
        [&self.before, &self.after].into_iter().flat_map(|side| side.source.losses()).collect()
    }

    /// Names the first candidate that caused most of the change; if there is none, the process with the largest part.
    fn verdict(&self) -> Verdict<'_, Who> {
        let [pair, process, destination] = self.named.each_ref().map(|parts| self.lengths.verdict(&self.total, parts));
        let says_it = |verdict: &Verdict<'_, Who>| verdict.direction == Direction::Same || verdict.main_share >= MOST;
        [pair, process, destination].into_iter().find(says_it).unwrap_or(process)
    }

    /// Groupings with their rows.
    fn tables(&self) -> Vec<(GroupBy, &[Change<Key>])> {
        let mut tables = vec![(self.options.by, self.rows.as_slice())];
        if self.options.by != GroupBy::Destination {
            tables.push((GroupBy::Destination, self.destinations.as_slice()));
        }
        tables
    }

    /// One row for each recording.
    fn recordings(&self) -> Grid {
        type Cell = fn(&(&str, &Side<'_>)) -> String;
        let columns: [(Head, Cell); 6] = [
            (Head::left(""), |(which, _)| (*which).to_owned()),
            (Head::left("RECORDING"), |(_, side)| side.recording.clone()),
            (Head::left("HOST"), |(_, side)| side.host.clone()),
            (Head::left("FROM (UTC)"), |(_, side)| {
                let start = side.source.model.summary().window.start_unix_ns;
                format!("{} {}", words::day(start), words::time_of_day(start))
            }),
            (Head::right("LENGTH"), |(_, side)| words::seconds(side.seconds())),
            (Head::left("TIER"), |(_, side)| crate::words::tier(side.source.model.summary().tracing.tier).to_owned()),
        ];
        Grid::of(columns, &[("before", &self.before), ("after", &self.after)])
    }

    /// The table of some changes for people, and a note on the rows that it leaves out.
    fn grid(&self, by: GroupBy, rows: &[Change<Key>]) -> (Grid, Option<String>) {
        let shown = &rows[..rows.len().min(self.options.top.unwrap_or(ROWS))];
        let left_out = (shown.len() < rows.len()).then(|| {
            let (shown, all) = (words::count(shown.len() as u64), words::count(rows.len() as u64));
            format!("first {shown} of {all} rows by change")
        });
        (Grid::of(columns::of(by, self.lengths), shown), left_out)
    }
}
