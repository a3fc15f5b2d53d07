//! The live TIME_WAIT sockets, one by one.

use crate::tui::filter::{self, Filter, Name, Row as _, Test};
use crate::tui::kept::{Choice, Chosen};
use crate::tui::list::{self, List};
use crate::tui::model::{Entry, SocketSort};
use crate::tui::state::State;
use ratatui::Frame;
use ratatui::layout::Rect;
use std::cmp::Ordering;
use std::net::IpAddr;
use std::time::Duration;
use twtrace_core::counts::Field;
use twtrace_core::snapshot::{OwnerRef, Provenance, Snapshot, Substate, TimeWaitSocket};
use twtrace_view::columns::{Column, Context};
use twtrace_view::{label, text};

/// Maximum number of sockets shown. A user reads no more, and a filter finds the others.
pub const MAX_SHOWN: usize = 1000;

/// Chooses the first [`MAX_SHOWN`] in the current order, unless the last choice is still valid: with hundreds of
/// thousands of sockets this takes longer than a frame, and most keys do not change it.
fn choose(snapshot: &Snapshot, state: &mut State) -> Chosen {
    let (sort, reverse, filter) = (state.socket_sort, state.reverse, state.filter.clone());
    let list = snapshot.sockets();
    let place = (snapshot.summary().window.now_ns, std::ptr::from_ref(list) as usize, list.len());
    let by = Choice { snapshot: place, sort, reverse, filter };
    match state.sockets.take() {
        Some(last) if last.by == by => last,
        _ => of(snapshot, by),
    }
}

/// Never keeps more than twice as many as are shown.
fn of(snapshot: &Snapshot, by: Choice) -> Chosen {
    let compare = |a: &TimeWaitSocket, b: &TimeWaitSocket| {
        let ordering = compare(by.sort, a, b).then(a.cookie.cmp(&b.cookie));
        if by.reverse { ordering.reverse() } else { ordering }
    };
    let mut total = 0;
    let mut sockets: Vec<TimeWaitSocket> = Vec::with_capacity(2 * MAX_SHOWN);
    // Sockets after this one are not shown.
    let mut last: Option<TimeWaitSocket> = None;
    let filter = Filter::of(&by.filter);
    for socket in snapshot.sockets().iter().filter(|socket| filter.fits(&Asked { socket, snapshot })) {
        total += 1;
        if last.as_ref().is_some_and(|last| compare(&socket, last).is_gt()) {
            continue;
        }
        sockets.push(socket);
        if sockets.len() == 2 * MAX_SHOWN {
            last = Some(*sockets.select_nth_unstable_by(MAX_SHOWN - 1, compare).1);
            sockets.truncate(MAX_SHOWN);
        }
    }
    sockets.sort_unstable_by(compare);
    sockets.truncate(MAX_SHOWN);
    Chosen { sockets, total, by }
}

fn compare(sort: SocketSort, a: &TimeWaitSocket, b: &TimeWaitSocket) -> Ordering {
    let owner = |owner: &Option<OwnerRef>| owner.map(|owner| (owner.comm, owner.key));
    match sort {
        SocketSort::Newest => b.created_ns.cmp(&a.created_ns),
        SocketSort::Left => a.expires_ns.cmp(&b.expires_ns),
        SocketSort::Remote => {
            (a.tuple.remote_addr, a.tuple.remote_port).cmp(&(b.tuple.remote_addr, b.tuple.remote_port))
        }
        SocketSort::Local => (a.tuple.local_addr, a.tuple.local_port).cmp(&(b.tuple.local_addr, b.tuple.local_port)),
        SocketSort::Closer => owner(&a.closer).cmp(&owner(&b.closer)),
    }
}

/// A socket, as a filter asks it.
struct Asked<'a> {
    socket: &'a TimeWaitSocket,
    snapshot: &'a Snapshot,
}

impl filter::Row for Asked<'_> {
    fn any(&self, passes: Test<'_>) -> bool {
        passes(&local(self.socket)) || passes(&remote(self.socket)) || self.is(Name::Program, passes)
    }

    fn is(&self, name: Name, passes: Test<'_>) -> bool {
        let Self { socket, snapshot } = *self;
        let has = |text: String| passes(&text);
        let mut owners = [&socket.closer, &socket.opener].into_iter().flatten();
        match name {
            Name::Program => owners.any(|owner| has(label::owning_program(Some(owner), snapshot))),
            Name::Pid => owners.any(|owner| has(owner.key.tgid.to_string())),
            Name::Dest => has(remote(socket)),
            Name::Netns => has(label::namespace(snapshot.summary(), socket.tuple.netns)),
            Name::Cgroup | Name::Container | Name::Image | Name::Pod | Name::Workload => {
                owners.any(|owner| filter::runs_in(name, snapshot.runs_in(snapshot.facts(owner.key)), passes))
            }
            Name::State => passes(substate(socket)),
            Name::User => owners.any(|owner| has(label::user(owner.uid, snapshot))),
            // Not kept of a socket.
            Name::Parent => false,
        }
    }

    fn reaches(&self, passes: &dyn Fn(IpAddr, u16) -> bool) -> bool {
        passes(self.socket.tuple.remote_addr, self.socket.tuple.remote_port)
    }

    fn figure(&self, _: &Field) -> Option<f64> {
        None
    }
}

