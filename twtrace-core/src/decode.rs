//! Decodes one ring buffer record into an [`Event`].
//!
//! The bytes are copied into the wire type, for which any bytes are valid and no alignment is required. Whatever they
//! are, the result is an event or an error.

use crate::event::{
    BindFailed, Binding, Comm, ConnectFailed, Connection, Event, Owner, ProcessKey, Role, TcpState, Timewait,
    TimewaitCause, TimewaitEnd, Transition, Tuple, TwCount,
};
use crate::netns::NetnsIds;
pub use crate::parts::Closing;
use crate::parts::{Part, Parts};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use twtrace_common::{
    ConnFlags, ConnRecord, Owner as WireOwner, OwnerFlags, PartRecord, SmallRecord, SockFlags, Tuple as WireTuple,
    cause, kind, role, tcp_state,
};
use zerocopy::FromBytes as _;

/// `AF_INET`, as `skc_family` has it on Linux.
const AF_INET: u16 = 2;
/// `AF_INET6`.
const AF_INET6: u16 = 10;

/// A record that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Shorter than a record.
    #[error("a record of {0} bytes is too short")]
    Short(usize),
    /// [`ConnRecord::kind`].
    #[error("unknown kind of record {0}")]
    Kind(u8),
    /// [`twtrace_common::Tuple::family`].
    #[error("unknown address family {0}")]
    Family(u16),
    /// [`ConnRecord::role`].
    #[error("unknown role {0}")]
    Role(u8),
    /// A TCP state.
    #[error("unknown TCP state {0}")]
    State(u8),
    /// More transitions than fit in a record.
    #[error("{0} transitions do not fit a record")]
    Transitions(u8),
    /// [`SmallRecord::cause`].
    #[error("unknown cause {0} of a TIME_WAIT socket's end")]
    Cause(u8),
    /// A failed connect or bind without its caller, or a part of a connection without its process.
    #[error("a call without a caller")]
    NoOpener,
    /// A part of a connection, which is no event by itself; the number is its socket.
    #[error("a part of connection {0:x}")]
    Part(u64),
}

/// Decodes records as they come from the ring buffer, and puts those together that are parts of one connection.
#[derive(Debug, Default)]
pub struct Decoder {
    parts: Parts,
    netns: NetnsIds,
}

impl Decoder {
    /// Decodes one record as [`decode`] does, with the ids of network namespaces. `None`: it is a part of a connection that
    /// has not ended yet, or a repetition.
    ///
    /// # Errors
    /// As [`decode`].
    pub fn decode(&mut self, bytes: &[u8]) -> Result<Option<Event>, DecodeError> {
        match record(bytes, &mut |inode, cookie| self.netns.of_record(inode, cookie))? {
            Record::Connection { mut connection, sk, is_whole } => {
                if !self.parts.complete(&mut connection, sk, is_whole) {
                    return Ok(None);
                }
                payload_alone(&mut connection);
                Ok(Some(Event::Connection(connection)))
            }
            Record::Part(part) => {
                self.parts.add(*part);
                Ok(None)
            }
            Record::Failed(failed, sk) => {
                let is_known = self.parts.has_ended(sk, failed.at_ns);
                Ok((!is_known).then_some(Event::ConnectFailed(failed)))
            }
            Record::Other(event) => Ok(Some(event)),
        }
    }

    /// Ids of network namespaces. Their news belong before the event that was decoded last.
    pub fn netns(&mut self) -> &mut NetnsIds {
        &mut self.netns
    }

    /// Connections without a slot in the socket map whose end was not seen: the record that was decoded last is of another
    /// socket at the same address. They end before it.
    pub fn superseded(&mut self) -> impl Iterator<Item = Event> + '_ {
        self.parts.superseded().drain(..).map(|connection| Event::Connection(Box::new(connection)))
    }

    /// Connections without a slot in the socket map that sent their FIN before `before_ns` and have not been seen to end
    /// since.
    pub fn closing(&self, before_ns: u64) -> impl Iterator<Item = Closing> {
        self.parts.closing(before_ns)
    }

    /// What is known of one of them, as a connection with an end that was not seen.
    pub fn take_unseen(&mut self, sk: u64, cookie: u64) -> Option<Connection> {
        self.parts.take_unseen(sk, cookie)
    }
}

