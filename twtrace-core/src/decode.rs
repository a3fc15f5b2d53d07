//! From the bytes of one ring buffer record to an [`Input`].
//!
//! Fields are taken one by one at the places that [`ConnRecord`] gives them, in this machine's byte order. Whatever
//! the bytes are, the result is an Input or an error.

use crate::input::{
    BindFailed, Binding, Comm, ConnectFailed, Input, Life, Owner, ProcessKey, Role, TcpState, Timewait, TimewaitCause,
    TimewaitEnd, Transition, Tuple, TwCount,
};
use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use twtrace_common::{
    ConnRecord, MAX_TRANSITIONS, OWNER_EXITING, OWNER_KTHREAD, Owner as WireOwner, SmallRecord, cause, conn_flag, kind,
    role, sock_flag, tcp_state,
};

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
    /// [`ConnRecord::family`].
    #[error("unknown address family {0}")]
    Family(u16),
    /// [`ConnRecord::role`].
    #[error("unknown role {0}")]
    Role(u8),
    /// A TCP state.
    #[error("unknown TCP state {0}")]
    State(u8),
    /// More transitions than a record holds.
    #[error("{0} transitions do not fit a record")]
    Transitions(u8),
    /// [`SmallRecord::cause`].
    #[error("unknown cause {0} of a timewait socket's end")]
    Cause(u8),
    /// A failed connect or bind without its caller.
    #[error("a failed call without a caller")]
    NoOpener,
}

/// Decodes one record. Times of events are cut to whole microseconds: the hooks read the clock some hundred
/// nanoseconds apart from what they tell of, and a recording keeps no noise. Longer ones are read as far as they are known.
///
/// # Errors
/// It is too short, or a field has a value that does not exist.
pub fn decode(bytes: &[u8]) -> Result<Input, DecodeError> {
    let whole = match bytes.first() {
        Some(&(kind::TIMEWAIT_END | kind::BOUND_CONNECT)) => size_of::<SmallRecord>(),
        _ => size_of::<ConnRecord>(),
    };
    if bytes.len() < whole {
        return Err(DecodeError::Short(bytes.len()));
    }
    let record = Record(bytes);
    match record.u8(offset_of!(ConnRecord, kind)) {
        kind::LIFE => life(record).map(|life| Input::Life(Box::new(life))),
        kind::CONNECT_FAILED => connect_failed(record).map(|failed| Input::ConnectFailed(Box::new(failed))),
        kind::RESET_SENT => Ok(Input::ResetSent {
            cookie: record.u64(offset_of!(ConnRecord, cookie)),
            tuple: tuple(record, &CONN_PLACES)?,
            life: record.u32(offset_of!(ConnRecord, life)),
            at_ns: record.time_ns(offset_of!(ConnRecord, end_ns)),
        }),
        kind::TIMEWAIT_END => timewait_end(record).map(Input::TimewaitEnd),
        kind::BOUND_CONNECT => Ok(Input::BoundConnect {
            cookie: record.u64(offset_of!(SmallRecord, cookie)),
            tuple: tuple(record, &SMALL_PLACES)?,
            at_ns: record.time_ns(offset_of!(SmallRecord, at_ns)),
        }),
        kind::BIND_FAILED => bind_failed(record).map(|failed| Input::BindFailed(Box::new(failed))),
        other => Err(DecodeError::Kind(other)),
    }
}

fn timewait_end(record: Record<'_>) -> Result<TimewaitEnd, DecodeError> {
    Ok(TimewaitEnd {
        cookie: record.u64(offset_of!(SmallRecord, cookie)),
        tuple: tuple(record, &SMALL_PLACES)?,
        fin_wait2: record.u8(offset_of!(SmallRecord, substate)) == tcp_state::FIN_WAIT2,
        cause: match record.u8(offset_of!(SmallRecord, cause)) {
            cause::EXPIRED => TimewaitCause::Expired,
            cause::REUSED => TimewaitCause::Reused,
            cause::KILLED => TimewaitCause::Killed,
            other => return Err(DecodeError::Cause(other)),
        },
        at_ns: record.time_ns(offset_of!(SmallRecord, at_ns)),
    })
}