/// Passes each value of a kind in the first sockets to a function.
pub(super) fn values(snapshot: &Snapshot, name: Name, see: Test<'_>) {
    let first = snapshot.sockets().iter().take(MAX_SHOWN);
    first.for_each(|socket| _ = Asked { socket: &socket, snapshot }.is(name, see));
}

fn local(socket: &TimeWaitSocket) -> String {
    text::address(socket.tuple.local_addr, socket.tuple.local_port)
}

fn remote(socket: &TimeWaitSocket) -> String {
    text::address(socket.tuple.remote_addr, socket.tuple.remote_port)
}

/// A socket at a moment.
struct Seen {
    socket: TimeWaitSocket,
    now_ns: u64,
}

impl Seen {
    /// Seconds until it ends, if known.
    fn left(&self) -> String {
        let left = Duration::from_nanos(self.socket.expires_ns.saturating_sub(self.now_ns));
        format!("{}s", left.as_secs())
    }

    fn age(&self) -> String {
        if self.socket.created_ns == 0 {
            return "-".to_owned();
        }
        text::duration(Duration::from_nanos(self.now_ns.saturating_sub(self.socket.created_ns)))
    }
}

/// A column without an order mark: these orders are not those of the other tables, and the title contains their mark.
fn column(title: &'static str, width: u16, rank: u8, cell: fn(&Context<'_>, &Seen) -> String) -> Column<Seen> {
    Column::left(title, width, rank, cell)
}

fn columns(sort: SocketSort) -> Vec<Column<Seen>> {
    let marked = |of: SocketSort, title: &'static str, with: &'static str| if sort == of { with } else { title };
    let mut columns = vec![
        column(marked(SocketSort::Local, "LOCAL", "LOCAL*"), 21, 1, |_, seen| local(&seen.socket)),
        column(marked(SocketSort::Remote, "REMOTE", "REMOTE*"), 21, 0, |_, seen| remote(&seen.socket)),
        column("STATE", 9, 2, |_, seen| substate(&seen.socket).to_owned()),
        column(marked(SocketSort::Left, "LEFT", "LEFT*"), 5, 1, |_, seen| seen.left()),
        column(marked(SocketSort::Closer, "CLOSED BY", "CLOSED BY*"), 20, 0, |at, seen| {
            label::owning_program(seen.socket.closer.as_ref(), at.snapshot)
        }),
        column("OPENED BY", 20, 3, |at, seen| label::owning_program(seen.socket.opener.as_ref(), at.snapshot)),
        column("ROLE", 7, 4, |_, seen| label::role(seen.socket.role).to_owned()),
        column(marked(SocketSort::Newest, "AGE", "AGE*"), 6, 5, |_, seen| seen.age()),
        column("KNOWN", 12, 6, |_, seen| known(&seen.socket)),
        column("NETNS", 12, 7, |at, seen| label::namespace(at.snapshot.summary(), seen.socket.tuple.netns)),
    ];
    for index in [3, 7] {
        columns[index].right = true;
    }
    for index in [0, 1, 4, 5] {
        columns[index].stretch = true;
    }
    columns
}

fn substate(socket: &TimeWaitSocket) -> &'static str {
    match socket.substate {
        Substate::TimeWait => "TIME_WAIT",
        Substate::FinWait2 => "FIN_WAIT2",
    }
}

/// A socket below those that it belongs to: what they do not say.
pub(super) fn in_a_line(socket: &TimeWaitSocket, snapshot: &Snapshot) -> String {
    let seen = Seen { socket: *socket, now_ns: snapshot.summary().window.now_ns };
    let (local, remote) = (local(socket), remote(socket));
    let opener = label::owning_program(socket.opener.as_ref(), snapshot);
    format!("{local} > {remote}  {} left in {}, opened by {opener}, {}", seen.left(), substate(socket), known(socket))
}

fn known(socket: &TimeWaitSocket) -> String {
    match socket.known {
        _ if socket.before_start => "before start",
        Provenance::Exact => "seen",
        Provenance::Inferred => "~inferred",
        Provenance::Census => "by census",
    }
    .to_owned()
}

/// Draws the list and returns its title.
pub(super) fn draw(
    frame: &mut Frame<'_>,
    area: Rect,
    context: &Context<'_>,
    snapshot: &Snapshot,
    state: &mut State,
) -> String {
    let chosen = choose(snapshot, state);
    let now_ns = snapshot.summary().window.now_ns;
    let entries = chosen.sockets.iter().map(|socket| Entry::flat(socket.cookie)).collect();
    let (shown, total) = (chosen.sockets.len(), chosen.total);
    let rows: Vec<Seen> = chosen.sockets.iter().map(|socket| Seen { socket: *socket, now_ns }).collect();
    state.sockets = Some(chosen);
    let list = List { columns: columns(state.socket_sort), rows: &rows, entries, order: None, styles: Vec::new() };
    list::draw(frame, area, list, context, state);
    let live = snapshot.summary().totals.counts.time_wait_live;
    if total == 0 && live > 0 && state.filter.is_empty() {
        // They are listed only while this tab is shown.
        return format!("{} live, not in the frozen list: Space continues", text::count(live));
    }
    if (shown as u64) < total {
        format!("showing {} of {}", text::count(shown as u64), text::count(total))
    } else {
        format!("{} live", text::count(total))
    }
}
