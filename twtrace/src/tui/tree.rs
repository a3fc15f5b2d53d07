//! Rows that open in place: a group into its processes, a process into its destinations, a destination into the processes
//! that use it, and each of these pairs into its TIME_WAIT sockets.

use crate::tui::destinations;
use crate::tui::filter::Filter;
use crate::tui::kept::Pairs;
use crate::tui::list::{self, List};
use crate::tui::model::{Entry, Fold};
use crate::tui::processes;
use crate::tui::sockets;
use crate::tui::state::State;
use crate::tui::style::Theme;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use std::cmp::Reverse;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use twtrace_core::event::ProcessKey;
use twtrace_core::snapshot::{Counts, DestRow, DestinationRow, GroupBy, GroupKey, Row, Snapshot, TimeWaitSocket};
use twtrace_view::columns::{self, Column, Context};
use twtrace_view::order;
use twtrace_view::{label, text};

/// Sockets that a pair opens into. A user reads no more, and the list of sockets has a filter.
const SOCKETS: usize = 200;

/// What a line stands for.
pub(super) enum Kind<'a> {
    /// A group or a process.
    Row(GroupBy, &'a Row),
    /// A destination.
    Destination(&'a DestinationRow),
    /// A process of a network namespace, with their common figures.
    Within(&'a Row, u32, Box<Counts>),
    /// A destination of a row, with their common figures.
    DestinationOf(GroupBy, &'a Row, &'a DestinationRow, Box<Counts>),
    /// A process of a destination, with their common figures.
    ProcessOf(&'a Row, &'a DestinationRow, Box<Counts>),
    /// A TIME_WAIT socket.
    Socket(TimeWaitSocket),
    /// What there is to say in place of further lines.
    Note(String),
}

/// A line.
pub(super) struct Node<'a> {
    pub(super) kind: Kind<'a>,
    depth: u16,
    fold: Fold,
}

impl<'a> Node<'a> {
    /// Its figures, if it has any.
    pub(super) fn counts(&self) -> Option<&Counts> {
        match &self.kind {
            Kind::Row(_, row) => Some(&row.counts),
            Kind::Destination(row) => Some(&row.counts),
            Kind::Within(.., counts) | Kind::DestinationOf(.., counts) | Kind::ProcessOf(.., counts) => Some(counts),
            Kind::Socket(_) | Kind::Note(_) => None,
        }
    }

    /// The destination whose ports matter here.
    pub(super) fn destination(&self) -> Option<&'a DestinationRow> {
        match &self.kind {
            Kind::Destination(row) | Kind::DestinationOf(_, _, row, _) | Kind::ProcessOf(_, row, _) => Some(row),
            Kind::Row(..) | Kind::Within(..) | Kind::Socket(_) | Kind::Note(_) => None,
        }
    }

    /// Whether it is below another line.
    pub(super) fn is_below(&self) -> bool {
        self.depth > 0
    }

    /// Its name.
    pub(super) fn name(&self, snapshot: &Snapshot) -> String {
        match &self.kind {
            Kind::Row(_, row) | Kind::Within(row, ..) | Kind::ProcessOf(row, ..) => with_pid(row, snapshot),
            Kind::Destination(row) => label::destination(&row.key, row.folded),
            Kind::DestinationOf(_, _, row, _) => {
                let name = label::destination(&row.key, row.folded);
                match label::netns(row, snapshot).filter(|_| !columns::are_in_one_place(snapshot)) {
                    Some(netns) => format!("{name} in {netns}"),
                    None => name,
                }
            }
            Kind::Socket(socket) => sockets::in_a_line(socket, snapshot),
            Kind::Note(note) => note.clone(),
        }
    }

    /// The name after a sign for whether it is open, below the line that it belongs to.
    fn in_tree(&self, name: &str) -> String {
        let sign = match self.fold {
            Fold::Leaf => "  ",
            Fold::Closed => "▸ ",
            Fold::Open => "▾ ",
        };
        format!("{}{sign}{name}", "  ".repeat(self.depth.into()))
    }
}

/// The name of a row, with its PID if it is of one process.
fn with_pid(row: &Row, snapshot: &Snapshot) -> String {
    match row.key {
        GroupKey::Process(key) => format!("{}[{}]", label::group(row, snapshot), key.tgid),
        _ => label::group(row, snapshot),
    }
}

/// Cells that the sign takes of the column of names.
const SIGN: u16 = 2;

