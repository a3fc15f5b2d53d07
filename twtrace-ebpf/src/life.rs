//! A socket's life, one transition at a time.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use twtrace_common::{ConnRecord, MAX_TRANSITIONS, Owner, SmallRecord, TW_UNKNOWN, conn_flag, kind, role, tcp_state};

use crate::{
    config::{cfg_value, off},
    emit,
    maps::{HANDLED, Program, SOCKETS, TEMPLATE, count},
    owner, sock,
    sock::{Sk, load},
};

/// The socket of a state change, as far as a hook lets it be seen.
pub trait Socket: Copy {
    /// Address of its `struct sock`.
    fn address(self) -> u64;
    /// True for TCP over IPv4 or IPv6.
    fn is_tcp(self) -> bool;
    /// Cookie, or 0.
    fn cookie(self) -> u64;
    /// `sk_err`; `None` where it cannot be read.
    fn error(self) -> Option<i32>;
    /// Timewait sockets in its namespace and their limit.
    fn tw_count(self) -> (i32, i32);
    /// How bind(2) and IP_LOCAL_PORT_RANGE have chosen its local side, as far as that can be read.
    fn binding(self) -> Binding;
    /// Whether the current thread is in a connect(2) for it, the exit of which is hooked.
    fn in_connect(self, opener: &Owner) -> bool;
    /// Who is running.
    ///
    /// # Safety
    /// `owner` points into a map value.
    unsafe fn capture(self, owner: *mut Owner);
    /// Who talks to whom.
    ///
    /// # Safety
    /// `record` points to a whole value of the socket map.
    unsafe fn fill_tuple(self, record: *mut ConnRecord);
    /// What is read once, at the end of a life.
    ///
    /// # Safety
    /// `record` points to a whole value of the socket map.
    unsafe fn fill_end(self, record: *mut ConnRecord);
}

/// How the local side of a socket was chosen before it connects.
#[derive(Clone, Copy)]
pub struct Binding {
    /// [`conn_flag::BOUND_PORT`] and [`conn_flag::BOUND_ADDRESS`].
    pub flags: u32,
    /// As [`ConnRecord::local_range`].
    pub range: u32,
}

impl Binding {
    /// Nothing is known.
    pub const NONE: Self = Self { flags: 0, range: 0 };
}

/// With the kernel's types.
impl Socket for Sk {
    #[inline(always)]
    fn address(self) -> u64 {
        self as u64
    }
    #[inline(always)]
    fn is_tcp(self) -> bool {
        sock::is_tcp(self)
    }
    #[inline(always)]
    fn cookie(self) -> u64 {
        sock::cookie(self)
    }
    #[inline(always)]
    fn error(self) -> Option<i32> {
        // SAFETY: offset of struct sock.
        Some(unsafe { load(self, off!(sk_err)) })
    }
    #[inline(always)]
    fn tw_count(self) -> (i32, i32) {
        sock::tw_count(self)
    }
    #[inline(always)]
    fn binding(self) -> Binding {
        sock::binding(self)
    }
    #[inline(always)]
    fn in_connect(self, opener: &Owner) -> bool {
        if cfg_value!(defer_connect) == 0 || opener.flags & twtrace_common::OWNER_KTHREAD != 0 {
            return false;
        }
        let call = owner::syscall_register(off!(regs_syscall));
        // An MPTCP subflow is not what the descriptor leads to, so the exit of connect(2) could not find it.
        // SAFETY: offsets of struct sock and struct socket.
        let held: Sk = unsafe { load(load(self, off!(sk_socket)), off!(socket_sk)) };
        call as u32 == cfg_value!(connect_nr) && held as u64 == self as u64
    }
    #[inline(always)]
    unsafe fn capture(self, owner: *mut Owner) {
        // SAFETY: the caller's promise.
        unsafe { owner::capture(owner) };
    }
    #[inline(always)]
    unsafe fn fill_tuple(self, record: *mut ConnRecord) {
        // SAFETY: the caller's promise.
        unsafe { sock::fill_tuple(record, self) };
    }
    #[inline(always)]
    unsafe fn fill_end(self, record: *mut ConnRecord) {
        // SAFETY: the caller's promise.
        unsafe { sock::fill_end(record, self) };
    }
}

