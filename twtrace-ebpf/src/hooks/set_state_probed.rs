//! `sock:inet_sock_set_state`, the classic tracepoint, in the place of the twin.
//!
//! On kernels whose tracepoints are preemptible (7.0), a tracing program whose task is preempted keeps its CPU's other tasks
//! from running it, for as long as that task waits; both programs of the pair, now and then. The kernel runs programs of the
//! classic tracepoint with preemption off.

use aya_ebpf::{EbpfContext as _, macros::tracepoint, programs::TracePointContext};

use crate::{
    config::off,
    connection::{Change, twin},
    maps::Program,
    reader::{Checked, read},
    sock::Sock,
};

/// The twin. It must be attached after the first program, so that it runs after it.
///
/// Inlined, because the name of a function of its own would have a hash of the folder that it was built in.
#[tracepoint(category = "sock", name = "inet_sock_set_state")]
#[inline(always)]
pub fn set_state_probed(ctx: TracePointContext) -> u32 {
    let record = ctx.as_ptr() as u64;
    let state = |offset: usize| read::<i32>(record + offset as u64).unwrap_or(0) as u8;
    let (old, new) = (state(off!(tp_oldstate)), state(off!(tp_newstate)));
    let address: u64 = read(record + off!(tp_skaddr) as u64).unwrap_or(0);
    let sk = Sock { sk: address as *const core::ffi::c_void, by: Checked };
    twin(Change { sk, old, new, by: Program::SetStateTwin });
    0
}