/// A column of the first level's rows as one of all lines. `cell` is for the rows that have this column.
fn of_nodes<'a, T: 'static>(
    column: Column<T>,
    row: impl for<'n> Fn(&'n Node<'a>) -> Option<&'n T> + 'static,
) -> Column<Node<'a>> {
    let wider = if column.is_name { SIGN } else { 0 };
    let column = column.map(move |column, context: &Context<'_>, node: &Node<'a>| {
        if let Some(field) = column.field {
            return node.counts().map_or_else(String::new, |counts| columns::figure(field, context, counts));
        }
        match row(node) {
            Some(row) if column.is_name && !node.is_below() => node.in_tree(&(column.cell)(context, row)),
            _ if column.is_name => node.in_tree(&node.name(context.snapshot)),
            Some(row) => (column.cell)(context, row),
            None => String::new(),
        }
    });
    Column { width: column.width + wider, ..column }
}

/// Columns of groups and processes, for all lines.
pub(super) fn of_rows<'a>(columns: Vec<Column<Row>>) -> Vec<Column<Node<'a>>> {
    fn row<'n>(node: &'n Node<'_>) -> Option<&'n Row> {
        match &node.kind {
            Kind::Row(_, row) => Some(row),
            _ => None,
        }
    }
    columns.into_iter().map(|column| of_nodes(column, row)).collect()
}

/// Columns of destinations, for all lines.
pub(super) fn of_destinations<'a>(columns: Vec<Column<DestinationRow>>) -> Vec<Column<Node<'a>>> {
    fn row<'n>(node: &'n Node<'_>) -> Option<&'n DestinationRow> {
        match &node.kind {
            Kind::Destination(row) => Some(row),
            _ => None,
        }
    }
    columns.into_iter().map(|column| of_nodes(column, row)).collect()
}

/// The style of each line.
fn styles(nodes: &[Node<'_>], look: Theme) -> Vec<Style> {
    let style = |node: &Node<'_>| match node.kind {
        Kind::Socket(_) | Kind::Note(_) => look.dim(),
        _ => Style::new(),
    };
    nodes.iter().map(style).collect()
}

/// The lines of a list, from top to bottom.
pub(super) struct Tree<'a> {
    snapshot: &'a Snapshot,
    filter: Filter,
    pairs: Pairs,
    nodes: Vec<Node<'a>>,
    entries: Vec<Entry>,
    needs_sockets: bool,
}

impl<'a> Tree<'a> {
    /// Without lines.
    pub(super) fn new(snapshot: &'a Snapshot, filter: Filter, state: &mut State) -> Self {
        let pairs = std::mem::take(&mut state.pairs).begin(snapshot);
        Self { snapshot, filter, pairs, nodes: Vec::new(), entries: Vec::new(), needs_sockets: false }
    }

    /// Adds lines, and below those that are open what they open into.
    pub(super) fn add(&mut self, kinds: Vec<(u64, Kind<'a>)>, state: &State) {
        kinds.into_iter().for_each(|(id, kind)| self.add_one(kind, id, None, state));
    }

    /// Draws the lines, and returns the path to the chosen one.
    pub(super) fn draw(
        mut self,
        frame: &mut Frame<'_>,
        area: Rect,
        columns: Vec<Column<Node<'a>>>,
        context: &Context<'_>,
        chosen: usize,
        state: &mut State,
    ) -> Vec<String> {
        let crumbs = self.crumbs(chosen);
        let entries = self.entries(state);
        let styles = styles(&self.nodes, state.look);
        let list = List { columns, rows: &self.nodes, entries, order: Some(state.sort), styles };
        list::draw(frame, area, list, context, state);
        crumbs
    }

    /// What the list settles on.
    fn entries(&mut self, state: &mut State) -> Vec<Entry> {
        state.pairs = std::mem::take(&mut self.pairs);
        state.need_sockets(self.needs_sockets);
        std::mem::take(&mut self.entries)
    }

    /// Ids of the lines.
    pub(super) fn ids(&self) -> Vec<u64> {
        self.entries.iter().map(|entry| entry.id).collect()
    }

    /// The line that a line says more about: for a socket, the pair that it belongs to.
    pub(super) fn subject(&self, at: usize) -> Option<&Node<'a>> {
        let node = self.nodes.get(at)?;
        match node.kind {
            Kind::Socket(_) | Kind::Note(_) => self.nodes.get(self.entries.get(at)?.parent?),
            _ => Some(node),
        }
    }