fn life(record: Record<'_>) -> Result<Life, DecodeError> {
    let flags = record.u32(offset_of!(ConnRecord, flags));
    let sk_flags = record.u32(offset_of!(ConnRecord, sk_flags));
    let cookie = record.u64(offset_of!(ConnRecord, cookie));
    let transitions = transitions(record)?;
    let has = |flag: u32| flags & flag != 0;
    // Accept's exit looked the socket up without holding it: had the slot changed hands, the cookies differ.
    let foreign = has(conn_flag::ACCEPTED)
        && !has(conn_flag::ACCEPT_SEEN)
        && record.u64(offset_of!(ConnRecord, accept_cookie)) != cookie;
    let life = Life {
        cookie,
        life: record.u32(offset_of!(ConnRecord, life)),
        tuple: tuple(record, &CONN_PLACES)?,
        role: match record.u8(offset_of!(ConnRecord, role)) {
            // Its beginning was not seen, but its acceptance was.
            role::UNKNOWN if has(conn_flag::ACCEPTED) && !foreign => Role::Passive,
            role::UNKNOWN => Role::Unknown,
            role::ACTIVE => Role::Active,
            role::PASSIVE => Role::Passive,
            other => return Err(DecodeError::Role(other)),
        },
        opener: owner(record, offset_of!(ConnRecord, opener)).filter(|_| !foreign),
        closer: owner(record, offset_of!(ConnRecord, closer)),
        sk_err: record.u16(offset_of!(ConnRecord, sk_err)),
        connect_errno: record.u16(offset_of!(ConnRecord, connect_errno)),
        sock_dead: sk_flags & sock_flag::DEAD != 0,
        sock_done: sk_flags & sock_flag::DONE != 0,
        sock_linger: sk_flags & sock_flag::LINGER != 0,
        rst_sent: has(conn_flag::RST_SENT),
        closed_in_context: has(conn_flag::CLOSED_IN_CONTEXT),
        connect_exit: has(conn_flag::CONNECT_EXIT) || has(conn_flag::HASH_CONNECT),
        older: has(conn_flag::OLDER),
        gap: has(conn_flag::GAP)
            || record.u8(offset_of!(ConnRecord, transitions_dropped)) > 0
            || transitions.windows(2).any(|pair| pair[0].to != pair[1].from),
        established: has(conn_flag::ESTABLISHED),
        end_unseen: has(conn_flag::END_UNSEEN),
        no_fields: has(conn_flag::NO_FIELDS),
        binding: binding(record, flags),
        tw: tw_count(record),
        timewait: if has(conn_flag::TW_MADE) {
            let fin_wait2 = record.u8(offset_of!(ConnRecord, tw_substate)) == tcp_state::FIN_WAIT2;
            Some(Timewait::Made { fin_wait2 })
        } else {
            has(conn_flag::TW_REFUSED).then_some(Timewait::Refused)
        },
        bytes_sent: record.u64(offset_of!(ConnRecord, bytes_sent)),
        bytes_received: record.u64(offset_of!(ConnRecord, bytes_received)),
        retransmits: record.u32(offset_of!(ConnRecord, retransmits)),
        end_ns: record.time_ns(offset_of!(ConnRecord, end_ns)),
        transitions,
    };
    Ok(payload_alone(life))
}

/// The kernel counts sequence numbers, of which a SYN and a FIN take one each.
fn payload_alone(mut life: Life) -> Life {
    // A socket that was accepted begins after its SYN.
    let syn = life.role == Role::Active && life.established;
    let is_acknowledged = |step: &Transition| match (step.from, step.to) {
        (_, TcpState::FinWait2) => true,
        // By the last acknowledgement, unless a reset or a timer came first.
        (TcpState::Closing | TcpState::LastAck, TcpState::Close) => life.sk_err == 0 && !life.rst_sent,
        _ => false,
    };
    let fin = life.transitions.iter().any(is_acknowledged);
    life.bytes_sent = life.bytes_sent.saturating_sub(u64::from(syn) + u64::from(fin));
    // SOCK_DONE: the peer's FIN has come. One that its timewait socket receives is not counted.
    life.bytes_received = life.bytes_received.saturating_sub(u64::from(life.sock_done));
    life
}

fn connect_failed(record: Record<'_>) -> Result<ConnectFailed, DecodeError> {
    Ok(ConnectFailed {
        opener: owner(record, offset_of!(ConnRecord, opener)).ok_or(DecodeError::NoOpener)?,
        tuple: tuple(record, &CONN_PLACES)?,
        errno: record.u16(offset_of!(ConnRecord, connect_errno)),
        at_ns: record.time_ns(offset_of!(ConnRecord, end_ns)),
    })
}

fn bind_failed(record: Record<'_>) -> Result<BindFailed, DecodeError> {
    let mut tuple = tuple(record, &CONN_PLACES)?;
    if tuple.v4_mapped {
        // There is no other side, but both are of one family.
        tuple.remote_addr = Ipv4Addr::UNSPECIFIED.into();
    }
    Ok(BindFailed {
        owner: owner(record, offset_of!(ConnRecord, opener)).ok_or(DecodeError::NoOpener)?,
        tuple,
        errno: record.u16(offset_of!(ConnRecord, connect_errno)),
        reuse: record.u32(offset_of!(ConnRecord, flags)) & conn_flag::REUSE_ADDRESS != 0,
        at_ns: record.time_ns(offset_of!(ConnRecord, end_ns)),
    })
}

