//! `TP_PROTO(const struct sock *sk, const int oldstate, const int newstate)`
//!
//! The second program on `inet_sock_set_state`. The kernel skips a tracing program that interrupts itself on one
//! CPU (`bpf_prog_run_array`, `prog->active`), but it does not skip both.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use super::set_state::arguments;
use crate::{connection::twin, maps::Program};

/// The twin. It must be attached after the first program, so that it runs after it.
#[btf_tracepoint(function = "inet_sock_set_state")]
#[inline(always)]
pub fn set_state_twin(ctx: BtfTracePointContext) -> i32 {
    twin(arguments(&ctx, Program::SetStateTwin));
    0
}
