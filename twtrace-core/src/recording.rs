//! What a recording says about itself, and which parts of it cannot be read.

use crate::event::HostFacts;
use crate::summary::Summary;
use std::path::PathBuf;

/// What a recording says about itself.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Info {
    /// Where it is.
    pub path: PathBuf,
    /// Random number that all of its files carry.
    pub id: String,
    /// The traced host.
    pub host: HostFacts,
    /// Wall clock of its first and last readable moment, nanoseconds since the Unix epoch.
    pub start_unix_ns: i128,
    #[allow(missing_docs, reason = "see above")]
    pub end_unix_ns: i128,
    /// Rows of `connections` that can be read, as far as that was known at opening.
    pub connections: u64,
    /// Rows of `connections` that cannot be read: of segments that are damaged, and of what is cut off at the end.
    pub connections_lost: u64,
    /// More connections were lost; their number is unknown.
    pub lost_more: bool,
    /// Size of all of its files.
    pub bytes: u64,
    /// It was closed properly: nothing is missing at its end.
    pub finished: bool,
    /// Segments that `--keep` has dropped from its beginning.
    pub segments_dropped: u64,
    /// What could not be read, in time order.
    pub losses: Vec<Loss>,
}

impl Info {
    /// Of a trace that runs, by its newest snapshot: nothing of it is on a disk. `name` says where it was read.
    pub fn of_live(name: &str, summary: &Summary) -> Self {
        let window = &summary.window;
        let length_ns = window.now_ns.saturating_sub(window.start_ns);
        Self {
            path: name.into(),
            host: summary.host.clone(),
            start_unix_ns: window.start_unix_ns,
            end_unix_ns: window.start_unix_ns.saturating_add(length_ns.into()),
            connections: summary.totals.connections,
            // There is nothing yet that could be missing at its end.
            finished: true,
            ..Self::default()
        }
    }

    /// Whether it is a trace that runs, not a recording: those have an id.
    pub fn is_live(&self) -> bool {
        self.id.is_empty()
    }

    /// The same after a pass over it, with the parts that turned out to be unreadable.
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

/// A part of a recording that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Loss {
    /// File name inside the recording.
    pub file: String,
    /// What is wrong with it and what is missing, for people.
    pub what: String,
}
