//! The one place that changes state.

use crate::input::{Input, ProcessFacts, ProcessKey};
use crate::model::{DestinationRow, GroupBy, LiveSocket, PairRow, Row, Summary};
use ipnet::IpNet;

/// What to show. All kinds that are given must match, and of each kind any one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Thread group ids of opener or closer.
    pub pids: Vec<u32>,
    /// Commands of opener or closer, exactly as the kernel keeps them (15 bytes).
    pub comms: Vec<Vec<u8>>,
    /// uids of opener or closer.
    pub uids: Vec<u32>,
    /// Remote addresses, with a remote port or any.
    pub dests: Vec<(IpNet, Option<u16>)>,
    /// Local or remote ports.
    pub ports: Vec<u16>,
}

/// Bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Rows of each ledger.
    pub rows: usize,
    /// Pairs of process and destination.
    pub pairs: usize,
    /// Live timewait sockets.
    pub live: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rows: 8_192, pairs: 16_384, live: 262_144 }
    }
}

/// Settings of an engine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineConfig {
    /// What to show.
    pub filter: Filter,
    /// Bounds.
    pub limits: Limits,
}

/// Read-only state.
#[derive(Debug, Default)]
pub struct Model {
    summary: Summary,
}

impl Model {
    /// Host-wide parts.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }
    /// Rows of one grouping, in no particular order; the unknown and the folded row come with them.
    pub fn rows(&self, _by: GroupBy) -> impl Iterator<Item = &Row> {
        std::iter::empty()
    }
    /// Destinations.
    pub fn destinations(&self) -> impl Iterator<Item = &DestinationRow> {
        std::iter::empty()
    }
    /// Pairs.
    pub fn pairs(&self) -> impl Iterator<Item = &PairRow> {
        std::iter::empty()
    }
    /// Live timewait sockets.
    pub fn live_sockets(&self) -> impl Iterator<Item = &LiveSocket> {
        std::iter::empty()
    }
    /// What `/proc` said of a process.
    pub fn facts(&self, _key: ProcessKey) -> Option<&ProcessFacts> {
        None
    }
    /// A user's name.
    pub fn user_name(&self, _uid: u32) -> Option<&str> {
        None
    }
}

/// Turns inputs into a model.
#[derive(Debug, Default)]
pub struct Engine {
    model: Model,
}

impl Engine {
    /// An engine that knows nothing yet.
    pub fn new(_config: EngineConfig) -> Self {
        Self::default()
    }
    /// Learns one thing.
    pub fn apply(&mut self, _input: Input) {}
    /// What is known.
    pub fn model(&self) -> &Model {
        &self.model
    }
}
