//! The log of `--debug-kernel`: what the hooks see of the sockets that the loader's filter names, and what they decide.
//!
//! With the filter off, the verifier knows that no path leads here and removes all of it. With it on, the formatting is
//! in two functions of their own, once for all programs that call them: in each hook it would not fit the stack. They
//! are global for the kernel, which verifies them alone and lets them take numbers only; other values come through a map.
//! Not mangled, for the reason that `maps::TEMPLATE` has.

use aya_log_ebpf::debug;
use twtrace_common::{ConnFlags, ConnRecord, Tuple, role};

use crate::{
    config::{LOG_FILTER, patched},
    connection::Change,
    maps::LINES,
    sock::AF_INET6,
    socket::Socket,
};

/// What a line of one transition is written from.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Line {
    tuple: Tuple,
    cookie: u64,
    opener: u32,
    closer: u32,
}

impl Line {
    const EMPTY: Self = Self { tuple: Tuple::NONE, cookie: 0, opener: 0, closer: 0 };
}

/// How often a program may interrupt itself on a CPU and still log: on kernels before 6.1, a softirq's interrupts a task's.
const LEVELS: usize = 2;

/// The lines of one program on one CPU.
#[repr(C)]
pub struct Lines {
    /// How many of them are in use. What interrupts a program ends before it goes on.
    busy: u32,
    lines: [Line; LEVELS],
}

/// What a hook did with a connection.
#[derive(Clone, Copy)]
#[repr(u64)]
pub enum Decision {
    Written,
    RingFull,
    Recovered,
    HandshakeDropped,
    Pending,
    ConnectFailed,
    NoPort,
    EndUnseen,
    TimewaitCreated,
    TimewaitOverflowed,
    Accepted,
    ResetSent,
}

/// Bytes of a decision's words.
const WORDS: usize = 32;

/// Their words, by number. Of one length: tables of pointers would take relocations that the loader does not do.
#[unsafe(no_mangle)]
static LOG_DECISIONS: [[u8; WORDS]; 16] = padded([
    "record written, transitions:",
    "record lost, ring buffer full:",
    "recovered by the twin, state:",
    "handshake dropped, no record:",
    "waits for connect(2), sk_err:",
    "connect(2) failed, errno:",
    "no local port, errno:",
    "end not seen, last state:",
    "TIME_WAIT socket created, state:",
    "TIME_WAIT overflowed, state:",
    "accepted by process",
    "reset sent in state",
    "",
    "",
    "",
    "",
]);

/// States by the kernel's numbers.
#[unsafe(no_mangle)]
static LOG_STATES: [[u8; 12]; 16] = padded([
    "",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
    "",
    "",
    "",
]);

/// Roles by their numbers, and what stands there for a socket that has no slot.
#[unsafe(no_mangle)]
static LOG_ROLES: [[u8; 8]; 4] = padded(["unknown", "active", "passive", "no slot"]);

const WITHOUT_SLOT: u8 = 3;
const _: () = assert!(role::UNKNOWN == 0 && role::ACTIVE == 1 && role::PASSIVE == 2);

const fn padded<const WIDTH: usize, const COUNT: usize>(words: [&str; COUNT]) -> [[u8; WIDTH]; COUNT] {
    let mut table = [[b' '; WIDTH]; COUNT];
    let mut row = 0;
    while row < COUNT {
        let word = words[row].as_bytes();
        assert!(word.len() <= WIDTH);
        let mut at = 0;
        while at < word.len() {
            table[row][at] = word[at];
            at += 1;
        }
        row += 1;
    }
    table
}

/// A row of such a table.
macro_rules! word {
    ($table:expr, $row:expr) => {
        // SAFETY: ASCII.
        unsafe { core::str::from_utf8_unchecked(&$table[$row as usize & ($table.len() - 1)]) }
    };
}

#[inline(always)]
fn is_on() -> bool {
    patched(&LOG_FILTER.on) != 0
}

/// A transition of a followed connection.
///
/// # Safety
/// `record` points to a value of the socket map.
#[inline(always)]
pub unsafe fn transition(record: *mut ConnRecord, change: Change<impl Socket>) {
    if !is_on() {
        return;
    }
    // SAFETY: the caller's promise.
    unsafe {
        let line = Line {
            tuple: Tuple::NONE,
            cookie: (*record).cookie,
            opener: (*record).opener.tgid,
            closer: (*record).closer.tgid,
        };
        let is_matched = (*record).flags.contains(ConnFlags::LOGGED);
        if write(line, change, (*record).role, is_matched) {
            (*record).flags.insert(ConnFlags::LOGGED);
        }
    }
}

/// A transition of a socket for which the socket map has no room.
#[inline(always)]
pub fn without_slot(change: Change<impl Socket>) {
    if is_on() {
        write(Line { cookie: change.sk.cookie(), ..Line::EMPTY }, change, WITHOUT_SLOT, false);
    }
}

