//! `TP_PROTO(const struct sock *sk, const struct sk_buff *skb, const enum sk_rst_reason reason)`
//!
//! `tcp_send_reset`, fired by `tcp_send_active_reset` and `tcp_v4_send_reset`. `sk` may be NULL, or a TIME_WAIT or
//! request socket, of which only `struct sock_common` exists.

use core::ffi::c_void;

use aya_ebpf::{helpers::generated::bpf_ktime_get_ns, macros::btf_tracepoint, programs::BtfTracePointContext};
use twtrace_common::{ConnFlags, SockFlags, kind, tcp_state};

use crate::{
    config::off,
    emit,
    log::{self, Decision},
    maps::{Program, SOCKETS, count},
    reader::load,
    sock::TypedSock,
    socket::Socket as _,
};

/// Notes the reset on the connection that it ends.
#[btf_tracepoint(function = "tcp_send_reset")]
pub fn send_reset(ctx: BtfTracePointContext) -> i32 {
    let sk: *const c_void = ctx.arg(0);
    if sk.is_null() {
        return 0;
    }
    // SAFETY: offset of struct sock_common, which every kind of socket begins with.
    let state = unsafe { load::<u8>(sk, off!(skc_state)) };
    // In SYN_SENT it answers an acknowledgement of something else (`tcp_rcv_synsent_state_process`), and the connect goes
    // on.
    if matches!(state, tcp_state::TIME_WAIT | tcp_state::NEW_SYN_RECV | tcp_state::LISTEN | tcp_state::SYN_SENT) {
        return 0;
    }
    if let Some(record) = SOCKETS.get_ptr_mut(sk as u64) {
        // SAFETY: a value of the socket map.
        let flags = unsafe { (*record).flags };
        if !flags.contains(ConnFlags::DONE) {
            // SAFETY: as above.
            unsafe {
                (*record).flags = flags.union(ConnFlags::RST_SENT);
                log::decision(record, Decision::ResetSent, state.into());
            }
            return 0;
        }
    }
    // An abort also resets after CLOSE, and its owner's context already showed it. Only the reset shows the end of a
    // socket that its owner had closed, or that got data after its receiving side was shut: linger2 < 0, data after
    // close.
    // SAFETY: offsets of struct sock; the state says that it is a full one.
    let is_new = unsafe {
        load::<u64>(sk, off!(skc_flags)) as u8 & SockFlags::DEAD.bits() != 0 || load::<i32>(sk, off!(sk_err)) != 0
    };
    if state != tcp_state::CLOSE || !is_new || !TypedSock::typed(sk).is_tcp() {
        return 0;
    }
    count!(Program::SendReset, resets_after_close);
    if let Some(mut entry) = emit::reserve(Program::SendReset) {
        let record = entry.as_mut_ptr();
        // SAFETY: a reserved record, filled from the template.
        unsafe {
            (*record).kind = kind::RESET_SENT;
            let sk = TypedSock::typed(sk);
            (*record).cookie = sk.cookie();
            sk.fill_tuple(&raw mut (*record).tuple);
            (*record).end_ns = bpf_ktime_get_ns();
        }
        emit::submit(entry, Program::SendReset);
    }
    0
}
