//! A connection, one transition at a time.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use twtrace_common::{
    ConnFlags, ConnRecord, MAX_TRANSITIONS, Owner, SmallRecord, TW_UNKNOWN, kind, returned_early, role, tcp_state,
};

use crate::{
    config::cfg_value,
    descriptor, emit, handled,
    log::{self, Decision},
    maps::{Program, SOCKETS, TEMPLATE, count},
    owner,
    socket::Socket,
    unfollowed,
};

/// `-E2BIG`: the map is full.
const FULL: i32 = -7;

/// A count taken at FIN_WAIT2 belongs to a CLOSE that follows within this time: both in the one call of
/// `tcp_rcv_state_process` that creates the TIME_WAIT socket.
const SAME_CALL_NS: u64 = 50_000;

/// The other program of the pair runs within this time, unless the task has to wait in between for long.
const MOVED_NS: u64 = 10_000_000;

/// One state change of one socket.
#[derive(Clone, Copy)]
pub struct Change<S> {
    pub sk: S,
    pub old: u8,
    pub new: u8,
    /// The program that handles it.
    pub by: Program,
}

impl<S: Socket> Change<S> {
    /// Not a connection's: a listener coming, going or closing, or no change at all.
    #[inline(always)]
    fn is_foreign(self) -> bool {
        self.old == self.new
            || self.new == tcp_state::LISTEN
            || self.old == tcp_state::LISTEN && self.new != tcp_state::SYN_RECV
            || !self.sk.is_tcp()
    }

    #[inline(always)]
    fn states(self) -> u64 {
        u64::from(self.old) << 8 | u64::from(self.new)
    }

    /// This host sends its FIN: its owner closes, shuts down or exits.
    #[inline(always)]
    pub fn is_own_fin(self) -> bool {
        self.new == tcp_state::FIN_WAIT1 || self.new == tcp_state::LAST_ACK
    }

    /// Its owner ends it without a FIN.
    #[inline(always)]
    pub fn is_abort(self) -> bool {
        self.new == tcp_state::CLOSE
            && (self.old == tcp_state::ESTABLISHED
                || self.old == tcp_state::CLOSE_WAIT
                || self.old == tcp_state::SYN_SENT)
            && self.sk.error() == Some(0)
    }
}

/// The socket's cookie, which it gets now if it has none and this program can give it one. At CLOSE it is too late: a TIME_WAIT
/// socket has a copy of what there was before (`inet_twsk_alloc`), and makes its own otherwise. Then it is 0.
#[inline(always)]
fn cookie_of(change: Change<impl Socket>) -> u64 {
    if change.new == tcp_state::CLOSE { descriptor::cookie(change.sk.address()) } else { change.sk.cookie() }
}

/// The first program of the pair: notes what it is about to handle, then handles it.
#[inline(always)]
pub fn first(change: Change<impl Socket>) {
    if cfg_value!(twin_may_lead) != 0 && is_handled_by_twin(change) {
        count!(change.by, twin_first);
        return;
    }
    handled::note(change.sk.address(), change.states());
    if change.is_foreign() {
        return;
    }
    handle(change);
}

/// Whether the twin came before and has handled this; then does what the twin cannot do, and what it leaves to the last.
#[inline(always)]
fn is_handled_by_twin(change: Change<impl Socket>) -> bool {
    let key = change.sk.address();
    let is_noted = handled::take(key, change.states() | handled::BY_TWIN);
    let record = SOCKETS.get_ptr_mut(key);
    // Between the two, the task may have been moved to another CPU.
    // SAFETY: a value of the socket map.
    if !is_noted && !record.is_some_and(|record| unsafe { has_just_ended_with(record, change) }) {
        return false;
    }
    handled::follow_twin();
    if let Some(record) = record {
        // SAFETY: as above.
        unsafe {
            // What comes from a listener has the listener's at first, see `find_or_begin`.
            if (*record).cookie == 0 && change.old != tcp_state::LISTEN {
                (*record).cookie = cookie_of(change);
            }
        }
    }
    if change.new == tcp_state::CLOSE {
        free(key);
    }
    true
}

/// As [`ended_with`], a moment ago.
///
/// # Safety
/// `record` points to a value of the socket map.
#[inline(always)]
unsafe fn has_just_ended_with<S>(record: *const ConnRecord, change: Change<S>) -> bool {
    // SAFETY: the caller's promise; the helper has no argument; the index is masked.
    unsafe {
        let last = usize::from((*record).transitions).wrapping_sub(1) & (MAX_TRANSITIONS - 1);
        ended_with(record, change) && bpf_ktime_get_ns().wrapping_sub((*record).times_ns[last]) < MOVED_NS
    }
}