fn binding(record: Record<'_>, flags: u32) -> Binding {
    let range = record.u32(offset_of!(ConnRecord, local_range));
    Binding {
        port: flags & conn_flag::BOUND_PORT != 0,
        address: flags & conn_flag::BOUND_ADDRESS != 0,
        range: (range != 0).then_some(((range & 0xffff) as u16, (range >> 16) as u16)),
    }
}

fn transitions(record: Record<'_>) -> Result<Vec<Transition>, DecodeError> {
    let count = record.u8(offset_of!(ConnRecord, transitions));
    if usize::from(count) > MAX_TRANSITIONS {
        return Err(DecodeError::Transitions(count));
    }
    (0..usize::from(count))
        .map(|index| {
            Ok(Transition {
                from: state(record.u8(offset_of!(ConnRecord, old_states) + index))?,
                to: state(record.u8(offset_of!(ConnRecord, new_states) + index))?,
                at_ns: record.time_ns(offset_of!(ConnRecord, times_ns) + index * size_of::<u64>()),
            })
        })
        .collect()
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

/// Where a record keeps its tuple.
struct Places {
    family: usize,
    netns: usize,
    local: (usize, usize),
    remote: (usize, usize),
}

/// The places in a wire type whose fields have the usual names.
macro_rules! places {
    ($record:ty) => {
        Places {
            family: offset_of!($record, family),
            netns: offset_of!($record, netns),
            local: (offset_of!($record, local_addr), offset_of!($record, local_port)),
            remote: (offset_of!($record, remote_addr), offset_of!($record, remote_port)),
        }
    };
}

const CONN_PLACES: Places = places!(ConnRecord);
const SMALL_PLACES: Places = places!(SmallRecord);

fn tuple(record: Record<'_>, places: &Places) -> Result<Tuple, DecodeError> {
    let family = record.u16(places.family);
    let address = |offset: usize| -> Result<(IpAddr, bool), DecodeError> {
        let bytes: [u8; 16] = record.bytes(offset);
        match family {
            AF_INET => Ok((Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into(), false)),
            AF_INET6 => {
                let v6 = Ipv6Addr::from(bytes);
                Ok(v6.to_ipv4_mapped().map_or((v6.into(), false), |v4| (v4.into(), true)))
            }
            other => Err(DecodeError::Family(other)),
        }
    };
    let (local_addr, local_mapped) = address(places.local.0)?;
    let (remote_addr, remote_mapped) = address(places.remote.0)?;
    Ok(Tuple {
        netns: record.u32(places.netns),
        local_addr,
        local_port: record.u16(places.local.1),
        remote_addr,
        remote_port: record.u16(places.remote.1),
        v4_mapped: local_mapped || remote_mapped,
    })
}

fn tw_count(record: Record<'_>) -> Option<TwCount> {
    // TW_UNKNOWN is negative.
    let count = |offset: usize| u32::try_from(record.u32(offset).cast_signed()).ok();
    Some(TwCount {
        before: count(offset_of!(ConnRecord, tw_count_before)),
        after: count(offset_of!(ConnRecord, tw_count))?,
        max: count(offset_of!(ConnRecord, tw_max))?,
    })
}

fn owner(record: Record<'_>, at: usize) -> Option<Owner> {
    let tgid = record.u32(at + offset_of!(WireOwner, tgid));
    let flags = record.u32(at + offset_of!(WireOwner, flags));
    (tgid != 0).then(|| Owner {
        key: ProcessKey { tgid, start_ns: record.u64(at + offset_of!(WireOwner, start_ns)) },
        uid: record.u32(at + offset_of!(WireOwner, uid)),
        ppid: record.u32(at + offset_of!(WireOwner, ppid)),
        cgroup: record.u64(at + offset_of!(WireOwner, cgroup)),
        comm: Comm(record.bytes(at + offset_of!(WireOwner, comm))),
        parent_comm: Comm(record.bytes(at + offset_of!(WireOwner, parent_comm))),
        kthread: flags & OWNER_KTHREAD != 0,
        exiting: flags & OWNER_EXITING != 0,
    })
}

/// At least as many bytes as a [`ConnRecord`] has.
#[derive(Clone, Copy)]
struct Record<'a>(&'a [u8]);

impl Record<'_> {
    /// The bytes at `offset`; zeros where a record has none, which no caller asks for.
    fn bytes<const N: usize>(self, offset: usize) -> [u8; N] {
        self.0.get(offset..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }

    fn u8(self, offset: usize) -> u8 {
        u8::from_ne_bytes(self.bytes(offset))
    }

    fn u16(self, offset: usize) -> u16 {
        u16::from_ne_bytes(self.bytes(offset))
    }

    fn u32(self, offset: usize) -> u32 {
        u32::from_ne_bytes(self.bytes(offset))
    }

    fn u64(self, offset: usize) -> u64 {
        u64::from_ne_bytes(self.bytes(offset))
    }

    /// A time of an event, in whole microseconds.
    fn time_ns(self, offset: usize) -> u64 {
        self.u64(offset) / 1000 * 1000
    }
}