/// What was done with a connection, with a number that says more. Only of one that has matched before.
///
/// # Safety
/// `record` points to a value of the socket map.
#[inline(always)]
pub unsafe fn decision(record: *const ConnRecord, decision: Decision, number: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        if is_on() && (*record).flags.contains(ConnFlags::LOGGED) {
            log_decision((*record).cookie, decision as u64, number);
        }
    }
}

/// Writes a transition if the socket matches; says whether it does.
#[inline(always)]
fn write(line: Line, change: Change<impl Socket>, role: u8, is_matched: bool) -> bool {
    let Some(lines) = LINES.get_ptr_mut(change.by as u32) else { return false };
    // SAFETY: a map value of this CPU and program; what interrupts it uses the next line.
    unsafe {
        let busy = &raw mut (*lines).busy;
        let level = busy.read_volatile();
        if level as usize >= LEVELS {
            return false;
        }
        busy.write_volatile(level + 1);
        let slot = &raw mut (*lines).lines[level as usize & (LEVELS - 1)];
        slot.write(line);
        change.sk.fill_tuple(&raw mut (*slot).tuple);
        let what = u64::from(change.old)
            | u64::from(change.new) << 8
            | u64::from(role) << 16
            | u64::from(is_matched) << 24
            | u64::from(level) << 32;
        let is_logged = log_transition(change.by as u64, what) != 0;
        busy.write_volatile(level);
        is_logged
    }
}

/// An address as the words of an IPv6 address.
#[inline(always)]
fn words(family: u16, address: &[u8; 16]) -> [u32; 4] {
    let word = |at: usize| u32::from_ne_bytes([address[at], address[at + 1], address[at + 2], address[at + 3]]);
    if family == AF_INET6 { [word(0), word(4), word(8), word(12)] } else { [0, 0, 0xffff_u32.to_be(), word(0)] }
}

/// Whether a line is of a socket that is asked for.
#[inline(always)]
fn is_asked_for(line: &Line) -> bool {
    let tuple = &line.tuple;
    let (port, tgid) = (patched(&LOG_FILTER.port), patched(&LOG_FILTER.tgid));
    if port != 0 && u32::from(tuple.local_port) != port && u32::from(tuple.remote_port) != port {
        return false;
    }
    if tgid != 0 && line.opener != tgid && line.closer != tgid {
        return false;
    }
    if patched(&LOG_FILTER.has_addr) == 0 {
        return true;
    }
    let is = |address: &[u8; 16]| {
        let [a, b, c, d] = words(tuple.family, address);
        a == patched(&LOG_FILTER.addr[0])
            && b == patched(&LOG_FILTER.addr[1])
            && c == patched(&LOG_FILTER.addr[2])
            && d == patched(&LOG_FILTER.addr[3])
    };
    is(&tuple.local_addr) || is(&tuple.remote_addr)
}

/// Logs the line of one program, unless its socket is not asked for. `what` is built in [`write`].
#[unsafe(no_mangle)]
#[inline(never)]
fn log_transition(by: u64, what: u64) -> u64 {
    // Known to the kernel here too: it verifies this function whether or not it is called.
    if !is_on() {
        return 0;
    }
    let Some(lines) = LINES.get_ptr(by as u32) else { return 0 };
    // SAFETY: a map value of this CPU, which the caller's program has just written.
    let line = unsafe { &(*lines).lines[(what >> 32) as usize & (LEVELS - 1)] };
    if what >> 24 & 1 == 0 && !is_asked_for(line) {
        return 0;
    }
    let Line { ref tuple, cookie, opener, closer } = *line;
    let [local, remote] = [&tuple.local_addr, &tuple.remote_addr].map(|address| {
        let words = words(tuple.family, address);
        // SAFETY: of one size, any bits.
        unsafe { core::mem::transmute::<[u32; 4], [u8; 16]>(words) }
    });
    // By its cookie, as in `ss -e`: the verifier does not allow a program to split an address to print it.
    debug!(
        &(),
        "sk:{:x} {} {:i}.{} > {:i}.{} {} -> {} opener {} closer {}",
        cookie,
        word!(LOG_ROLES, what >> 16),
        local,
        tuple.local_port,
        remote,
        tuple.remote_port,
        word!(LOG_STATES, what),
        word!(LOG_STATES, what >> 8),
        opener,
        closer
    );
    1
}

/// Logs a decision.
#[unsafe(no_mangle)]
#[inline(never)]
fn log_decision(cookie: u64, decision: u64, number: u64) -> u64 {
    if is_on() {
        debug!(&(), "sk:{:x} {} {}", cookie, word!(LOG_DECISIONS, decision), number);
    }
    0
}