fn part(record: &PartRecord, ids: &mut Ids<'_>) -> Result<Part, DecodeError> {
    let owner = owner(&record.owner).ok_or(DecodeError::NoOpener)?;
    Ok(Part {
        is_closing: record.kind == kind::CLOSING,
        sk: record.sk,
        cookie: record.cookie,
        at_ns: whole_microseconds(record.at_ns),
        role: role_of(record.role)?,
        step: match (record.old_state, record.new_state) {
            (0, 0) => None,
            (old, new) => Some((state(old)?, state(new)?)),
        },
        binding: binding(record.flags, record.local_range),
        tuple: tuple(&record.tuple, ids)?,
        owner,
    })
}

/// The id of a network namespace, by its inode number and its cookie.
type Ids<'a> = dyn FnMut(u32, u64) -> u32 + 'a;

/// Decodes one record. Network namespaces have their inode numbers as ids. Timestamps are truncated to whole
/// microseconds: the hooks read the clock some hundred nanoseconds away from the event that they report, and a recording
/// stores no noise. Of a longer record, the known part is read.
///
/// # Errors
/// It is too short, or a field has an unknown value.
pub fn decode(bytes: &[u8]) -> Result<Event, DecodeError> {
    match record(bytes, &mut |inode, _| inode)? {
        Record::Connection { mut connection, .. } => {
            payload_alone(&mut connection);
            Ok(Event::Connection(connection))
        }
        Record::Part(part) => Err(DecodeError::Part(part.sk)),
        Record::Failed(failed, _) => Ok(Event::ConnectFailed(failed)),
        Record::Other(event) => Ok(event),
    }
}

/// One record.
enum Record {
    Connection {
        connection: Box<Connection>,
        /// Address of its socket.
        sk: u64,
        /// It was followed: nothing came before.
        is_whole: bool,
    },
    Part(Box<Part>),
    /// With the address of its socket.
    Failed(Box<ConnectFailed>, u64),
    Other(Event),
}

fn record(bytes: &[u8], ids: &mut Ids<'_>) -> Result<Record, DecodeError> {
    let short = DecodeError::Short(bytes.len());
    match bytes.first() {
        Some(&(kind::TIMEWAIT_END | kind::BOUND_CONNECT)) => {
            let (record, _) = SmallRecord::read_from_prefix(bytes).map_err(|_| short)?;
            return small(&record, ids).map(Record::Other);
        }
        Some(&(kind::OPENED | kind::CLOSING)) => {
            let (record, _) = PartRecord::read_from_prefix(bytes).map_err(|_| short)?;
            return part(&record, ids).map(Box::new).map(Record::Part);
        }
        _ => {}
    }
    let (record, _) = &ConnRecord::read_from_prefix(bytes).map_err(|_| short)?;
    Ok(Record::Other(match record.kind {
        kind::CONNECTION => {
            let connection = Box::new(connection(record, ids)?);
            let is_whole = !record.flags.contains(ConnFlags::UNFOLLOWED);
            return Ok(Record::Connection { connection, sk: record.sk, is_whole });
        }
        kind::CONNECT_FAILED => return Ok(Record::Failed(Box::new(connect_failed(record, ids)?), record.sk)),
        kind::RESET_SENT => Event::ResetSent {
            cookie: record.cookie,
            tuple: tuple(&record.tuple, ids)?,
            at_ns: whole_microseconds(record.end_ns),
        },
        kind::BIND_FAILED => Event::BindFailed(Box::new(bind_failed(record, ids)?)),
        other => return Err(DecodeError::Kind(other)),
    }))
}

fn small(record: &SmallRecord, ids: &mut Ids<'_>) -> Result<Event, DecodeError> {
    let (cookie, at_ns) = (record.cookie, whole_microseconds(record.at_ns));
    let tuple = tuple(&record.tuple, ids)?;
    if record.kind == kind::BOUND_CONNECT {
        return Ok(Event::BoundConnect { cookie, tuple, at_ns });
    }
    Ok(Event::TimewaitEnd(TimewaitEnd {
        cookie,
        tuple,
        fin_wait2: record.substate == tcp_state::FIN_WAIT2,
        cause: match record.cause {
            cause::EXPIRED => TimewaitCause::Expired,
            cause::REUSED => TimewaitCause::Reused,
            cause::ENDED_EARLY => TimewaitCause::EndedEarly,
            other => return Err(DecodeError::Cause(other)),
        },
        at_ns,
    }))
}

