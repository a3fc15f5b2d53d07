//! The comparison as JSON: one object on one line.

use super::figures::{CountedJson, DifferenceJson};
use super::keys::{Key, Who};
use super::{Diff, Side};
use crate::json::rows::rounded;
use crate::json::{self as top};
use serde::Serialize;
use std::borrow::Cow;
use std::io::{self, Write};
use twtrace_core::compare::{Change, Direction};
use twtrace_core::recording::Loss;

/// What `twtrace diff --format json` writes.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct DiffJson<'a> {
    /// Version of this form.
    #[cfg_attr(test, schemars(extend("const" = top::SCHEMA)))]
    schema: u32,
    /// What the comparison comes to.
    verdict: VerdictJson<'a>,
    /// Why the verdict may be wrong.
    reservations: Vec<String>,
    /// The earlier recording.
    before: SideJson<'a>,
    /// The later recording.
    after: SideJson<'a>,
    /// Everything together.
    totals: ChangeJson<'a, ()>,
    /// What `rows` are grouped by.
    #[cfg_attr(test, schemars(extend("enum" = top::groupings())))]
    by: &'static str,
    /// What changed, the most first.
    rows: Vec<ChangeJson<'a, Key>>,
    /// How many rows there are, those that are not written included.
    rows_total: usize,
    /// The same by destination.
    destinations: Vec<ChangeJson<'a, Key>>,
    /// How many destinations there are, those that are not written included.
    destinations_total: usize,
}

/// What a comparison comes to.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct VerdictJson<'a> {
    /// In one sentence.
    sentence: String,
    /// Which way TIME_WAIT sockets created per second went.
    direction: Direction,
    /// Who changed most the same way: a process, a destination, or a process with a destination; null when nothing
    /// changed.
    main: Option<ChangeJson<'a, Who>>,
    /// Its share in the change.
    main_share: f64,
    /// Which way all others went together.
    rest: Direction,
    /// By how much, in TIME_WAIT sockets created per second.
    rest_per_s: f64,
}

/// One of two recordings.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct SideJson<'a> {
    /// Its path.
    recording: Cow<'a, str>,
    /// Its identity, which stays when it is moved.
    id: &'a str,
    /// Where it was recorded.
    host: top::Host<'a>,
    /// Which time is compared.
    window: top::Window,
    /// How it was traced.
    tracing: top::Tracing<'a>,
    /// It was ended as it should be.
    finished: bool,
    /// What could not be read.
    losses: &'a [Loss],
}

/// How something changed.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ChangeOf_{K}"))]
struct ChangeJson<'a, K> {
    #[serde(flatten)]
    key: &'a K,
    /// What it was.
    before: CountedJson<'a>,
    /// What it is.
    after: CountedJson<'a>,
    /// By how much it is more.
    change: DifferenceJson<'a>,
    /// Change in TIME_WAIT sockets created per second as a share of what it was; null when it was nothing.
    change_share: Option<f64>,
    /// Which way TIME_WAIT sockets created per second went; `same` when it may be chance.
    direction: Direction,
}

impl<'a> SideJson<'a> {
    fn of(side: &'a Side<'_>) -> Self {
        let (info, summary) = (side.source.info, side.source.model.summary());
        Self {
            recording: info.path.to_string_lossy(),
            id: &info.id,
            host: top::host(&summary.host),
            window: top::window(summary),
            tracing: top::tracing(summary),
            finished: info.finished,
            losses: &side.source.info.losses,
        }
    }
}

fn change<'a, K>(diff: &Diff<'_>, change: &'a Change<K>) -> ChangeJson<'a, K> {
    ChangeJson {
        key: &change.key,
        before: CountedJson::of(&change.before),
        after: CountedJson::of(&change.after),
        change: DifferenceJson { before: &change.before, after: &change.after },
        change_share: change.created_share().map(rounded),
        direction: diff.lengths.direction(change.before.created_per_s(), change.after.created_per_s()),
    }
}

/// Writes the comparison and a line's end.
///
/// # Errors
/// The output cannot be written to.
pub fn write(diff: &Diff<'_>, out: &mut dyn Write) -> io::Result<()> {
    let limit = diff.options.top.unwrap_or(usize::MAX);
    let rows = |rows| -> Vec<_> { <[Change<Key>]>::iter(rows).take(limit).map(|row| change(diff, row)).collect() };
    let verdict = diff.verdict();
    let json = DiffJson {
        schema: top::SCHEMA,
        verdict: VerdictJson {
            sentence: diff.sentence(),
            direction: verdict.direction,
            main: verdict.main.map(|main| change(diff, main)),
            main_share: rounded(verdict.main_share),
            rest: verdict.rest,
            rest_per_s: rounded(verdict.rest_per_s),
        },
        reservations: diff.reservations(),
        before: SideJson::of(&diff.before),
        after: SideJson::of(&diff.after),
        totals: change(diff, &diff.total),
        by: diff.options.by.name(),
        rows: rows(&diff.rows),
        rows_total: diff.rows.len(),
        destinations: rows(&diff.destinations),
        destinations_total: diff.destinations.len(),
    };
    top::write_plain(&json, out)
}
