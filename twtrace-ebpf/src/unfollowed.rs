//! A connection for which the socket map has no room. Who opened and who closed it goes out at once, each in a record of
//! its own, and the rest at its end: user space puts them together.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use twtrace_common::{ConnFlags, PartRecord, kind, role, tcp_state};

use crate::{
    connection::Change,
    descriptor::{self, cookie, fill_whole},
    emit, log,
    maps::{Program, count},
    owner,
    socket::Socket,
};

/// One of its transitions.
#[inline(always)]
pub fn transition(change: Change<impl Socket>) {
    log::without_slot(change);
    count!(change.by, transitions);
    if change.old == tcp_state::CLOSE && change.new == tcp_state::SYN_SENT {
        opened(change);
    } else if change.is_own_fin() || change.is_abort() && change.old != tcp_state::SYN_SENT {
        // Of an abort in SYN_SENT it is not known here whether a connect failed or its owner closed.
        closing(change);
    } else if change.new == tcp_state::ESTABLISHED {
        // Gives the socket its cookie: the exit of accept can only read it.
        let _ = change.sk.cookie();
    }
    if change.new == tcp_state::CLOSE {
        end(change);
    }
}

/// `tcp_v4_connect` and `tcp_v6_connect`, in the context of the opener.
#[inline(always)]
fn opened(change: Change<impl Socket>) {
    let binding = change.sk.binding();
    let Some(mut entry) = emit::reserve_part(change.by) else { return };
    let part: *mut PartRecord = entry.as_mut_ptr();
    // SAFETY: a reserved record, all of it written before.
    unsafe {
        (*part).role = role::ACTIVE;
        (*part).flags = binding.flags;
        (*part).local_range = binding.range;
        fill(part, change);
    }
    emit::submit(entry, change.by);
}

/// In the context of the process that closes.
#[inline(always)]
fn closing(change: Change<impl Socket>) {
    let Some(mut entry) = emit::reserve_part(change.by) else { return };
    let part: *mut PartRecord = entry.as_mut_ptr();
    // SAFETY: a reserved record, all of it written before.
    unsafe {
        (*part).kind = kind::CLOSING;
        fill(part, change);
    }
    emit::submit(entry, change.by);
}

/// What each part has.
///
/// # Safety
/// `part` points to a reserved record.
#[inline(always)]
unsafe fn fill(part: *mut PartRecord, change: Change<impl Socket>) {
    // SAFETY: the caller's promise; the helper has no argument.
    unsafe {
        (*part).old_state = change.old;
        (*part).new_state = change.new;
        (*part).sk = change.sk.address();
        (*part).cookie = change.sk.cookie();
        (*part).at_ns = bpf_ktime_get_ns();
        change.sk.fill_tuple(&raw mut (*part).tuple);
        change.sk.capture(&raw mut (*part).owner);
    }
}

/// accept(2) returned a socket that has no slot: it had no room, or is older than the tracer.
#[inline(always)]
pub fn accepted(sk: u64, by: Program) {
    count!(by, exit_unresolved);
    if !descriptor::is_tcp(sk) || descriptor::remote_port(sk) == 0 {
        return;
    }
    let Some(mut entry) = emit::reserve_part(by) else { return };
    let part: *mut PartRecord = entry.as_mut_ptr();
    // SAFETY: a reserved record, all of it written before; the helper has no argument.
    unsafe {
        (*part).role = role::PASSIVE;
        (*part).sk = sk;
        (*part).cookie = cookie(sk);
        (*part).at_ns = bpf_ktime_get_ns();
        fill_whole(&raw mut (*part).tuple, sk);
        owner::capture(&raw mut (*part).owner);
    }
    emit::submit(entry, by);
}

/// CLOSE.
#[inline(always)]
fn end(change: Change<impl Socket>) {
    let Change { sk, old, new, by } = change;
    count!(by, connections_ended);
    count!(by, map_full);
    if old == tcp_state::SYN_RECV && sk.error() == Some(0) {
        // A handshake that the listener gave up (tcp_v4_syn_recv_sock): no process gets the connection.
        count!(by, handshakes_dropped);
        return;
    }
    let Some(mut entry) = emit::reserve(by) else { return };
    let record = entry.as_mut_ptr();
    // SAFETY: a reserved record, filled from the template; the helper has no argument.
    unsafe {
        let now = bpf_ktime_get_ns();
        (*record).flags = ConnFlags::UNFOLLOWED.union(ConnFlags::OLDER).union(ConnFlags::GAP);
        if change.is_abort() && old != tcp_state::SYN_SENT {
            (*record).flags.insert(ConnFlags::CLOSED_IN_CONTEXT);
        }
        (*record).sk = sk.address();
        (*record).cookie = sk.cookie();
        (*record).transitions = 1;
        (*record).old_states[0] = old;
        (*record).new_states[0] = new;
        (*record).times_ns[0] = now;
        (*record).end_ns = now;
        sk.fill_tuple(&raw mut (*record).tuple);
        sk.fill_end(record);
        let (tw_count, tw_max) = sk.tw_count();
        (*record).tw_count = tw_count;
        (*record).tw_max = tw_max;
    }
    emit::submit(entry, by);
}
