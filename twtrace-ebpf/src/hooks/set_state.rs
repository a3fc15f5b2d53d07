//! `TP_PROTO(const struct sock *sk, const int oldstate, const int newstate)`
//!
//! `inet_sock_set_state`, fired by `tcp_set_state` and `inet_sk_state_store` before the state is stored.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{
    connection::{Change, first},
    maps::Program,
    sock::TypedSock,
};

/// The first program of the pair.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn set_state(ctx: BtfTracePointContext) -> i32 {
    first(arguments(&ctx, Program::SetState));
    0
}

/// The tracepoint's arguments.
#[inline(always)]
pub fn arguments(ctx: &BtfTracePointContext, by: Program) -> Change<TypedSock> {
    Change { sk: TypedSock::typed(ctx.arg(0)), old: ctx.arg::<i32>(1) as u8, new: ctx.arg::<i32>(2) as u8, by }
}