/// Whether the opener was written for this connection, by one program alone ([`ConnRecord::opener_seal`]). The cookie may
/// have come after it.
fn is_sealed(record: &ConnRecord) -> bool {
    let ConnRecord { opener, opener_seal, sk, cookie, .. } = record;
    [*cookie, 0].iter().any(|cookie| opener.seal(*sk, *cookie) == *opener_seal)
}

fn connection(record: &ConnRecord, ids: &mut Ids<'_>) -> Result<Connection, DecodeError> {
    let (cookie, sk_flags) = (record.cookie, record.sk_flags);
    let transitions = transitions(record)?;
    let has = |flag: ConnFlags| record.flags.contains(flag);
    let opener = owner(&record.opener).filter(|_| is_sealed(record));
    Ok(Connection {
        cookie,
        tuple: tuple(&record.tuple, ids)?,
        role: match role_of(record.role)? {
            // Its start was not seen, but accept was.
            Role::Unknown if opener.is_some() => Role::Passive,
            role => role,
        },
        opener,
        closer: owner(&record.closer),
        sk_err: record.sk_err,
        connect_errno: record.connect_errno,
        sock_dead: sk_flags.contains(SockFlags::DEAD),
        sock_done: sk_flags.contains(SockFlags::DONE),
        sock_linger: sk_flags.contains(SockFlags::LINGER),
        rst_sent: has(ConnFlags::RST_SENT),
        closed_in_context: has(ConnFlags::CLOSED_IN_CONTEXT),
        connect_exit: has(ConnFlags::CONNECT_EXIT) || has(ConnFlags::HASH_CONNECT),
        older: has(ConnFlags::OLDER),
        gap: has(ConnFlags::GAP)
            || record.transitions_dropped > 0
            || transitions.windows(2).any(|pair| pair[0].to != pair[1].from),
        // The kernel may have hidden the handshake's last step, and not what came after it.
        established: has(ConnFlags::ESTABLISHED)
            || !has(ConnFlags::OLDER) && transitions.iter().any(|step| step.from == TcpState::Established),
        end_unseen: has(ConnFlags::END_UNSEEN),
        no_fields: has(ConnFlags::NO_FIELDS),
        binding: binding(record.flags, record.local_range),
        peer_timestamps: match (has(ConnFlags::PEER_TIMESTAMPS), has(ConnFlags::NO_PEER_TIMESTAMPS)) {
            (true, false) => Some(true),
            (false, true) => Some(false),
            _ => None,
        },
        tw: tw_count(record),
        timewait: if has(ConnFlags::TW_CREATED) {
            Some(Timewait::Created { fin_wait2: record.tw_substate == tcp_state::FIN_WAIT2 })
        } else {
            has(ConnFlags::TW_OVERFLOWED).then_some(Timewait::Overflowed)
        },
        bytes_sent: record.bytes_sent,
        bytes_received: record.bytes_received,
        retransmits: record.retransmits,
        request_segments: Some(record.request_segments).filter(|segments| *segments > 0),
        end_ns: whole_microseconds(record.end_ns),
        transitions,
    })
}

/// The kernel counts sequence numbers, and SYN and FIN take one each.
fn payload_alone(connection: &mut Connection) {
    // An accepted socket starts to count after its SYN.
    let syn = connection.role == Role::Active && connection.established;
    let is_acknowledged = |step: &Transition| match (step.from, step.to) {
        (_, TcpState::FinWait2) | (TcpState::FinWait2, _) => true,
        // By the last ACK, unless a reset or a timer came first.
        (TcpState::Closing | TcpState::LastAck, TcpState::Close) => connection.sk_err == 0 && !connection.rst_sent,
        _ => false,
    };
    let fin = connection.transitions.iter().any(is_acknowledged);
    connection.bytes_sent = connection.bytes_sent.saturating_sub(u64::from(syn) + u64::from(fin));
    // SOCK_DONE: the peer's FIN was received. A FIN that the TIME_WAIT socket receives is not counted.
    connection.bytes_received = connection.bytes_received.saturating_sub(u64::from(connection.sock_done));
}

fn connect_failed(record: &ConnRecord, ids: &mut Ids<'_>) -> Result<ConnectFailed, DecodeError> {
    Ok(ConnectFailed {
        opener: owner(&record.opener).ok_or(DecodeError::NoOpener)?,
        tuple: tuple(&record.tuple, ids)?,
        errno: record.connect_errno,
        at_ns: whole_microseconds(record.end_ns),
    })
}

