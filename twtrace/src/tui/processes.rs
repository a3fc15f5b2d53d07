//! Groups and processes.

use crate::tui::figures::Figures;
use crate::tui::list::{self, List};
use crate::tui::state::State;
use ratatui::Frame;
use ratatui::layout::Rect;
use std::cmp::Reverse;
use std::collections::HashMap;
use twtrace_core::snapshot::{GroupBy, GroupKey, Row, Share};
use twtrace_view::columns::{self, Context, Paired};
use twtrace_view::label::{self, Names};
use twtrace_view::order::{self, Sort};
use twtrace_view::text;

/// Whether a row belongs to a group of another grouping.
pub(super) fn belongs(row: &Row, group: &GroupKey) -> bool {
    match (group, &row.owner) {
        (GroupKey::Unknown | GroupKey::Other, _) => row.key == *group,
        (_, None) => false,
        (GroupKey::Process(key), Some(owner)) => owner.key == *key,
        (GroupKey::Command(comm), Some(owner)) => owner.comm == *comm,
        (GroupKey::Parent(pid, comm), Some(owner)) => owner.ppid == *pid && owner.parent_comm == *comm,
        (GroupKey::User(uid), Some(owner)) => owner.uid == *uid,
        (GroupKey::Cgroup(id), Some(owner)) => owner.cgroup == *id,
    }
}

/// Whether what the row says contains the text, which is in lower case.
pub(super) fn matches(row: &Row, names: &Snapshot, needle: &str) -> bool {
    if needle.is_empty() {
        return true;
    }
    let has = |text: &str| text.to_lowercase().contains(needle);
    if has(&label::group(row, names)) {
        return true;
    }
    let GroupKey::Process(key) = row.key else { return false };
    let facts = names.facts(key);
    key.tgid.to_string().contains(needle)
        || row.owner.is_some_and(|owner| {
            has(&label::user(owner.uid, names)) || has(&label::process(&owner.parent_comm, owner.ppid))
        })
        || facts.and_then(|facts| facts.cmdline.as_deref()).is_some_and(|line| has(&text::clean(line)))
        || label::cgroup(facts).is_some_and(|name| has(&name))
}

/// Draws rows of one grouping, all or those of one group, and gives the title.
pub(super) fn groups(
    frame: &mut Frame<'_>,
    area: Rect,
    context: &Context<'_>,
    figures: &dyn Figures,
    state: &mut State,
    of: Option<&GroupKey>,
) -> String {
    let by = if of.is_some() { GroupBy::Process } else { state.by };
    let needle = state.filter.to_lowercase();
    let rows = figures.rows(by).filter(|row| of.is_none_or(|group| belongs(row, group)));
    let rows = rows.filter(|row| matches(row, figures, &needle));
    let mut rows = order::rows(rows, state.sort, figures);
    if state.reverse {
        rows.reverse();
    }
    let ids = rows.iter().map(|row| u64::from(row.id)).collect();
    let sort = Some(state.sort);
    let list = List { columns: columns::groups(by), rows: &rows, ids, order: sort, styles: Vec::new() };
    list::draw(frame, area, list, context, state);
    format!("{} by {}", text::counted(rows.len(), "row", "rows"), order::group_name(by))
}

/// Draws the processes of one destination, and gives the title.
pub(super) fn of_destination(
    frame: &mut Frame<'_>,
    area: Rect,
    context: &Context<'_>,
    figures: &dyn Figures,
    state: &mut State,
    destination: u32,
) -> String {
    let needle = state.filter.to_lowercase();
    let rows: HashMap<u32, &Row> = figures.rows(GroupBy::Process).iter().map(|row| (row.id, row)).collect();
    let pairs = figures.pairs().filter(|pair| pair.destination == destination);
    let found = pairs.filter_map(|pair| Some(Paired { row: *rows.get(&pair.process)?, pair }));
    let mut found: Vec<Paired<'_, Row>> = found.filter(|paired| matches(paired.row, figures, &needle)).collect();
    sort_pairs(&mut found, state, |row| row.id);
    let ids = found.iter().map(|paired| u64::from(paired.row.id)).collect();
    let sort = Some(pair_sort(state.sort));
    let list = List { columns: columns::processes_of(), rows: &found, ids, order: sort, styles: Vec::new() };
    list::draw(frame, area, list, context, state);
    text::counted(found.len(), "process", "processes")
}

/// Pairs have two figures to sort by.
pub(super) fn pair_sort(sort: Sort) -> Sort {
    if sort == Sort::Live { Sort::Live } else { Sort::DEFAULT }
}

/// Sorts a list that was drilled to.
pub(super) fn sort_pairs<T>(rows: &mut [Paired<'_, T>], state: &State, id: fn(&T) -> u32) {
    let figure = |pair: &Share| match pair_sort(state.sort) {
        Sort::Live => pair.time_wait_live,
        _ => pair.time_wait_created,
    };
    rows.sort_unstable_by_key(|paired| (Reverse(figure(paired.pair)), id(paired.row)));
    if state.reverse {
        rows.reverse();
    }
}
