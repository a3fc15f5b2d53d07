//! Connections for which the kernel side had no slot in its socket map: their openers and closers arrive one by one, and
//! are put together here when the connection ends.

use crate::event::{Binding, CensusRow, Connection, Owner, Role, TcpState, Transition, Tuple};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::collections::VecDeque;

/// Openers remembered. When full, the opener of further connections stays unknown.
const OPENERS: usize = 1 << 17;

/// Closers remembered. When full, the closer of further connections stays unknown.
const CLOSERS: usize = 1 << 16;

/// Ends remembered: the kernel side may report one twice.
const ENDS: usize = 64;

/// A repetition comes from the same transition.
const SAME_END_NS: u64 = 1_000_000;

/// A socket that has sent its FIN, and has not been seen to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// Address of the socket, its key in the socket map.
    pub sk: u64,
    /// Its cookie, never 0.
    pub cookie: u64,
    /// Its network namespace.
    pub netns: u32,
    /// Its local and remote port, as far as they are known.
    pub ports: (u16, u16),
    /// Its peer closed first: it waits for the last acknowledgement, and leaves no TIME_WAIT socket.
    pub is_last_ack: bool,
    /// Since when, monotonic nanoseconds.
    pub since_ns: u64,
}

impl Closing {
    /// Whether a census row with its cookie is of this socket, or of the TIME_WAIT socket that it has become. A TIME_WAIT
    /// socket that it left before it connected again has its cookie too.
    pub fn is_in(&self, row: &CensusRow) -> bool {
        let ports = (row.tuple.local_port, row.tuple.remote_port);
        !row.state.is_timewait() || [(0, 0), ports].contains(&self.ports)
    }
}

/// connect(2) returns this soon after the socket is back in CLOSE.
const SAME_CALL_NS: u64 = 10_000_000;

/// An opener or a closer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) is_closing: bool,
    /// Address of the socket: what the parts of one connection have in common.
    pub(crate) sk: u64,
    /// 0 when unknown.
    pub(crate) cookie: u64,
    pub(crate) at_ns: u64,
    /// Of an opener.
    pub(crate) role: Role,
    /// The transition that it was seen at; none at accept(2).
    pub(crate) step: Option<(TcpState, TcpState)>,
    pub(crate) binding: Binding,
    pub(crate) tuple: Tuple,
    pub(crate) owner: Owner,
}

impl Part {
    /// False if another socket has the address by now.
    fn is_of(&self, cookie: u64, tuple: &Tuple) -> bool {
        if self.cookie != 0 && cookie != 0 {
            return self.cookie == cookie;
        }
        // The local port may have been chosen later.
        (self.tuple.netns, self.tuple.remote_addr, self.tuple.remote_port)
            == (tuple.netns, tuple.remote_addr, tuple.remote_port)
            && (self.tuple.local_port == 0 || self.tuple.local_port == tuple.local_port)
    }

    fn transition(&self) -> Option<Transition> {
        self.step.map(|(from, to)| Transition { from, to, at_ns: self.at_ns })
    }
}

/// Parts of connections that have not ended.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    openers: HashMap<u64, Part, FixedState>,
    closers: HashMap<u64, Part, FixedState>,
    /// Socket, cookie and time of the last ends.
    ends: VecDeque<(u64, u64, u64)>,
    /// Connections whose end was not seen: another socket has the address by now.
    superseded: Vec<Connection>,
}

impl Parts {
    pub(crate) fn add(&mut self, part: Part) {
        self.supersede(part.sk, part.cookie, &part.tuple);
        let (parts, limit) = if part.is_closing { (&mut self.closers, CLOSERS) } else { (&mut self.openers, OPENERS) };
        if parts.len() < limit || parts.contains_key(&part.sk) {
            // The FIN comes once; a repetition has the same content.
            parts.insert(part.sk, part);
        }
    }