/// A count taken at FIN_WAIT2 belongs to a CLOSE that follows within this time: both in the one call of
/// `tcp_rcv_state_process` that makes the timewait socket.
const SAME_CALL_NS: u64 = 50_000;

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
}

/// The first program of the pair: says what it is about to handle, then does.
#[inline(always)]
pub fn first(change: Change<impl Socket>) {
    if let Some(slot) = HANDLED.get_ptr_mut(0) {
        // SAFETY: a map value of this CPU, written by this program alone, which does not nest on a CPU.
        unsafe {
            (*slot).sk = change.sk.address();
            (*slot).states = change.states();
        }
    }
    if change.is_foreign() {
        return;
    }
    if let Some(record) = find_or_begin(change) {
        // SAFETY: a value of the socket map.
        unsafe { advance(record, change) };
    }
}

/// The twin: does the work that the kernel kept from the first program, because it interrupted itself on this CPU,
/// and frees the slots of ended lives.
#[inline(always)]
pub fn twin(change: Change<impl Socket>) {
    let handled = HANDLED.get_ptr(0).is_some_and(|slot| {
        // The first program may interrupt this one here, for another socket. States first: what then comes with
        // this socket's address was written for it.
        // SAFETY: a map value of this CPU.
        unsafe {
            core::ptr::read_volatile(&raw const (*slot).states) == change.states()
                && core::ptr::read_volatile(&raw const (*slot).sk) == change.sk.address()
        }
    });
    if handled {
        if change.new == tcp_state::CLOSE {
            free(change.sk.address());
        }
        return;
    }
    if change.is_foreign() {
        // Nothing to do, whether or not the first program ran.
        count!(change.by, recovered);
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
    if let Some(record) = find_or_begin(change) {
        // SAFETY: a value of the socket map.
        unsafe {
            (*record).flags |= conn_flag::RECOVERED;
            advance(record, change);
        }
    }
    if change.new == tcp_state::CLOSE {
        free(change.sk.address());
    }
}

/// True when the last thing that the record saw is this change: the first program did run, and the slot of its CPU
/// has moved on since.
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
    if let Some(record) = find_or_begin(change) {
        // SAFETY: a value of the socket map.
        unsafe { advance(record, change) };
    }
    if change.new == tcp_state::CLOSE {
        free(change.sk.address());
    }
}

/// Frees the slot of a life whose record was written. One that waits for its errno stays.
#[inline(always)]
fn free(key: u64) {
    if let Some(record) = SOCKETS.get_ptr(key) {
        // SAFETY: a value of the socket map.
        if unsafe { (*record).flags } & conn_flag::DONE != 0 {
            let _ = SOCKETS.remove(key);
        }
    }
}

/// The record that this change belongs to: a new one at the two ways in which a life begins, else the one that is
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
        let followed = flags & (conn_flag::DONE | conn_flag::PENDING) == 0 && unsafe { is_of(record, change) };
        if !active && !passive && followed {
            return Some(record);
        }
        if flags & conn_flag::PENDING != 0 {
            // The exit of connect(2) was not seen: what is known goes out now.
            // SAFETY: a value of the socket map.
            unsafe { finish(record, change.by) };
        } else if flags & conn_flag::DONE == 0 {
            // SAFETY: as above.
            unsafe { superseded(record, change.by) };
        }
    }
    // By reference: a record does not fit the stack.
    let template: &ConnRecord = &TEMPLATE;
    if SOCKETS.insert(key, template, 0).is_err() {
        // Once for each life, at its end: until then there may be room again, and the rest of it is followed.
        if change.new == tcp_state::CLOSE {
            count!(change.by, map_full);
        }
        return None;
    }
    let record = SOCKETS.get_ptr_mut(key)?;
    count!(change.by, lives_begun);
    // SAFETY: a value of the socket map, just inserted.
    unsafe {
        if active {
            (*record).role = role::ACTIVE;
            begin_active(record, change);
        } else if passive {
            // Its cookie comes later: inet_csk_clone_lock() gives the child a new one after this.
            (*record).role = role::PASSIVE;
        } else {
            (*record).flags = conn_flag::OLDER;
            (*record).cookie = change.sk.cookie();
        }
    }
    Some(record)
}

