//! Events without a builder. Times are monotonic nanoseconds, errnos positive.

use crate::NETNS;
use twtrace_core::event::{BindFailed, ConnectFailed, Event, KernelFacts, Owner, TimewaitCause, TimewaitEnd, Tuple};

/// Time passed.
pub fn tick(at_ns: u64) -> Event {
    Event::Tick { at_ns }
}

/// Default figures and sysctls of a kernel, without TIME_WAIT sockets: ports 32,768 to 60,999, and 131,072 buckets.
pub fn kernel_facts() -> KernelFacts {
    KernelFacts { port_range: (32_768, 60_999), max_tw_buckets: 131_072, ..KernelFacts::default() }
}

/// What was read in [`NETNS`].
pub fn kernel(facts: KernelFacts) -> Event {
    Event::Kernel { netns: NETNS, facts }
}

/// A network namespace that can be entered, by its inode number.
pub fn namespace(netns: u32, name: &str) -> Event {
    Event::Namespace { netns, inode: netns, name: name.to_owned(), refused: None }
}

/// A connect that failed early.
pub fn connect_failed(opener: Owner, tuple: Tuple, errno: u16, at_ns: u64) -> Event {
    Event::ConnectFailed(Box::new(ConnectFailed { opener, tuple, errno, at_ns }))
}

/// A bind that failed, with SO_REUSEADDR (`reuse`) or without it.
pub fn bind_failed(owner: Owner, tuple: Tuple, errno: u16, reuse: bool, at_ns: u64) -> Event {
    Event::BindFailed(Box::new(BindFailed { owner, tuple, errno, reuse, at_ns }))
}

/// A socket that bind(2) had given a port began to connect.
pub fn bound_connect(cookie: u64, tuple: Tuple, at_ns: u64) -> Event {
    Event::BoundConnect { cookie, tuple, at_ns }
}

/// A connection that was reported before ended by a reset.
pub fn reset_sent(cookie: u64, tuple: Tuple, at_ns: u64) -> Event {
    Event::ResetSent { cookie, tuple, at_ns }
}

/// The end of a TIME_WAIT socket whose substate was TIME_WAIT.
pub fn timewait_end(cookie: u64, tuple: Tuple, cause: TimewaitCause, at_ns: u64) -> Event {
    Event::TimewaitEnd(TimewaitEnd { cookie, tuple, fin_wait2: false, cause, at_ns })
}
