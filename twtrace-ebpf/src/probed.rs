//! A socket by its address alone: the kernel's types say where its fields are, and the helper that checks addresses reads
//! them.

use twtrace_common::{ConnFlags, ConnRecord, OFFSET_NONE, Owner, OwnerFlags, SockFlags, TW_UNKNOWN, Tuple};

use crate::{
    config::{cfg_value, off},
    descriptor::{self, read},
    owner,
    socket::{Binding, SOCK_BINDADDR_LOCK, Socket},
};

/// For programs that get no typed pointer.
#[derive(Clone, Copy)]
pub struct Probed {
    /// Address of the `struct sock`.
    pub sk: u64,
}

impl Probed {
    #[inline(always)]
    fn field<T>(self, offset: usize) -> Option<T> {
        read(self.sk + offset as u64)
    }
}

impl Socket for Probed {
    #[inline(always)]
    fn address(self) -> u64 {
        self.sk
    }
    #[inline(always)]
    fn is_tcp(self) -> bool {
        descriptor::is_tcp(self.sk)
    }
    /// 0 where it has none yet: this program cannot give it one.
    #[inline(always)]
    fn cookie(self) -> u64 {
        descriptor::cookie(self.sk)
    }
    #[inline(always)]
    fn error(self) -> Option<i32> {
        self.field(off!(sk_err))
    }
    #[inline(always)]
    fn tw_count(self) -> (i32, i32) {
        if off!(net_tw_refcount) == OFFSET_NONE as usize {
            return (TW_UNKNOWN, TW_UNKNOWN);
        }
        let net: u64 = self.field(off!(skc_net)).unwrap_or(0);
        let (count, most) = (read(net + off!(net_tw_refcount) as u64), read(net + off!(net_tw_max) as u64));
        let count = count.map_or(TW_UNKNOWN, |count: i32| count - off!(net_tw_extra) as i32);
        (count, most.unwrap_or(TW_UNKNOWN))
    }
    #[inline(always)]
    fn binding(self) -> Binding {
        let mut binding = Binding::NONE;
        if self.field::<u16>(off!(skc_num)).unwrap_or(0) != 0 {
            binding.flags.insert(ConnFlags::BOUND_PORT);
        }
        if off!(sk_userlocks) != OFFSET_NONE as usize
            && self.field::<u8>(off!(sk_userlocks)).unwrap_or(0) >> (off!(sk_userlocks_shift) & 7) & SOCK_BINDADDR_LOCK
                != 0
        {
            binding.flags.insert(ConnFlags::BOUND_ADDRESS);
        }
        if off!(inet_local_port_range) != OFFSET_NONE as usize {
            binding.range = self.field(off!(inet_local_port_range)).unwrap_or(0);
        }
        binding
    }
    #[inline(always)]
    fn in_connect(self, opener: &Owner) -> bool {
        if cfg_value!(defer_connect) == 0 || opener.flags.contains(OwnerFlags::KTHREAD) {
            return false;
        }
        let socket: u64 = self.field(off!(sk_socket)).unwrap_or(0);
        owner::syscall_number() == cfg_value!(connect_nr) && read(socket + off!(socket_sk) as u64) == Some(self.sk)
    }
    #[inline(always)]
    unsafe fn capture(self, owner: *mut Owner) {
        // SAFETY: the caller's promise.
        unsafe { owner::capture(owner) };
    }
    #[inline(always)]
    unsafe fn fill_tuple(self, tuple: *mut Tuple) {
        // SAFETY: the caller's promise.
        unsafe {
            descriptor::fill_whole(tuple, self.sk);
            // As in `sock::fill_tuple`: the other one is cleared before CLOSE.
            (*tuple).local_port = u16::from_be(self.field(off!(inet_sport)).unwrap_or(0));
        }
    }
    #[inline(always)]
    unsafe fn fill_end(self, record: *mut ConnRecord) {
        // SAFETY: the caller's promise.
        unsafe {
            (*record).sk_flags = SockFlags::from_bits_retain(self.field::<u64>(off!(skc_flags)).unwrap_or(0) as u8);
            (*record).sk_err = self.field::<i32>(off!(sk_err)).unwrap_or(0) as u16;
            (*record).bytes_sent = self.field(off!(tcp_bytes_acked)).unwrap_or(0);
            (*record).bytes_received = self.field(off!(tcp_bytes_received)).unwrap_or(0);
            (*record).retransmits = self.field(off!(tcp_total_retrans)).unwrap_or(0);
            if off!(tcp_ts_recent_stamp) != OFFSET_NONE as usize {
                let stamp: u32 = self.field(off!(tcp_ts_recent_stamp)).unwrap_or(0);
                (*record).flags.insert(ConnFlags::of_stamp(stamp));
            }
        }
    }
}
