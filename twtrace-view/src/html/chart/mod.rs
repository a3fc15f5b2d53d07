//! Charts over time and of distributions. All values can be read without a script: under the pointer, and in a table.

mod churn;
mod failures;
pub(crate) mod frame;
mod heat;
mod lifetimes;
mod live;
pub(crate) mod recent;
mod stack;

use crate::{label, text};
use maud::{Markup, html};
use twtrace_core::snapshot::{GroupBy, GroupKey, Row, Snapshot};

/// All charts of a snapshot; `id` distinguishes them from those of another snapshot on the same page.
pub(crate) fn charts(snapshot: &Snapshot, by: GroupBy, id: &str) -> Markup {
    html! {
        div class="charts" {
            (churn::chart(snapshot, by, &format!("churn{id}")))
            (live::chart(snapshot, &format!("live{id}")))
            (failures::chart(snapshot, &format!("failures{id}")))
            (heat::chart(snapshot, &format!("heat{id}")))
            (lifetimes::chart(snapshot, &format!("life{id}")))
        }
    }
}

/// A chart with its title above it and its legend below.
fn panel(title: &str, about: &str, plot: &Markup, below: &Markup) -> Markup {
    html! {
        figure class="panel chart" {
            figcaption { b { (title) } " " (about) }
            (plot)
            (below)
        }
    }
}

/// The grouping of layers: those of processes are of their programs, because a layer for each worker or for each one-shot
/// process says less.
fn layers_by(by: GroupBy) -> GroupBy {
    if by.is_of_processes() { GroupBy::Program } else { by }
}

/// The name of a row with the number of its processes, which may be one-shots of a program.
fn name(row: &Row, snapshot: &Snapshot) -> String {
    let name = label::group(row, snapshot);
    match row.key {
        GroupKey::Program(_) if row.processes > 1 => {
            format!("{name} ({} processes)", text::count(row.processes))
        }
        _ => name,
    }
}