/// Follows a connection, or reports it in parts.
#[inline(always)]
fn handle(change: Change<impl Socket>) {
    match find_or_begin(change) {
        // SAFETY: a value of the socket map.
        Some(record) => unsafe { advance(record, change) },
        None => unfollowed::transition(change),
    }
}

/// The twin: does the work that the kernel kept from the first program, because it interrupted itself on this CPU,
/// and frees the slots of ended connections.
#[inline(always)]
pub fn twin(change: Change<impl Socket>) {
    if handled::take(change.sk.address(), change.states()) {
        if change.new == tcp_state::CLOSE {
            free(change.sk.address());
        }
        return;
    }
    if change.is_foreign() {
        // Nothing to do, whether or not the first program ran.
        count!(change.by, recovered);
        note_by_twin(change);
        return;
    }
    if let Some(record) = SOCKETS.get_ptr_mut(change.sk.address()) {
        // SAFETY: a value of the socket map.
        if unsafe { ended_with(record, change) } {
            if change.new == tcp_state::CLOSE {
                free(change.sk.address());
            }
            return;
        }
    }
    count!(change.by, recovered);
    note_by_twin(change);
    match find_or_begin(change) {
        // SAFETY: a value of the socket map.
        Some(record) => unsafe {
            advance(record, change);
            log::decision(record, Decision::Recovered, change.new.into());
        },
        None => unfollowed::transition(change),
    }
    // Where the first program comes last, it frees the slot.
    if change.new == tcp_state::CLOSE && !handled::twin_leads() {
        free(change.sk.address());
    }
}

/// The first program may yet come.
#[inline(always)]
fn note_by_twin(change: Change<impl Socket>) {
    if cfg_value!(twin_may_lead) != 0 {
        handled::note(change.sk.address(), change.states() | handled::BY_TWIN);
    }
}

/// True when the last thing that the record saw is this change: the first program did run, and its note is gone.
///
/// # Safety
/// `record` points to a value of the socket map.
#[inline(always)]
unsafe fn ended_with<S>(record: *const ConnRecord, change: Change<S>) -> bool {
    // SAFETY: the caller's promise; the index is masked.
    unsafe {
        let count = (*record).transitions;
        if count == 0 {
            return false;
        }
        let last = (usize::from(count) - 1) & (MAX_TRANSITIONS - 1);
        (*record).old_states[last] == change.old && (*record).new_states[last] == change.new
    }
}

/// The only program on its hook: there is no twin that could free the slot.
#[inline(always)]
pub fn alone(change: Change<impl Socket>) {
    if change.is_foreign() {
        return;
    }
    handle(change);
    if change.new == tcp_state::CLOSE {
        free(change.sk.address());
    }
}

/// Frees the slot of a connection whose record was written. One that waits for its errno stays.
#[inline(always)]
pub fn free(key: u64) {
    if let Some(record) = SOCKETS.get_ptr(key) {
        // SAFETY: a value of the socket map.
        if unsafe { (*record).flags }.contains(ConnFlags::DONE) {
            let _ = SOCKETS.remove(key);
        }
    }
}

/// The record that this change belongs to: a new one at the two ways in which a connection begins, else the one that is
/// being followed, else a new one for a socket older than the tracer.
#[inline(always)]
fn find_or_begin(change: Change<impl Socket>) -> Option<*mut ConnRecord> {
    let key = change.sk.address();
    let active = change.old == tcp_state::CLOSE && change.new == tcp_state::SYN_SENT;
    let passive = change.old == tcp_state::LISTEN;
    if let Some(record) = SOCKETS.get_ptr_mut(key) {
        // SAFETY: a value of the socket map.
        let flags = unsafe { (*record).flags };
        // SAFETY: as above.
        let followed = !flags.intersects(ConnFlags::DONE.union(ConnFlags::PENDING)) && unsafe { is_of(record, change) };
        if !active && !passive && followed {
            return Some(record);
        }
        if flags.contains(ConnFlags::PENDING) {
            // The exit of connect(2) was not seen: what is known goes out now.
            // SAFETY: a value of the socket map.
            unsafe { finish(record, change.by) };
        } else if !flags.contains(ConnFlags::DONE) {
            // SAFETY: as above.
            unsafe { superseded(record, change.by) };
        }
    }
    // By reference: a record does not fit the stack.
    let template: &ConnRecord = &TEMPLATE;
    match SOCKETS.insert(key, template, 0) {
        Ok(()) => {}
        Err(FULL) => return None,
        // The bucket's lock was not to be had: 5.15 to 6.1 say EBUSY to a program that interrupts another one, kernels
        // from 6.18 on EDEADLK or ETIMEDOUT.
        Err(_) => SOCKETS.insert(key, template, 0).ok()?,
    }
    let record = SOCKETS.get_ptr_mut(key)?;
    count!(change.by, connections_begun);
    // SAFETY: a value of the socket map, just inserted.
    unsafe {
        (*record).sk = key;
        if active {
            (*record).role = role::ACTIVE;
            begin_active(record, change);
        } else if passive {
            // Its cookie comes later: inet_csk_clone_lock() gives the child a new one after this.
            (*record).role = role::PASSIVE;
        } else {
            (*record).flags = ConnFlags::OLDER;
            (*record).cookie = cookie_of(change);
        }
    }
    Some(record)
}