    /// The names of the lines above a line, from the first level on, and its own; nothing on the first level.
    fn crumbs(&self, at: usize) -> Vec<String> {
        let mut names = Vec::new();
        let mut next = self.nodes.get(at).filter(|node| node.is_below()).map(|_| at);
        while let Some(at) = next {
            match self.nodes[at].kind {
                Kind::Socket(_) | Kind::Note(_) => {}
                _ => names.push(self.nodes[at].name(self.snapshot)),
            }
            next = self.entries[at].parent;
        }
        names.reverse();
        names
    }

    fn add_one(&mut self, kind: Kind<'a>, id: u64, parent: Option<usize>, state: &State) {
        let depth = parent.map_or(0, |parent| self.nodes[parent].depth + 1);
        let fold = match &kind {
            Kind::Socket(_) | Kind::Note(_) => Fold::Leaf,
            Kind::DestinationOf(.., counts) | Kind::ProcessOf(.., counts) if counts.time_wait_live == 0 => Fold::Leaf,
            _ if state.is_open(id) => Fold::Open,
            _ => Fold::Closed,
        };
        let at = self.nodes.len();
        let below = if fold == Fold::Open { self.below(&kind, id, state) } else { Vec::new() };
        self.nodes.push(Node { kind, depth, fold });
        self.entries.push(Entry { id, parent, fold });
        below.into_iter().for_each(|(id, kind)| self.add_one(kind, id, Some(at), state));
    }

    /// What a line opens into.
    fn below(&mut self, kind: &Kind<'a>, id: u64, state: &State) -> Vec<(u64, Kind<'a>)> {
        let snapshot = self.snapshot;
        match kind {
            Kind::Row(by, row) if let GroupKey::Netns(netns) = row.key => {
                let members = snapshot.members_of(*by, row).map(|row| (row, in_netns(snapshot, row, netns)));
                let members = members.filter(|(_, counts)| *counts != Counts::default()).collect();
                let by = GroupBy::Process;
                let members = self.fitting(sorted(members, state, |row| row.id), |(row, counts), filter| {
                    filter.fits(&processes::Asked { row, snapshot, by, counts })
                });
                let kind = |row, counts| Kind::Within(row, netns, Box::new(counts));
                members.into_iter().map(|(row, counts)| (child(id, row.id), kind(row, counts))).collect()
            }
            Kind::Row(by, row) if *by != GroupBy::Pid && !is_of_processes(row) => {
                let mut members = order::rows(snapshot.members_of(*by, row), state.sort, snapshot);
                if state.reverse {
                    members.reverse();
                }
                let by = by.members();
                let members = self.fitting(members, |row, filter| {
                    filter.fits(&processes::Asked { row, snapshot, by, counts: &row.counts })
                });
                members.into_iter().map(|row| (child(id, row.id), Kind::Row(by, row))).collect()
            }
            Kind::Row(by, row) => self.pairs_of(*by, row, snapshot.counts_by_destination(*by, row), id, state),
            Kind::Within(row, netns, _) => {
                let all = snapshot.counts_by_destination(GroupBy::Process, row).into_iter();
                self.pairs_of(GroupBy::Process, row, all.filter(|(to, _)| is_in(to, *netns)).collect(), id, state)
            }
            Kind::Destination(to) => {
                let by = GroupBy::Process;
                let pairs = sorted(snapshot.counts_by_process(to.id), state, |row| row.id);
                let pairs = self.fitting(pairs, |(row, counts), filter| {
                    filter.fits(&processes::Asked { row, snapshot, by, counts })
                });
                let kind = |row, counts| Kind::ProcessOf(row, to, Box::new(counts));
                pairs.into_iter().map(|(row, counts)| (child(id, row.id), kind(row, counts))).collect()
            }
            Kind::DestinationOf(by, row, to, counts) => self.sockets((*by, row), to, counts, (id, state)),
            Kind::ProcessOf(row, to, counts) => self.sockets((GroupBy::Process, row), to, counts, (id, state)),
            Kind::Socket(_) | Kind::Note(_) => Vec::new(),
        }
    }

