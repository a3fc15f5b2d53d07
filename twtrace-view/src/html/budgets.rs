//! The port budgets of destinations: bars by state and by who has the ports.

use super::Span;
use super::bar::{self, CELLS, Mark, Part};
use crate::ports::{self, Holders, Share};
use crate::{label, text};
use maud::{Markup, html};
use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;
use twtrace_core::ports::Budget;
use twtrace_core::snapshot::{DestRow, DestinationRow, Snapshot};

/// Destinations with a bar.
const SHOWN: usize = 8;

/// Share of the ports below which a destination has no bar, unless it is the tightest.
const VISIBLE: f64 = 0.01;

/// Holders with a number in a bar and a row in the list below it.
const NAMED: usize = 8;

/// A destination with the budget that is shown of it.
#[derive(Clone, Copy)]
pub(crate) struct Budgeted<'a> {
    pub(crate) row: &'a DestinationRow,
    pub(crate) budget: Budget,
    /// The share of its ports in use when most were, as far as is known.
    pub(crate) tightness: f64,
}

impl<'a> Budgeted<'a> {
    /// The budget of the present moment; of a whole trace, the one of the moment when a connect found no port, if there was
    /// one. `None` if the destination has no budget.
    pub(crate) fn of(row: &'a DestinationRow, span: Span) -> Option<Self> {
        let of_trace = row.exhausted.filter(|_| span == Span::Whole);
        let budget = of_trace.or(row.budget)?;
        let peak = row.counts.time_wait_live_peak as f64 / f64::from(budget.total.max(1));
        let is_known = span == Span::Now || of_trace.is_some();
        let tightness = if is_known { budget.utilization } else { budget.utilization.max(peak.min(1.0)) };
        Some(Self { row, budget, tightness })
    }

    /// What its budget was, and for how long it lasts.
    pub(crate) fn lines(&self, span: Span) -> Vec<String> {
        let state = |budget: &Budget| format!("{}; {}", ports::rates(budget), ports::forecast(budget));
        let at_the_end = || self.row.budget.as_ref().map(|budget| format!("at the end: {}", state(budget)));
        let most = self.row.counts.time_wait_live_peak;
        match span {
            Span::Now => vec![state(&self.budget)],
            Span::Whole if self.row.exhausted.is_some() => {
                let then = format!("when connects found no port: {}", state(&self.budget));
                std::iter::once(then).chain(at_the_end()).collect()
            }
            Span::Whole => {
                let most = format!("at most {} ports were in TIME_WAIT at a time", text::count(most));
                std::iter::once(most).chain(at_the_end()).collect()
            }
        }
    }

    /// Its ports by state.
    pub(crate) fn bar(&self) -> Markup {
        by_state(&self.budget, &self.peak())
    }

    /// Where its TIME_WAIT sockets were at their most, if that is beyond what the bar shows of them.
    fn peak(&self) -> Vec<Mark> {
        let (most, total) = (self.row.counts.time_wait_live_peak, u64::from(self.budget.total.max(1)));
        if most <= self.budget.time_wait.into() || self.row.exhausted.is_some() {
            return Vec::new();
        }
        let (mut from, mut cell) = (0, (most.min(total) * CELLS as u64 / total) as usize);
        for (share, cells) in ports::cells(&self.budget, CELLS) {
            match share {
                Share::Bound | Share::Established | Share::Other => (from, cell) = (from + cells, cell + cells),
                Share::TimeWait | Share::Reusable => from += cells,
                Share::Free => {}
            }
        }
        vec![Mark {
            from,
            cell: cell.min(CELLS),
            says: format!("at most {} in TIME_WAIT at a time", text::count(most)),
        }]
    }
}

/// The ports of a budget by state.
pub(crate) fn by_state(budget: &Budget, marks: &[Mark]) -> Markup {
    let shares = ports::shares(budget);
    let cells = ports::cells(budget, CELLS).into_iter().zip(shares);
    let parts = cells.map(|((share, cells), (_, ports))| Part {
        cells,
        says: says(share.name(), ports.into(), budget),
        ..part(share)
    });
    let label = shares.map(|(share, ports)| format!("{} {}", share.name(), text::count(ports.into()))).join(", ");
    bar::split(&parts.collect::<Vec<_>>(), marks, "", &label)
}