/// False when something was not seen before this change, and another socket has the address by now.
///
/// # Safety
/// `record` points to a value of the socket map.
#[inline(always)]
unsafe fn is_of(record: *const ConnRecord, change: Change<impl Socket>) -> bool {
    // SAFETY: the caller's promise; the index is masked.
    unsafe {
        let last = usize::from((*record).transitions).wrapping_sub(1) & (MAX_TRANSITIONS - 1);
        let gap = (*record).transitions == 0 || (*record).new_states[last] != change.old;
        // Steps that are seen one after the other are one socket's: cookies are compared only where it matters.
        !gap || (*record).cookie == 0 || (*record).cookie == change.sk.cookie()
    }
}

/// The address of a followed socket belongs to another one: its end was not seen. Some vendors' kernels run no
/// tracing program in a softirq that interrupts a process they protect. If this host's FIN was seen, the record
/// says which process sent it, so it is kept.
///
/// # Safety
/// `record` points to a value of the socket map.
#[inline(always)]
unsafe fn superseded(record: *mut ConnRecord, by: Program) {
    // SAFETY: the caller's promise; the index is masked.
    unsafe {
        if (*record).closer.tgid == 0 {
            count!(by, stale);
            return;
        }
        let last = usize::from((*record).transitions).wrapping_sub(1) & (MAX_TRANSITIONS - 1);
        (*record).end_ns = (*record).times_ns[last];
        (*record).flags.insert(ConnFlags::END_UNSEEN);
        log::decision(record, Decision::EndUnseen, (*record).new_states[last].into());
        count!(by, connections_ended);
        finish(record, by);
    }
}

/// `tcp_v4_connect` and `tcp_v6_connect` run in the context of the opener.
///
/// # Safety
/// `record` points to a value of the socket map.
#[inline(always)]
unsafe fn begin_active(record: *mut ConnRecord, change: Change<impl Socket>) {
    let sk = change.sk;
    // SAFETY: the caller's promise.
    unsafe {
        let mut opener = Owner::NONE;
        sk.capture(&raw mut opener);
        (*record).cookie = sk.cookie();
        owner::write_opener(record, opener, sk.address(), (*record).cookie);
        let binding = sk.binding();
        (*record).flags.insert(binding.flags);
        (*record).local_range = binding.range;
        if binding.flags.contains(ConnFlags::BOUND_PORT) {
            bound_connect(record, change);
        }
        if sk.in_connect(&opener) {
            (*record).flags.insert(ConnFlags::IN_CONNECT);
        }
    }
}

/// Reports a connect from a bound port when it begins. No other record says that the port of an open connection is
/// taken for every destination. `tcp_v4_connect` and `tcp_v6_connect` have set all of the tuple before SYN_SENT.
///
/// # Safety
/// `record` points to a value of the socket map.
#[inline(always)]
unsafe fn bound_connect(record: *mut ConnRecord, change: Change<impl Socket>) {
    let Some(mut entry) = emit::reserve_small(change.by) else { return };
    let small: *mut SmallRecord = entry.as_mut_ptr();
    // SAFETY: the caller's promise; a reserved record, all of it written before; no argument.
    unsafe {
        change.sk.fill_tuple(&raw mut (*record).tuple);
        (*small).kind = kind::BOUND_CONNECT;
        (*small).cookie = (*record).cookie;
        (*small).at_ns = bpf_ktime_get_ns();
        (*small).tuple = (*record).tuple;
    }
    emit::submit(entry, change.by);
}

/// connect(2) is under way for it, and its exit will give the errno.
///
/// # Safety
/// `record` points to a value of the socket map.
#[inline(always)]
unsafe fn is_in_connect(record: *const ConnRecord) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        (*record).flags.contains(ConnFlags::IN_CONNECT) && (*record).returned_early != returned_early((*record).sk)
    }
}

