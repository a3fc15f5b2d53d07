//! The list of live TIME_WAIT sockets. There can be hundreds of thousands, and a screen keeps two or three lists at a
//! time: owners are in a separate table, to which each socket points.

use crate::event::{Comm, ProcessKey, Role, Tuple};
use crate::keys::DestKey;
use crate::state::destination_key;
use crate::summary::{Provenance, Substate};
use crate::table::Map;

/// The short form of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OwnerRef {
    /// Which process.
    pub key: ProcessKey,
    /// Its comm at that time.
    pub comm: Comm,
    /// Its uid.
    pub uid: u32,
}

/// A TIME_WAIT socket that exists now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimeWaitSocket {
    /// Cookie.
    pub cookie: u64,
    /// Addresses and ports.
    pub tuple: Tuple,
    /// Role.
    pub role: Role,
    /// Substate as last known.
    pub substate: Substate,
    /// When the full socket reached CLOSE and the TIME_WAIT socket took over, nanoseconds of the monotonic clock; 0 for
    /// those older than the trace.
    pub created_ns: u64,
    /// When its timer ends it, as far as known, nanoseconds of the monotonic clock.
    pub expires_ns: u64,
    /// Process that opened the connection.
    pub opener: Option<OwnerRef>,
    /// Process that closed it: the creator.
    pub closer: Option<OwnerRef>,
    /// How its existence is known, and its closer: inferred if a kernel thread closed it.
    pub known: Provenance,
    /// Older than the tracer.
    pub before_start: bool,
}

impl TimeWaitSocket {
    /// The destination that it counts for.
    pub fn destination(&self) -> DestKey {
        destination_key(&self.tuple, self.role)
    }
}

/// [`TimeWaitSocket`] with indices into the table of owners.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
struct Packed {
    cookie: u64,
    tuple: Tuple,
    created_ns: u64,
    expires_ns: u64,
    opener: u32,
    closer: u32,
    role: Role,
    substate: Substate,
    known: Provenance,
    before_start: bool,
}

/// A list of sockets, in no particular order.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Sockets {
    rows: Vec<Packed>,
    /// The first entry stands for an unknown owner.
    owners: Vec<Option<OwnerRef>>,
}

impl Default for Sockets {
    fn default() -> Self {
        Self { rows: Vec::new(), owners: vec![None] }
    }
}

impl Sockets {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// All of them, in the order of the list.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = TimeWaitSocket> {
        self.rows.iter().map(|row| self.unpack(row))
    }

    /// The socket at a place in the list.
    pub fn get(&self, place: usize) -> Option<TimeWaitSocket> {
        self.rows.get(place).map(|row| self.unpack(row))
    }

    fn unpack(&self, row: &Packed) -> TimeWaitSocket {
        let Packed { cookie, tuple, created_ns, expires_ns, role, substate, known, before_start, .. } = *row;
        let owner = |place: u32| self.owners[place as usize];
        let (opener, closer) = (owner(row.opener), owner(row.closer));
        TimeWaitSocket { cookie, tuple, role, substate, created_ns, expires_ns, opener, closer, known, before_start }
    }

    /// Whether each socket has an entry in the table of owners, for its opener and its closer.
    pub(super) fn is_sound(&self) -> bool {
        let is_in = |place: u32| (place as usize) < self.owners.len();
        self.rows.iter().all(|row| is_in(row.opener) && is_in(row.closer))
    }

    /// Keeps only those that pass.
    pub(super) fn retain(&mut self, passes: impl Fn(&TimeWaitSocket) -> bool) {
        let mut rows = std::mem::take(&mut self.rows);
        rows.retain(|row| passes(&self.unpack(row)));
        self.rows = rows;
    }
}

/// Builds a list.
pub(super) struct Packer<F> {
    sockets: Sockets,
    /// Where owners are, by their numbers in the state.
    places: Map<u32, u32>,
    owner: F,
}

impl<F: Fn(u32) -> Option<OwnerRef>> Packer<F> {
    /// With room for `sockets` sockets. `owner` returns the owner with a number.
    pub(super) fn new(sockets: usize, owner: F) -> Self {
        let sockets = Sockets { rows: Vec::with_capacity(sockets), ..Sockets::default() };
        Self { sockets, places: Map::default(), owner }
    }

    fn place(&mut self, number: u32) -> u32 {
        let Self { sockets, places, owner } = self;
        *places.entry(number).or_insert_with(|| match owner(number) {
            Some(owner) => {
                sockets.owners.push(Some(owner));
                (sockets.owners.len() - 1) as u32
            }
            None => 0,
        })
    }

    pub(super) fn push(&mut self, at: &crate::state::TimeWait, cookie: u64) {
        let (opener, closer) = (self.place(at.opener), self.place(at.closer));
        self.sockets.rows.push(Packed {
            cookie,
            tuple: at.tuple,
            created_ns: at.created_ns,
            expires_ns: at.expires_ns,
            opener,
            closer,
            role: at.role,
            substate: at.substate,
            known: if at.by_kernel { Provenance::Inferred } else { at.known },
            before_start: at.before_start,
        });
    }

    pub(super) fn finish(self) -> Sockets {
        self.sockets
    }
}
