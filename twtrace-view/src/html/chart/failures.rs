//! Calls of connect and bind that failed over time, by what they failed for.

use super::stack::{Layer, Stack};
use crate::failures;
use crate::timeline::Timeline;
use maud::Markup;
use twtrace_core::failure::FailureKind;
use twtrace_core::snapshot::Snapshot;

pub(super) fn chart(snapshot: &Snapshot, id: &str) -> Markup {
    let timeline = Timeline::of(snapshot);
    let layer = |kind: &FailureKind| {
        let of = |failed: &[u64]| failed.get(*kind as usize).copied().unwrap_or(0);
        Layer {
            class: class(*kind),
            name: failures::kind(*kind).to_owned(),
            total: timeline.points.iter().map(|point| of(&point.moment.failed)).sum(),
            counts: timeline.points.iter().map(|point| of(&point.moment.failed) as f64).collect(),
        }
    };
    let mut layers: Vec<Layer> = FailureKind::ALL.iter().map(layer).collect();
    layers.retain(|layer| layer.total > 0);
    let scope = timeline.scope();
    Stack { timeline: &timeline, layers, title: "Calls that failed per second", by: "cause", scope }.chart(id)
}

/// The colour of a kind, the same in every chart.
fn class(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::NoPort => "c1",
        FailureKind::PortTaken => "c5",
        FailureKind::NoAddress => "c3",
        FailureKind::Refused => "c2",
        FailureKind::TimedOut => "c4",
        FailureKind::Other => "rest",
    }
}
