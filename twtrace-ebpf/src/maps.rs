//! All maps, and what each does when it is full.

use aya_ebpf::{
    macros::map,
    maps::{HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use twtrace_common::{CgroupNames, ConnRecord, Counters, Exec, MAX_SOCKETS, RING_BYTES};

use crate::{config::cfg_value, handled::Notes, log::Lines};

/// Sockets being followed, by the address of their `struct sock`. Preallocated: inserting from softirq never
/// allocates. Full: the connection is reported in parts (`unfollowed.rs`), and `Counters::map_full` grows.
#[map]
pub static SOCKETS: HashMap<u64, ConnRecord> = HashMap::with_max_entries(MAX_SOCKETS, 0);

/// Records on their way to user space. Full: the record is dropped and `Counters::ring_full` grows.
#[map]
pub static RING: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);

/// Per-CPU counters, one entry for each [`Program`]; the loader adds them up.
#[map]
pub static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(PROGRAMS, 0);

/// What the first program of the pair has handled on this CPU and its twin has not looked at yet (`handled.rs`). One entry.
#[map]
pub static HANDLED: PerCpuArray<Notes> = PerCpuArray::with_max_entries(1, 0);

/// TIME_WAIT sockets that a connect has just taken over, by their address, until they are freed. Full: the end of
/// further ones is reported as ended early, and `Counters::evicted` grows.
#[map]
pub static REUSED: HashMap<u64, u8> = HashMap::with_max_entries(1024, 0);

/// Arguments of calls under way, for the kretprobe, by the key of `call.rs`. A call whose return the kernel does not
/// show leaves its entry behind, so the oldest entry is evicted. Too small: arguments are gone at the return, and
/// `Counters::evicted` grows.
#[map]
pub static CALLS: LruHashMap<u64, Call> = LruHashMap::with_max_entries(8192, 0);

/// What processes were started with, by thread group id. The oldest entry is evicted: what is needed of it was read when the
/// first connection of the process ended, at most a tenth of a second later.
#[map]
pub static EXECS: LruHashMap<u32, Exec> = LruHashMap::with_max_entries(8192, 0);

/// The names of the cgroups in which processes were started, by cgroup id. The oldest entry is evicted.
#[map]
pub static CGROUPS: LruHashMap<u64, CgroupNames> = LruHashMap::with_max_entries(1024, 0);

/// What new entries start from, as for [`TEMPLATE`].
#[unsafe(no_mangle)]
pub static NO_EXEC: Exec = Exec::EMPTY;
/// The same.
#[unsafe(no_mangle)]
pub static NO_NAMES: CgroupNames = CgroupNames::EMPTY;

/// The lines that each [`Program`] logs, per CPU: one is too large for what is left of the stack.
#[map]
pub static LINES: PerCpuArray<Lines> = PerCpuArray::with_max_entries(PROGRAMS, 0);

/// Arguments of a call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Call {
    /// The socket.
    pub sk: u64,
    /// Another one, where it matters.
    pub other: u64,
}

/// What a new connection starts from. In `.rodata`: a record is too large for the 512-byte stack. Not mangled, because a
/// mangled name has a hash of the folder that it was built in, and the object would differ from one to the next.
#[unsafe(no_mangle)]
pub static TEMPLATE: ConnRecord = ConnRecord::EMPTY;

/// A program that counts. Each has counters of its own: one can run inside another. The fexit program and the kretprobe of one function share them, for only one of
/// the two is attached; a kprobe that only keeps arguments counts nothing.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Program {
    SetState,
    SetStateTwin,
    SendReset,
    /// The system call exits.
    SyscallExit,
    /// In softirq, or with the socket's backlog.
    TwskAlloc,
    TwskEnd,
    TwskUnique,
    /// In the context of a process.
    CskAccept,
}

/// How many there are.
const PROGRAMS: u32 = Program::CskAccept as u32 + 1;

/// Adds one.
#[inline(always)]
pub fn add_one(program: Program, field: usize) {
    if let Some(counters) = COUNTERS.get_ptr_mut(program as u32) {
        // SAFETY: a u64 inside a map value of this CPU.
        unsafe {
            let counter = counters.byte_add(field).cast::<u64>();
            if cfg_value!(nests) == 0 {
                *counter += 1;
            } else {
                core::arch::asm!("lock *(u64 *)({counter} + 0) += {one}", counter = in(reg) counter, one = in(reg) 1_u64);
            }
        }
    }
}

/// Adds one to a program's counter on this CPU.
macro_rules! count {
    ($program:expr, $field:ident) => {
        $crate::maps::add_one($program, core::mem::offset_of!(twtrace_common::Counters, $field))
    };
}

pub(crate) use count;