/// What a part of a bar stands for.
fn says(name: &str, ports: u64, budget: &Budget) -> String {
    let share = ports as f64 / f64::from(budget.total.max(1));
    format!("{name}: {} ports ({})", text::count(ports), text::percent(share))
}

/// A state's part of a bar, without a width.
pub(crate) fn part(share: Share) -> Part {
    let class = match share {
        Share::Bound => "bound",
        Share::Established => "established",
        Share::Other => "other",
        Share::TimeWait => "time-wait",
        Share::Reusable => "reusable",
        Share::Free => "free",
    };
    // What is free needs no sign in a bar.
    let mark = if share == Share::Free { String::new() } else { share.letter().to_string() };
    Part { class, mark, cells: 0, says: String::new() }
}

/// The destinations that use ports, or have used some in TIME_WAIT, the one closest to running out of them first.
pub(crate) fn ranked(snapshot: &Snapshot, span: Span) -> Vec<Budgeted<'_>> {
    let all = snapshot.destinations().iter().filter_map(|row| Budgeted::of(row, span));
    let mut all: Vec<Budgeted<'_>> = all.filter(|one| one.budget.used > 0 || one.tightness > 0.0).collect();
    let by_tightness = |one: &Budgeted<'_>, other: &Budgeted<'_>| -> Ordering {
        other.tightness.total_cmp(&one.tightness).then(one.row.id.cmp(&other.row.id))
    };
    all.sort_by(by_tightness);
    all
}

/// The bars of the tightest destinations; nothing when no port was used.
pub(crate) fn section(snapshot: &Snapshot, span: Span) -> Markup {
    let all = ranked(snapshot, span);
    let are_visible = all.iter().take(SHOWN).filter(|one| one.tightness >= VISIBLE).count();
    let (shown, rest) = all.split_at(are_visible.max(1).min(all.len()));
    html! {
        @if !shown.is_empty() {
            ul class="legend states" { @for share in Share::ALL { (state(share)) } }
            div class="budgets" { @for one in shown { (destination(one, snapshot, span)) } }
            @if !rest.is_empty() {
                p class="aside" {
                    (text::counted(rest.len(), "other destination uses", "other destinations use")) " a smaller share of their ports."
                }
            }
        }
    }
}

/// A state in the legend.
fn state(share: Share) -> Markup {
    html! {
        li { span class={ "swatch " (part(share).class) } { (share.letter()) } " " (share.name()) }
    }
}

fn destination(one: &Budgeted<'_>, snapshot: &Snapshot, span: Span) -> Markup {
    let Budgeted { row, budget, .. } = one;
    let name = label::destination(&row.key, row.folded);
    // Who has the ports is known of the end of a trace, and not of the moment when a connect found none.
    let holders = if span == Span::Whole && row.exhausted.is_some() {
        Vec::new()
    } else {
        Holders::of(&snapshot.port_holders(row), |holder| ports::program(holder, snapshot))
    };
    let latency = ports::latency(row);
    let netns = match row.key {
        DestRow::Dest(key) if ![0, snapshot.summary().host.netns].contains(&key.netns) => {
            format!(" in {}", label::namespace(snapshot.summary(), key.netns))
        }
        _ => String::new(),
    };
    html! {
        article class="panel budget" {
            h3 { (name) (netns) " " span class="of" { (ports::total(budget)) } }
            (one.bar())
            @if !holders.is_empty() { (by_holder(budget, &holders)) }
            @for line in one.lines(span) { p class="more" { (line) } }
            @if !latency.is_empty() { p class="more" { (latency) } }
            @if holders.is_empty() { (creators(row, snapshot)) } @else { (list(budget, &holders)) }
        }
    }
}