fn bind_failed(record: &ConnRecord, ids: &mut Ids<'_>) -> Result<BindFailed, DecodeError> {
    let mut tuple = tuple(&record.tuple, ids)?;
    if tuple.v4_mapped {
        // There is no remote side, but both sides have the same family.
        tuple.remote_addr = Ipv4Addr::UNSPECIFIED.into();
    }
    Ok(BindFailed {
        owner: owner(&record.opener).ok_or(DecodeError::NoOpener)?,
        tuple,
        errno: record.connect_errno,
        reuse: record.flags.contains(ConnFlags::REUSE_ADDRESS),
        at_ns: whole_microseconds(record.end_ns),
    })
}

fn binding(flags: ConnFlags, range: u32) -> Binding {
    Binding {
        port: flags.contains(ConnFlags::BOUND_PORT),
        address: flags.contains(ConnFlags::BOUND_ADDRESS),
        range: (range != 0).then_some(((range & 0xffff) as u16, (range >> 16) as u16)),
    }
}

fn transitions(record: &ConnRecord) -> Result<Vec<Transition>, DecodeError> {
    let count = usize::from(record.transitions);
    let too_many = DecodeError::Transitions(record.transitions);
    let old_states = record.old_states.get(..count).ok_or(too_many)?;
    let steps = old_states.iter().zip(&record.new_states).zip(&record.times_ns);
    // In one piece: collecting results would not know how many there are.
    let mut transitions = Vec::with_capacity(count);
    for ((&from, &to), &at_ns) in steps {
        transitions.push(Transition { from: state(from)?, to: state(to)?, at_ns: whole_microseconds(at_ns) });
    }
    Ok(transitions)
}

fn role_of(number: u8) -> Result<Role, DecodeError> {
    Ok(match number {
        role::UNKNOWN => Role::Unknown,
        role::ACTIVE => Role::Active,
        role::PASSIVE => Role::Passive,
        other => return Err(DecodeError::Role(other)),
    })
}

fn state(number: u8) -> Result<TcpState, DecodeError> {
    Ok(match number {
        1 => TcpState::Established,
        2 => TcpState::SynSent,
        3 => TcpState::SynRecv,
        4 => TcpState::FinWait1,
        5 => TcpState::FinWait2,
        6 => TcpState::TimeWait,
        7 => TcpState::Close,
        8 => TcpState::CloseWait,
        9 => TcpState::LastAck,
        10 => TcpState::Listen,
        11 => TcpState::Closing,
        12 => TcpState::NewSynRecv,
        other => return Err(DecodeError::State(other)),
    })
}

fn tuple(tuple: &WireTuple, ids: &mut Ids<'_>) -> Result<Tuple, DecodeError> {
    let address = |bytes: [u8; 16]| -> Result<(IpAddr, bool), DecodeError> {
        match tuple.family {
            AF_INET => Ok((Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into(), false)),
            AF_INET6 => {
                let v6 = Ipv6Addr::from(bytes);
                Ok(v6.to_ipv4_mapped().map_or((v6.into(), false), |v4| (v4.into(), true)))
            }
            other => Err(DecodeError::Family(other)),
        }
    };
    let (local_addr, local_mapped) = address(tuple.local_addr)?;
    let (remote_addr, remote_mapped) = address(tuple.remote_addr)?;
    Ok(Tuple {
        netns: ids(tuple.netns, tuple.netns_cookie()),
        local_addr,
        local_port: tuple.local_port,
        remote_addr,
        remote_port: tuple.remote_port,
        v4_mapped: local_mapped || remote_mapped,
    })
}

fn tw_count(record: &ConnRecord) -> Option<TwCount> {
    // TW_UNKNOWN is negative.
    let known = |count: i32| u32::try_from(count).ok();
    Some(TwCount { before: known(record.tw_count_before), after: known(record.tw_count)?, max: known(record.tw_max)? })
}

fn owner(owner: &WireOwner) -> Option<Owner> {
    (owner.tgid != 0).then(|| Owner {
        key: ProcessKey { tgid: owner.tgid, start_ns: owner.start_ns },
        uid: owner.uid,
        ppid: owner.ppid,
        cgroup: owner.cgroup,
        comm: Comm(owner.comm),
        parent_comm: Comm(owner.parent_comm),
        kthread: owner.flags.contains(OwnerFlags::KTHREAD),
        exiting: owner.flags.contains(OwnerFlags::EXITING),
    })
}

/// A timestamp, truncated to whole microseconds.
fn whole_microseconds(time_ns: u64) -> u64 {
    time_ns / 1000 * 1000
}
