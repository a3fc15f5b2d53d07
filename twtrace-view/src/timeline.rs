//! Figures over time, as plots and tables need them.

use twtrace_core::history::{History, Moment, Series};
use twtrace_core::snapshot::Snapshot;

/// Figures over time.
#[derive(Debug)]
pub(crate) struct Timeline<'a> {
    pub(crate) points: Vec<Point<'a>>,
    history: Option<&'a History>,
}

/// One bucket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point<'a> {
    /// Its begin, nanoseconds since the Unix epoch.
    pub(crate) unix_ns: i128,
    /// Its length, seconds: the last one may be cut.
    pub(crate) seconds: f64,
    /// Its content.
    pub(crate) moment: &'a Moment,
}

/// Time for the rate over some buckets, seconds: at least one, because a shorter time would inflate the rate.
pub(crate) fn length(points: &[Point<'_>]) -> f64 {
    points.iter().map(|point| point.seconds).sum::<f64>().max(1.0)
}

impl<'a> Timeline<'a> {
    /// Of a snapshot; without points if its state keeps no history.
    pub(crate) fn of(snapshot: &'a Snapshot) -> Self {
        let window = &snapshot.summary().window;
        let Some(history) = snapshot.history() else { return Self { points: Vec::new(), history: None } };
        let bucket_ns = history.bucket_ns();
        let points = history.moments().iter().zip(0_u64..).map(|(moment, index)| {
            let since_ns = index.saturating_mul(bucket_ns);
            let begin_ns = history.start_ns().saturating_add(since_ns);
            let length_ns = window.now_ns.saturating_sub(begin_ns).min(bucket_ns);
            let unix_ns = window.start_unix_ns.saturating_add(since_ns.into());
            Point { unix_ns, seconds: length_ns as f64 / 1e9, moment }
        });
        Self { points: points.collect(), history: Some(history) }
    }

    /// TIME_WAIT sockets that one row created, by bucket.
    pub(crate) fn created(&self, series: &Series) -> Vec<u32> {
        self.history.map(|history| series.values(history)).unwrap_or_default()
    }

    /// What to know of its figures, after what they are: they may be of more than the rows.
    pub(crate) fn scope(&self) -> &'static str {
        if self.history.is_some_and(History::is_before_names) { ", before filters by name" } else { "" }
    }

    /// Its end, nanoseconds since the Unix epoch.
    pub(crate) fn end_unix_ns(&self) -> i128 {
        self.points.last().map_or(0, |last| last.unix_ns.saturating_add((last.seconds * 1e9) as i128))
    }

    /// Length of a bucket, seconds.
    pub(crate) fn bucket_seconds(&self) -> f64 {
        self.history.map_or(1.0, |history| history.bucket_ns() as f64 / 1e9)
    }

    /// The busiest bucket; `None` when nothing was created.
    pub(crate) fn busiest(&self) -> Option<&Point<'a>> {
        let created = self.points.iter().filter(|point| point.moment.created > 0);
        // Among equal ones, the first.
        created.rev().max_by_key(|point| point.moment.created)
    }

    /// The moment with the most TIME_WAIT sockets by the kernel's count, and that count; `None` when it was never read.
    pub(crate) fn fullest(&self) -> Option<(i128, u64)> {
        let counted = self.points.iter().filter_map(|point| Some((point.unix_ns, point.moment.kernel_time_wait?)));
        // Among equal ones, the first.
        counted.rev().max_by_key(|(_, count)| *count)
    }

    /// At most `most` pieces of equal length; the last one may be shorter.
    pub(crate) fn pieces(&self, most: usize) -> Vec<&[Point<'a>]> {
        let length = self.points.len().div_ceil(most.max(1)).max(1);
        self.points.chunks(length).collect()
    }
}