/// Who created TIME_WAIT sockets to a destination, by program.
fn creators(row: &DestinationRow, snapshot: &Snapshot) -> Markup {
    let mut programs: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for (process, share) in snapshot.processes_of(row.id).into_iter().filter(|(_, share)| share.time_wait_created > 0) {
        let (processes, created) = programs.entry(label::group(process, snapshot)).or_default();
        (*processes, *created) = (*processes + process.processes, *created + share.time_wait_created);
    }
    let mut programs: Vec<(String, (u64, u64))> = programs.into_iter().collect();
    programs.sort_by_key(|(_, (_, created))| Reverse(*created));
    let all: u64 = programs.iter().map(|(_, (_, created))| created).sum();
    let cells = ports::spread(&programs.iter().map(|(_, (_, created))| *created).collect::<Vec<_>>(), CELLS);
    let who = |name: &str, processes: u64| match processes {
        0 | 1 => name.to_owned(),
        many => format!("{name} ({} processes)", text::count(many)),
    };
    let created = |created: u64| format!("{} ({})", text::count(created), text::percent(created as f64 / all as f64));
    let parts = programs.iter().zip(cells).enumerate().map(|(at, ((name, (processes, sockets)), cells))| Part {
        cells,
        mark: number(at),
        says: format!("{}: {}", who(name, *processes), created(*sockets)),
        ..part(Share::TimeWait)
    });
    html! {
        @if all > 0 {
            p class="more" { "TIME_WAIT sockets to it in the whole trace, by the program that created them:" }
            (bar::split(&parts.collect::<Vec<_>>(), &[], "few", "TIME_WAIT sockets by the program that created them"))
            ul class="legend" {
                @for (at, (name, (processes, sockets))) in programs.iter().enumerate().take(NAMED) {
                    li {
                        span class={ "swatch " (part(Share::TimeWait).class) } { (number(at)) }
                        " " (who(name, *processes)) " " span class="of" { (created(*sockets)) }
                    }
                }
            }
        }
    }
}

/// The number of a holder in the bar and in the list, from 1 on.
fn number(at: usize) -> String {
    if at < NAMED { (at + 1).to_string() } else { String::new() }
}

/// The same bar by holder, below the states: each holder's ports are below the state that they are in.
fn by_holder(budget: &Budget, holders: &[Holders]) -> Markup {
    let mut parts = Vec::new();
    let mut cells = ports::cells(budget, CELLS);
    // TIME_WAIT sockets that may be taken over have the same holders as the others.
    let reusable = std::mem::take(&mut cells[4].1);
    cells[3].1 += reusable;
    for (share, cells) in cells {
        let numbered = holders.iter().enumerate();
        let here: Vec<(usize, &Holders)> = numbered.filter(|(_, holder)| Share::of(holder.state) == share).collect();
        if here.is_empty() {
            parts.push(Part { class: "free", mark: String::new(), cells, says: share.name().to_owned() });
            continue;
        }
        let ports: Vec<u64> = here.iter().map(|(_, holder)| holder.ports).collect();
        parts.extend(here.iter().zip(ports::spread(&ports, cells)).map(|((at, holder), cells)| Part {
            cells,
            mark: number(*at),
            says: says(&format!("{} {}", holder.who(), holder.state.name()), holder.ports, budget),
            ..part(share)
        }));
    }
    bar::split(&parts, &[], "holders", "The same ports by the processes that have them, in the order of the states")
}

/// Who has the ports, with the numbers of the bar.
fn list(budget: &Budget, holders: &[Holders]) -> Markup {
    let rest = holders.len().saturating_sub(NAMED);
    let share = |holder: &Holders| text::percent(holder.ports as f64 / f64::from(budget.total.max(1)));
    html! {
        ul class="legend" {
            @for (at, holder) in holders.iter().enumerate().take(NAMED) {
                li {
                    span class={ "swatch " (part(Share::of(holder.state)).class) } { (number(at)) }
                    " " (holder.who()) " "
                    span class="of" { (text::count(holder.ports)) " " (holder.state.name()) " (" (share(holder)) ")" }
                }
            }
            @if rest > 0 { li class="of" { "and " (text::count(rest as u64)) " more" } }
        }
    }
}