    /// Adds to an ended connection what came before; false if it was reported already.
    pub(crate) fn complete(&mut self, connection: &mut Connection, sk: u64, is_whole: bool) -> bool {
        if !is_whole {
            if self.is_repeated(connection, sk) {
                return false;
            }
            let before = |last: &Transition| matches!(last.from, TcpState::SynSent | TcpState::SynRecv);
            connection.established |= connection.transitions.last().is_some_and(|last| !before(last));
        }
        if self.openers.is_empty() && self.closers.is_empty() {
            return true;
        }
        self.supersede(sk, connection.cookie, &connection.tuple);
        let closer = self.closers.remove(&sk).filter(|part| part.is_of(connection.cookie, &connection.tuple));
        let opener = self.openers.remove(&sk).filter(|part| part.is_of(connection.cookie, &connection.tuple));
        join(connection, opener, closer);
        true
    }

    /// Whether a socket without a slot has just ended: then a failure of its connect(2) is that end, not another.
    pub(crate) fn has_ended(&self, sk: u64, at_ns: u64) -> bool {
        self.ends.iter().any(|&(other, _, end_ns)| other == sk && at_ns.abs_diff(end_ns) < SAME_CALL_NS)
    }

    /// Whether the same end was reported just before: the kernel side cannot know that of a connection without a slot.
    fn is_repeated(&mut self, connection: &Connection, sk: u64) -> bool {
        let is_same = |&(other, cookie, at_ns): &(u64, u64, u64)| {
            (other, cookie) == (sk, connection.cookie) && connection.end_ns.abs_diff(at_ns) < SAME_END_NS
        };
        if self.ends.iter().any(is_same) {
            return true;
        }
        if self.ends.len() == ENDS {
            self.ends.pop_front();
        }
        self.ends.push_back((sk, connection.cookie, connection.end_ns));
        false
    }

    pub(crate) fn closing(&self, before_ns: u64) -> impl Iterator<Item = Closing> {
        let old = self.closers.values().filter(move |part| part.at_ns < before_ns && part.cookie != 0);
        old.map(|part| Closing {
            sk: part.sk,
            cookie: part.cookie,
            netns: part.tuple.netns,
            ports: (part.tuple.local_port, part.tuple.remote_port),
            is_last_ack: part.step.is_some_and(|(_, to)| to == TcpState::LastAck),
            since_ns: part.at_ns,
        })
    }

    /// A socket has the address now. One that had it before and has sent its FIN has ended, and its closer is known.
    fn supersede(&mut self, sk: u64, cookie: u64, tuple: &Tuple) {
        if self.closers.get(&sk).is_some_and(|closer| !closer.is_of(cookie, tuple)) {
            let unseen = self.take_closer(sk);
            self.superseded.extend(unseen);
        }
    }

    /// Connections whose end was not seen, to be taken out.
    pub(crate) fn superseded(&mut self) -> &mut Vec<Connection> {
        &mut self.superseded
    }

    pub(crate) fn take_unseen(&mut self, sk: u64, cookie: u64) -> Option<Connection> {
        if self.closers.get(&sk)?.cookie != cookie {
            return None;
        }
        self.take_closer(sk)
    }

    /// A connection that has sent its FIN, with an end that was not seen.
    fn take_closer(&mut self, sk: u64) -> Option<Connection> {
        let closer = self.closers.remove(&sk)?;
        let cookie = closer.cookie;
        let mut connection = Connection::bare(closer.tuple, closer.at_ns);
        connection.cookie = cookie;
        connection.end_unseen = true;
        connection.older = true;
        connection.established = true;
        let opener = self.openers.remove(&sk).filter(|part| part.is_of(cookie, &connection.tuple));
        join(&mut connection, opener, Some(closer));
        Some(connection)
    }
}

fn join(connection: &mut Connection, opener: Option<Part>, closer: Option<Part>) {
    if let Some(closer) = closer.filter(|_| connection.closer.is_none()) {
        // An abort is its own last transition.
        if let Some(step) = closer.transition().filter(|step| step.to != TcpState::Close) {
            connection.transitions.insert(0, step);
        }
        connection.closer = Some(closer.owner);
    }
    if let Some(opener) = opener {
        if connection.role == Role::Unknown {
            connection.role = opener.role;
        }
        if connection.opener.is_none() {
            connection.opener = Some(opener.owner);
        }
        if opener.role == Role::Active {
            connection.binding = opener.binding;
            connection.older = false;
            if let Some(step) = opener.transition() {
                connection.transitions.insert(0, step);
            }
        }
    }
    // What lies between was not seen.
    connection.gap |= connection.transitions.windows(2).any(|pair| pair[0].to != pair[1].from);
}