/// False when something was not seen before this change, and the address has come to another socket meanwhile.
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
/// tells who sent it and is worth having.
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
        (*record).flags |= conn_flag::END_UNSEEN;
        count!(by, lives_ended);
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
        sk.capture(&raw mut (*record).opener);
        (*record).cookie = sk.cookie();
        let binding = sk.binding();
        (*record).flags |= binding.flags;
        (*record).local_range = binding.range;
        if binding.flags & conn_flag::BOUND_PORT != 0 {
            bound_connect(record, change);
        }
        if sk.in_connect(&(*record).opener) {
            (*record).flags |= conn_flag::IN_CONNECT;
        }
    }
}

/// Tells of a connect from a bound port while it begins: nothing else says of an open connection that its port is taken
/// towards every destination. `tcp_v4_connect` and `tcp_v6_connect` have set all of the tuple before SYN_SENT.
///
/// # Safety
/// `record` points to a value of the socket map.
#[inline(always)]
unsafe fn bound_connect(record: *mut ConnRecord, change: Change<impl Socket>) {
    let Some(mut entry) = emit::reserve_small(change.by) else { return };
    let small: *mut SmallRecord = entry.as_mut_ptr();
    // SAFETY: the caller's promise; a reserved record, all of it written before; no argument.
    unsafe {
        change.sk.fill_tuple(record);
        (*small).kind = kind::BOUND_CONNECT;
        (*small).family = (*record).family;
        (*small).local_port = (*record).local_port;
        (*small).remote_port = (*record).remote_port;
        (*small).netns = (*record).netns;
        (*small).cookie = (*record).cookie;
        (*small).at_ns = bpf_ktime_get_ns();
        (*small).local_addr = (*record).local_addr;
        (*small).remote_addr = (*record).remote_addr;
    }
    emit::submit_small(entry, change.by);
}

/// Takes one change into the record, and lets the record go if it was the last.
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
                (*record).flags |= conn_flag::GAP;
                if (*record).cookie == 0 {
                    (*record).cookie = sk.cookie();
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
            (*record).flags |= conn_flag::ESTABLISHED;
            if (*record).cookie == 0 {
                (*record).cookie = sk.cookie();
            }
        }
        let own_fin = new == tcp_state::FIN_WAIT1 || new == tcp_state::LAST_ACK;
        let aborts = new == tcp_state::CLOSE
            && (old == tcp_state::ESTABLISHED || old == tcp_state::CLOSE_WAIT || old == tcp_state::SYN_SENT)
            && sk.error() == Some(0);
        // Never at FIN_WAIT2 or at its end: those run in whatever softirq interrupted.
        if own_fin || aborts && (*record).flags & conn_flag::IN_CONNECT == 0 {
            sk.capture(&raw mut (*record).closer);
            sk.fill_tuple(record);
            if aborts {
                (*record).flags |= conn_flag::CLOSED_IN_CONTEXT;
            }
        }
        if new == tcp_state::ESTABLISHED {
            // The connect that is under way has won its race: a later end is not its result.
            (*record).flags &= !conn_flag::IN_CONNECT;
        }
        if new == tcp_state::FIN_WAIT2 {
            (*record).tw_count_before = sk.tw_count().0;
        }
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
        if (*record).family == 0 {
            change.sk.fill_tuple(record);
        }
        change.sk.fill_end(record);
        let (tw_count, tw_max) = change.sk.tw_count();
        (*record).tw_count = tw_count;
        (*record).tw_max = tw_max;
        (*record).end_ns = now;
        if (*record).cookie == 0 {
            (*record).cookie = change.sk.cookie();
        }
        count!(change.by, lives_ended);
        let flags = (*record).flags;
        if change.old == tcp_state::SYN_RECV
            && (*record).role == role::PASSIVE
            && flags & conn_flag::ESTABLISHED == 0
            && (*record).sk_err == 0
        {
            // A handshake that the listener gave up (tcp_v4_syn_recv_sock): nobody's connection.
            count!(change.by, handshakes_dropped);
            (*record).flags |= conn_flag::DONE;
        } else if change.old == tcp_state::SYN_SENT
            && flags & conn_flag::IN_CONNECT != 0
            && flags & conn_flag::ASYNC_CONNECT == 0
        {
            (*record).flags |= conn_flag::PENDING;
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
        emit::life(record, by);
        (*record).flags = ((*record).flags & !conn_flag::PENDING) | conn_flag::DONE;
    }
}
