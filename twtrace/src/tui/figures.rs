//! What the screen is drawn from: the model as it is, or as it was when the user froze it.

use crate::tui::sockets;
use crate::tui::state::State;
use std::collections::HashMap;
use twtrace_core::finding::Finding;
use twtrace_core::input::{Owner, ProcessFacts, ProcessKey};
use twtrace_core::snapshot::Snapshot;
use twtrace_core::snapshot::{DestinationRow, GroupBy, Row, Share, Summary, TimeWaitSocket};
use twtrace_view::failures::{self, Failure};
use twtrace_view::label::{self, Names};

/// All groupings, in the order in which a key goes through them.
pub const GROUPINGS: [GroupBy; 5] =
    [GroupBy::Process, GroupBy::Command, GroupBy::Parent, GroupBy::User, GroupBy::Cgroup];

/// Figures to draw.
pub trait Figures: Names {
    /// Host-wide parts.
    fn summary(&self) -> &Summary;
    /// Rows of one grouping.
    fn rows(&self, by: GroupBy) -> Box<dyn Iterator<Item = &Row> + '_>;
    /// Destinations.
    fn destinations(&self) -> Box<dyn Iterator<Item = &DestinationRow> + '_>;
    /// Pairs of process and destination.
    fn pairs(&self) -> Box<dyn Iterator<Item = &Share> + '_>;
    /// Live timewait sockets, by value: the model does not keep them in this form.
    fn live_sockets(&self) -> Box<dyn Iterator<Item = TimeWaitSocket> + '_>;
    /// Those that were left out of [`Self::live_sockets`].
    fn sockets_left_out(&self) -> u64;
    /// What is wrong.
    fn findings(&self) -> &[Finding];
    /// Calls that failed for want of an address or a port, the most first.
    fn failures(&self) -> Vec<Failure>;
}

impl Figures for Snapshot {
    fn summary(&self) -> &Summary {
        Self::summary(self)
    }
    fn rows(&self, by: GroupBy) -> Box<dyn Iterator<Item = &Row> + '_> {
        Box::new(Self::rows(self, by))
    }
    fn destinations(&self) -> Box<dyn Iterator<Item = &DestinationRow> + '_> {
        Box::new(Self::destinations(self))
    }
    fn pairs(&self) -> Box<dyn Iterator<Item = &Share> + '_> {
        Box::new(Self::pairs(self))
    }
    fn live_sockets(&self) -> Box<dyn Iterator<Item = TimeWaitSocket> + '_> {
        Box::new(Self::live_sockets(self))
    }
    fn sockets_left_out(&self) -> u64 {
        0
    }
    fn findings(&self) -> &[Finding] {
        Self::findings(self)
    }
    fn failures(&self) -> Vec<Failure> {
        failures::of(self)
    }
}

/// Figures of one moment. Of the live sockets only those on the screen are kept: there can be hundreds of thousands.
pub struct Frozen {
    summary: Summary,
    rows: [Vec<Row>; GROUPINGS.len()],
    destinations: Vec<DestinationRow>,
    pairs: Vec<Share>,
    sockets: Vec<TimeWaitSocket>,
    sockets_left_out: u64,
    pub(super) findings: Vec<Finding>,
    failures: Vec<Failure>,
    facts: HashMap<ProcessKey, ProcessFacts>,
    users: HashMap<u32, String>,
}

impl Frozen {
    /// Takes what `state` shows, and what it can get to by keys.
    pub fn of(figures: &dyn Figures, state: &State) -> Self {
        let rows = GROUPINGS.map(|by| figures.rows(by).cloned().collect::<Vec<Row>>());
        let shown = sockets::choose(figures, state);
        let of_rows = rows.iter().flatten().filter_map(|row| row.owner.as_ref());
        let owners: Vec<Owner> = of_rows.copied().collect();
        let facts = owners.iter().filter_map(|owner| Some((owner.key, figures.facts(owner.key)?.clone()))).collect();
        let of_users = owners.iter().filter_map(|owner| Some((owner.uid, figures.user_name(owner.uid)?.to_owned())));
        let parties = figures.findings().iter().filter_map(|finding| finding.process);
        let of_parties = parties.filter_map(|party| Some((party.uid, figures.user_name(party.uid)?.to_owned())));
        let users = of_users.chain(of_parties).collect();
        Self {
            summary: figures.summary().clone(),
            rows,
            destinations: figures.destinations().iter().cloned().collect(),
            pairs: figures.pairs().cloned().collect(),
            sockets_left_out: shown.total.saturating_sub(shown.sockets.len() as u64),
            sockets: shown.sockets,
            findings: figures.findings().to_vec(),
            failures: figures.failures(),
            facts,
            users,
        }
    }
}

impl Names for Frozen {
    fn facts(&self, key: ProcessKey) -> Option<&ProcessFacts> {
        self.facts.get(&key)
    }
    fn user_name(&self, uid: u32) -> Option<&str> {
        self.users.get(&uid).map(String::as_str)
    }
    fn facts_of_cgroup(&self, id: u64) -> Option<&ProcessFacts> {
        label::find_facts(self.rows[0].iter(), self, id)
    }
}

impl Figures for Frozen {
    fn summary(&self) -> &Summary {
        &self.summary
    }
    fn rows(&self, by: GroupBy) -> Box<dyn Iterator<Item = &Row> + '_> {
        let index = GROUPINGS.iter().position(|grouping| *grouping == by).unwrap_or(0);
        Box::new(self.rows[index].iter())
    }
    fn destinations(&self) -> Box<dyn Iterator<Item = &DestinationRow> + '_> {
        Box::new(self.destinations.iter())
    }
    fn pairs(&self) -> Box<dyn Iterator<Item = &Share> + '_> {
        Box::new(self.pairs.iter())
    }
    fn live_sockets(&self) -> Box<dyn Iterator<Item = TimeWaitSocket> + '_> {
        Box::new(self.sockets.iter().copied())
    }
    fn sockets_left_out(&self) -> u64 {
        self.sockets_left_out
    }
    fn findings(&self) -> &[Finding] {
        &self.findings
    }
    fn failures(&self) -> Vec<Failure> {
        self.failures.clone()
    }
}