    /// The destinations of a row.
    fn pairs_of(
        &self,
        by: GroupBy,
        row: &'a Row,
        pairs: Vec<(&'a DestinationRow, Counts)>,
        id: u64,
        state: &State,
    ) -> Vec<(u64, Kind<'a>)> {
        let snapshot = self.snapshot;
        let pairs = sorted(pairs, state, |row| row.id.into());
        let pairs =
            self.fitting(pairs, |(row, counts), filter| filter.fits(&destinations::Asked { row, snapshot, counts }));
        let kind = |to, counts| Kind::DestinationOf(by, row, to, Box::new(counts));
        pairs.into_iter().map(|(to, counts)| (child(id, to.id), kind(to, counts))).collect()
    }

    /// Those that pass the filter; all where none does: then it is the line above that passes.
    fn fitting<T>(&self, all: Vec<T>, passes: impl Fn(&T, &Filter) -> bool) -> Vec<T> {
        if self.filter.is_empty() {
            return all;
        }
        let fits: Vec<bool> = all.iter().map(|one| passes(one, &self.filter)).collect();
        if !fits.contains(&true) {
            return all;
        }
        all.into_iter().zip(fits).filter(|(_, fits)| *fits).map(|(one, _)| one).collect()
    }

    /// The TIME_WAIT sockets that a row closed to a destination, those that end soonest last.
    fn sockets(
        &mut self,
        (by, row): (GroupBy, &Row),
        to: &DestinationRow,
        counts: &Counts,
        (id, state): (u64, &State),
    ) -> Vec<(u64, Kind<'a>)> {
        self.needs_sockets = true;
        let snapshot = self.snapshot;
        let found = self.pairs.lists.entry(id).or_insert_with(|| of_pair(snapshot, (by, row), to));
        let more = counts.time_wait_live.saturating_sub(found.len() as u64);
        let note = match found.len() {
            _ if snapshot.sockets().is_empty() && state.frozen => {
                Some(("pending", "its sockets are not in the frozen figures: Space continues".to_owned()))
            }
            _ if snapshot.sockets().is_empty() => {
                Some(("pending", "its sockets come with the next figures".to_owned()))
            }
            _ if more > 0 => Some(("more", format!("and {} more: 3 lists all, / filters", text::count(more)))),
            _ => None,
        };
        let sockets = found.iter().map(|socket| (child(id, socket.cookie), Kind::Socket(*socket)));
        sockets.chain(note.map(|(name, note)| (child(id, name), Kind::Note(note)))).collect()
    }
}

/// The sockets that a row closed to a destination, those that end soonest last, at most [`SOCKETS`].
fn of_pair(snapshot: &Snapshot, (by, row): (GroupBy, &Row), to: &DestinationRow) -> Vec<TimeWaitSocket> {
    let closers = closers(snapshot, by, row);
    let is_its = |socket: &TimeWaitSocket| match &closers {
        Some(closers) => socket.closer.is_some_and(|closer| closers.contains(&closer.key)),
        None => socket.closer.is_none(),
    };
    let all = snapshot.sockets().iter();
    let mut found: Vec<TimeWaitSocket> =
        all.filter(|socket| DestRow::Dest(socket.destination()) == to.key && is_its(socket)).collect();
    found.sort_unstable_by_key(|socket| (Reverse(socket.expires_ns), socket.cookie));
    found.truncate(SOCKETS);
    found
}

/// Pairs in order.
fn sorted<'a, T>(mut pairs: Vec<(&'a T, Counts)>, state: &State, id: impl Fn(&T) -> u64) -> Vec<(&'a T, Counts)> {
    pairs.sort_by(|(a, left), (b, right)| state.sort.compare(left, right).then(id(a).cmp(&id(b))));
    if state.reverse {
        pairs.reverse();
    }
    pairs
}

/// Whether a destination is in a network namespace.
fn is_in(to: &DestinationRow, netns: u32) -> bool {
    matches!(to.key, DestRow::Dest(key) if key.netns == netns)
}

/// The figures of a process in a network namespace.
fn in_netns(snapshot: &Snapshot, row: &Row, netns: u32) -> Counts {
    snapshot.counts_in(GroupBy::Process, row, |to| is_in(to, netns))
}

/// Whether a row opens into its destinations, as it is of one process, or of those of which no more is known.
fn is_of_processes(row: &Row) -> bool {
    matches!(row.key, GroupKey::Process(_) | GroupKey::Unknown | GroupKey::Other)
}

/// The processes of a row; `None` for the unknown.
fn closers(snapshot: &Snapshot, by: GroupBy, row: &Row) -> Option<HashSet<ProcessKey>> {
    match &row.key {
        GroupKey::Unknown => None,
        GroupKey::Process(key) => Some(HashSet::from([*key])),
        _ => {
            let members = snapshot.members_of(by, row).filter_map(|row| Some(row.owner?.key));
            Some(members.collect())
        }
    }
}

/// The id of a line below another one.
fn child(parent: u64, own: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    (parent, own).hash(&mut hasher);
    hasher.finish()
}
