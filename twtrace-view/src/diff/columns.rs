//! The columns of tables for people: created sockets before, after and the change, then the figures of
//! [`compare::SHOWN`](SHOWN).

use super::keys::Key;
use crate::grid::Head;
use crate::text as words;
use twtrace_core::compare::{Change, Counted, Direction, Lengths, SHOWN, Shown};
use twtrace_core::snapshot::GroupBy;

type Cell = Box<dyn Fn(&Change<Key>) -> String>;

/// Columns of a grouping of two traces of these lengths.
pub(super) fn of(by: GroupBy, lengths: Lengths) -> Vec<(Head, Cell)> {
    let left = |title, cell: fn(&Change<Key>) -> String| (Head::left(title), Box::new(cell) as Cell);
    let right = |title, cell: fn(&Change<Key>) -> String| (Head::right(title), Box::new(cell) as Cell);
    let (name, detail) = match by {
        GroupBy::Process | GroupBy::Pid | GroupBy::Command => ("COMMAND", "EXECUTABLE"),
        GroupBy::Destination => ("DESTINATION", "ROLE"),
        by => (by.grouping().heading, ""),
    };
    let mut columns = vec![
        left(name, |row| row.key.name.clone()),
        left(detail, |row| row.key.detail.clone()),
        right("BEFORE/S", |row| words::rate(row.before.created_per_s())),
        right("AFTER/S", |row| words::rate(row.after.created_per_s())),
        right("CHANGE/S", |row| signed(row.created_per_s())),
        (Head::right("CHANGE"), Box::new(move |row| relative(lengths, row))),
    ];
    columns.extend(SHOWN.iter().map(|shown| -> (Head, Cell) {
        let value = |side: &Counted| number(shown, side);
        (Head::right(shown.heading), Box::new(move |row| format!("{} → {}", value(&row.before), value(&row.after))))
    }));
    columns
}

/// Everything that is shown next to created sockets, as a line of text.
pub(super) fn others(total: &Change<()>) -> String {
    let one = |shown: &Shown| {
        let unit = if shown.is_rate() { "/s" } else { "" };
        let [before, after] = [&total.before, &total.after].map(|side| number(shown, side));
        format!("{} {before}{unit} → {after}{unit}", shown.words)
    };
    SHOWN.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn number(shown: &Shown, side: &Counted) -> String {
    let value = shown.of(side);
    if shown.is_rate() { words::rate(value) } else { words::count(value as u64) }
}

/// A difference as a share of the earlier value, marked when it may be chance.
fn relative(lengths: Lengths, row: &Change<Key>) -> String {
    let direction = lengths.direction(row.before.created_per_s(), row.after.created_per_s());
    let share = share(row);
    if direction == Direction::Same && row.created_per_s() != 0.0 { format!("~ {share}") } else { share }
}

/// A difference per second with its sign.
pub(super) fn signed(per_s: f64) -> String {
    match words::rate(per_s.abs()).as_str() {
        "0.0" => "0.0".to_owned(),
        rate => format!("{}{rate}", if per_s < 0.0 { "-" } else { "+" }),
    }
}

/// A difference as a share of the earlier value, with its sign; a multiple when it has at least doubled.
pub(super) fn share<K>(change: &Change<K>) -> String {
    match change.created_share() {
        None if change.after.created_per_s() > 0.0 => "new".to_owned(),
        None => "-".to_owned(),
        Some(share) if share >= 1.0 => format!("x {}", words::rate(share + 1.0)),
        Some(share) if share <= -1.0 => "gone".to_owned(),
        Some(share) => format!("{}{}", if share < 0.0 { "-" } else { "+" }, words::percent(share.abs())),
    }
}
