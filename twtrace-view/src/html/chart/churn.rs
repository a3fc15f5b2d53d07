//! TIME_WAIT sockets created per second over time, by the rows that created them.

use super::stack::{Layer, Stack};
use crate::order::{self, Sort};
use crate::timeline::Timeline;
use crate::{label, text};
use maud::Markup;
use twtrace_core::history::Series;
use twtrace_core::snapshot::{Counts, GroupBy, Snapshot};

/// Colours of layers, and how many there are: more cannot be distinguished.
const CLASSES: [&str; 6] = ["c1", "c2", "c3", "c4", "c5", "c6"];

/// Share of all below which a layer cannot be seen: it is among the others, unless it is the largest.
const VISIBLE: f64 = 0.005;

pub(super) fn chart(snapshot: &Snapshot, by: GroupBy, id: &str) -> Markup {
    let timeline = Timeline::of(snapshot);
    let by = super::layers_by(by);
    let layers = layers(snapshot, by, &timeline);
    let title = "TIME_WAIT sockets created per second";
    Stack { timeline: &timeline, layers, title, by: by.name(), scope: "" }.chart(id)
}

/// The rows of a grouping, the largest first: their names, their figures and their figures over time.
fn rows(snapshot: &Snapshot, by: GroupBy) -> Vec<(String, &Counts, &Series)> {
    match by.group() {
        Some(group) => {
            let rows = order::of_snapshot(snapshot, group, Sort::DEFAULT).into_iter();
            rows.map(|row| (super::name(row, snapshot), &row.counts, &row.series)).collect()
        }
        None => {
            let rows = order::destinations(snapshot.destinations().iter(), Sort::DEFAULT, snapshot).into_iter();
            rows.map(|row| (label::destination_and_role(row), &row.counts, &row.series)).collect()
        }
    }
}

/// The rows that created the most, each with a colour, and all others together.
fn layers(snapshot: &Snapshot, by: GroupBy, timeline: &Timeline<'_>) -> Vec<Layer> {
    let all = snapshot.summary().totals.counts.time_wait_created;
    let mut rows = rows(snapshot, by);
    rows.retain(|(_, counts, _)| counts.time_wait_created > 0);
    let is_visible = |counts: &Counts| counts.time_wait_created as f64 >= VISIBLE * all as f64;
    let shown = rows.iter().take(CLASSES.len()).take_while(|(_, counts, _)| is_visible(counts)).count().max(1);
    // One more is better named than called another one.
    let shown = if rows.len() == shown + 1 { CLASSES.len().min(rows.len()) } else { shown };
    let layer = |(class, (name, counts, series)): (&&'static str, &(String, &Counts, &Series))| Layer {
        class,
        name: name.clone(),
        total: counts.time_wait_created,
        counts: timeline.created(series).into_iter().map(f64::from).collect(),
    };
    let mut layers: Vec<Layer> = CLASSES.iter().zip(rows.iter().take(shown)).map(layer).collect();
    if let Some(rest) = rows.get(shown..).filter(|rest| !rest.is_empty()) {
        let mut counts = vec![0.0; timeline.points.len()];
        for (_, _, series) in rest {
            for (sum, created) in counts.iter_mut().zip(timeline.created(series)) {
                *sum += f64::from(created);
            }
        }
        let total = rest.iter().map(|(_, counts, _)| counts.time_wait_created).sum();
        layers.push(Layer { class: "rest", name: text::counted(rest.len(), "other", "others"), total, counts });
    }
    layers
}