/// Adds one change to the record, and finishes the record if it was the last.
///
/// # Safety
/// `record` points to a value of the socket map.
#[inline(always)]
unsafe fn advance(record: *mut ConnRecord, change: Change<impl Socket>) {
    let Change { sk, old, new, .. } = change;
    let now = {
        // SAFETY: no argument.
        unsafe { bpf_ktime_get_ns() }
    };
    count!(change.by, transitions);
    // SAFETY: the caller's promise; indices are masked.
    unsafe {
        let seen = (*record).transitions;
        let mut previous_ns = 0;
        if seen > 0 {
            let last = (usize::from(seen) - 1) & (MAX_TRANSITIONS - 1);
            previous_ns = (*record).times_ns[last];
            if (*record).new_states[last] != old {
                (*record).flags.insert(ConnFlags::GAP);
                if (*record).cookie == 0 {
                    (*record).cookie = cookie_of(change);
                }
            }
        }
        if usize::from(seen) < MAX_TRANSITIONS {
            let next = usize::from(seen) & (MAX_TRANSITIONS - 1);
            (*record).old_states[next] = old;
            (*record).new_states[next] = new;
            (*record).times_ns[next] = now;
            (*record).transitions = seen + 1;
        } else {
            (*record).transitions_dropped = (*record).transitions_dropped.saturating_add(1);
        }

        if new == tcp_state::ESTABLISHED {
            (*record).flags.insert(ConnFlags::ESTABLISHED);
        }
        let aborts = change.is_abort();
        // Again at this host's FIN: the twin may have handled all steps before, and cannot give a cookie.
        if (new == tcp_state::ESTABLISHED || change.is_own_fin()) && (*record).cookie == 0 {
            (*record).cookie = sk.cookie();
        }
        // Never at FIN_WAIT2 or at its end: those run in whatever softirq interrupted.
        if change.is_own_fin() || aborts && !is_in_connect(record) {
            sk.capture(&raw mut (*record).closer);
            sk.fill_tuple(&raw mut (*record).tuple);
            if aborts {
                (*record).flags.insert(ConnFlags::CLOSED_IN_CONTEXT);
            }
        }
        if new == tcp_state::ESTABLISHED {
            // The connect that is under way has won its race: a later end is not its result. A reset before, in SYN_RECV,
            // answered a segment that did not fit (`tcp_rcv_state_process`), and ended nothing.
            (*record).flags = (*record).flags.difference(ConnFlags::IN_CONNECT.union(ConnFlags::RST_SENT));
        }
        if new == tcp_state::FIN_WAIT2 {
            (*record).tw_count_before = sk.tw_count().0;
        }
        log::transition(record, change);
        if new == tcp_state::CLOSE {
            if now.wrapping_sub(previous_ns) > SAME_CALL_NS {
                (*record).tw_count_before = TW_UNKNOWN;
            }
            end(record, change, now);
        }
    }
}

/// CLOSE.
///
/// # Safety
/// `record` points to a value of the socket map.
#[inline(always)]
unsafe fn end(record: *mut ConnRecord, change: Change<impl Socket>, now: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        if (*record).tuple.family == 0 {
            change.sk.fill_tuple(&raw mut (*record).tuple);
        }
        change.sk.fill_end(record);
        let (tw_count, tw_max) = change.sk.tw_count();
        (*record).tw_count = tw_count;
        (*record).tw_max = tw_max;
        (*record).end_ns = now;
        if (*record).cookie == 0 {
            (*record).cookie = cookie_of(change);
        }
        count!(change.by, connections_ended);
        let flags = (*record).flags;
        if change.old == tcp_state::SYN_RECV
            && (*record).role == role::PASSIVE
            && !flags.contains(ConnFlags::ESTABLISHED)
            && (*record).sk_err == 0
            && (*record).opener.tgid == 0
        {
            // A handshake that the listener gave up (tcp_v4_syn_recv_sock): no process gets the connection.
            count!(change.by, handshakes_dropped);
            (*record).flags.insert(ConnFlags::DONE);
            log::decision(record, Decision::HandshakeDropped, 0);
        } else if change.old == tcp_state::SYN_SENT && is_in_connect(record) {
            (*record).flags.insert(ConnFlags::PENDING);
            log::decision(record, Decision::Pending, (*record).sk_err.into());
        } else {
            finish(record, change.by);
        }
    }
}

/// Writes the record.
///
/// # Safety
/// `record` points to a value of the socket map.
#[inline(always)]
pub unsafe fn finish(record: *mut ConnRecord, by: Program) {
    // SAFETY: the caller's promise.
    unsafe {
        emit::connection(record, by);
        (*record).flags = (*record).flags.difference(ConnFlags::PENDING).union(ConnFlags::DONE);
    }
}
