//! `sock:inet_sock_set_state`, the classic tracepoint: its record is laid out as its format file says.
//!
//! For kernels without BTF, where the offsets of a socket's fields are not known. What the record does not have is not
//! read, and an end is reported with its owner only where this host's FIN proves who that is.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid},
    macros::tracepoint,
    programs::TracePointContext,
};
use twtrace_common::{ConnFlags, ConnRecord, Owner, TW_UNKNOWN, Tuple};

use crate::{
    config::off,
    connection::{Change, alone},
    maps::Program,
    reader::read,
    sock::{AF_INET, AF_INET6, IPPROTO_TCP},
    socket::{Binding, Socket},
};

/// Without types.
#[tracepoint(category = "sock", name = "inet_sock_set_state")]
pub fn set_state_plain(ctx: TracePointContext) -> u32 {
    let sk = Plain { record: ctx.as_ptr() as u64 };
    let state = |offset: usize| sk.field::<i32>(offset).unwrap_or(0) as u8;
    let (old, new) = (state(off!(tp_oldstate)), state(off!(tp_newstate)));
    alone(Change { sk, old, new, by: Program::SetState });
    0
}

/// A socket as the tracepoint's record has it.
#[derive(Clone, Copy)]
struct Plain {
    record: u64,
}

impl Plain {
    /// A field of the record. Through the helper: the verifier takes no context pointer at an offset that is patched in.
    #[inline(always)]
    fn field<T>(self, offset: usize) -> Option<T> {
        read(self.record + offset as u64)
    }
}

impl Socket for Plain {
    #[inline(always)]
    fn address(self) -> u64 {
        self.field(off!(tp_skaddr)).unwrap_or(0)
    }
    #[inline(always)]
    fn is_tcp(self) -> bool {
        self.field(off!(tp_protocol)) == Some(IPPROTO_TCP)
    }
    #[inline(always)]
    fn cookie(self) -> u64 {
        0
    }
    #[inline(always)]
    fn error(self) -> Option<i32> {
        None
    }
    #[inline(always)]
    fn tw_count(self) -> (i32, i32) {
        (TW_UNKNOWN, TW_UNKNOWN)
    }
    #[inline(always)]
    fn binding(self) -> Binding {
        // The record's source port is `inet_sport`, which keeps the port of an earlier connect that failed: it does not
        // show whether the port was bound.
        Binding::NONE
    }
    #[inline(always)]
    fn in_connect(self, _: &Owner) -> bool {
        false
    }
    #[inline(always)]
    unsafe fn capture(self, owner: *mut Owner) {
        // SAFETY: the caller's promise; helpers without preconditions.
        unsafe {
            (*owner).tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
            (*owner).uid = bpf_get_current_uid_gid() as u32;
            (*owner).cgroup = bpf_get_current_cgroup_id();
            // The thread's name: nothing leads to its process.
            (*owner).comm = bpf_get_current_comm().unwrap_or_default();
        }
    }
    #[inline(always)]
    unsafe fn fill_tuple(self, tuple: *mut Tuple) {
        // SAFETY: the caller's promise.
        unsafe {
            let family = self.field(off!(tp_family)).unwrap_or(0);
            (*tuple).family = family;
            // In the record, ports are in host byte order.
            (*tuple).local_port = self.field(off!(tp_sport)).unwrap_or(0);
            (*tuple).remote_port = self.field(off!(tp_dport)).unwrap_or(0);
            if family == AF_INET6 {
                (*tuple).local_addr = self.field(off!(tp_saddr_v6)).unwrap_or_default();
                (*tuple).remote_addr = self.field(off!(tp_daddr_v6)).unwrap_or_default();
            } else if family == AF_INET {
                let local: [u8; 4] = self.field(off!(tp_saddr)).unwrap_or_default();
                let remote: [u8; 4] = self.field(off!(tp_daddr)).unwrap_or_default();
                (&raw mut (*tuple).local_addr).cast::<[u8; 4]>().write(local);
                (&raw mut (*tuple).remote_addr).cast::<[u8; 4]>().write(remote);
            }
        }
    }
    #[inline(always)]
    unsafe fn fill_end(self, record: *mut ConnRecord) {
        // SAFETY: the caller's promise.
        unsafe { (*record).flags.insert(ConnFlags::NO_FIELDS) };
    }
}
