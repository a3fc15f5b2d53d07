//! Figures over time, as plots and tables need them.

use super::Part;
use twtrace_core::history::{Moment, Series};

/// Figures over time.
#[derive(Debug)]
pub(super) struct Timeline<'a> {
    pub(super) points: Vec<Point<'a>>,
    part: &'a Part<'a>,
}

/// One bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point<'a> {
    /// Its begin, nanoseconds since the Unix epoch.
    pub(super) unix_ns: i128,
    /// Its length, seconds: the last one may be cut.
    pub(super) seconds: f64,
    /// Its content.
    pub(super) moment: &'a Moment,
}

/// Time for the rate over some buckets, seconds: at least one, because a shorter time would inflate the rate.
pub(super) fn length(points: &[Point<'_>]) -> f64 {
    points.iter().map(|point| point.seconds).sum::<f64>().max(1.0)
}

impl<'a> Timeline<'a> {
    pub(super) fn of(part: &'a Part<'a>) -> Self {
        let window = &part.model.summary().window;
        let Some(history) = part.model.history() else { return Self { points: Vec::new(), part } };
        let bucket_ns = history.bucket_ns();
        let points = history.moments().iter().zip(0_u64..).map(|(moment, index)| {
            let since_ns = index.saturating_mul(bucket_ns);
            let begin_ns = history.start_ns().saturating_add(since_ns);
            let length_ns = window.now_ns.saturating_sub(begin_ns).min(bucket_ns);
            let unix_ns = window.start_unix_ns.saturating_add(since_ns.into());
            Point { unix_ns, seconds: length_ns as f64 / 1e9, moment }
        });
        Self { points: points.collect(), part }
    }

    /// TIME_WAIT sockets that one row created, by bucket.
    pub(super) fn created(&self, series: &Series) -> Vec<u32> {
        self.part.model.history().map(|history| series.values(history)).unwrap_or_default()
    }

    /// Its end, nanoseconds since the Unix epoch.
    pub(super) fn end_unix_ns(&self) -> i128 {
        self.points.last().map_or(0, |last| last.unix_ns.saturating_add((last.seconds * 1e9) as i128))
    }

    /// Length of a bucket, seconds.
    pub(super) fn bucket_seconds(&self) -> f64 {
        self.part.model.history().map_or(1.0, |history| history.bucket_ns() as f64 / 1e9)
    }

    /// The busiest bucket; `None` when nothing was created.
    pub(super) fn busiest(&self) -> Option<&Point<'a>> {
        let created = self.points.iter().filter(|point| point.moment.created > 0);
        // Among equal ones, the first.
        created.rev().max_by_key(|point| point.moment.created)
    }

    /// At most `most` pieces of equal length; the last one may be shorter.
    pub(super) fn pieces(&self, most: usize) -> Vec<&[Point<'a>]> {
        let length = self.points.len().div_ceil(most.max(1)).max(1);
        self.points.chunks(length).collect()
    }
}
