//! Events for tests: each type of the core's events is built here and nowhere else.
//!
//! A test lists its events and their figures. The functions here give a usual value ([`owner`], [`tuple()`],
//! [`connection()`], [`kernel_facts`]), and the traits [`BuildOwner`], [`BuildTuple`] and [`BuildConnection`] change
//! it, one figure per call: they return the core's own type, so a chain of calls needs no last step.
//!
//! ```
//! use twtrace_testkit::*;
//!
//! let curl = owner(300, "curl").user(1000).parent(200, "cron.sh");
//! let to = tuple(40_000, [10, 0, 1, 7], 443);
//! let events = [start(START_NS).event(), connection(1, curl, to, START_NS + SECOND_NS).bytes(200, 4_000).event()];
//! let state = state_of(twtrace_core::state::Config::default(), events);
//! assert_eq!(state.summary().totals.counts.time_wait_created, 1);
//! ```
//!
//! Two complete hosts are shared by the crates that display them: [`web`] and [`shop`]. [`fleet`] is three hosts with
//! what each of their sockets was. [`churn`] creates any number of connections.

mod census;
pub mod chance;
pub mod churn;
mod connection;
mod counters;
mod event;
mod finding;
pub mod fleet;
mod owner;
mod process;
pub mod shop;
mod start;
mod state;
#[cfg(feature = "strategies")]
pub mod strategies;
mod tuple;
pub mod web;

pub use census::{census, census_row, socket_owner, socket_owners};
pub use connection::{BuildConnection, answered, connection, path, states, transitions};
pub use counters::counters;
pub use event::{
    bind_failed, bound_connect, connect_failed, kernel, kernel_facts, namespace, reset_sent, tick, timewait_end,
};
pub use finding::findings;
pub use owner::{BuildOwner, comm, owner};
pub use process::{container, process, process_facts, user};
pub use start::{StartBuilder, hook, refused_hook, start};
pub use state::{look, snapshot_of, snapshot_with_history, state_of};
pub use tuple::{BuildTuple, tuple};

/// Nanoseconds per microsecond.
pub const MICROSECOND_NS: u64 = 1_000;
/// Nanoseconds per millisecond.
pub const MILLISECOND_NS: u64 = 1_000_000;
/// Nanoseconds per second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// When a trace begins, monotonic nanoseconds: a host that has been up for 1,000 seconds.
pub const START_NS: u64 = 1_000 * SECOND_NS;
/// The same moment on the wall clock, nanoseconds since the Unix epoch: 2026-09-21 14:13:20 UTC.
pub const START_UNIX_NS: i128 = 1_790_000_000_000_000_000;

/// The tracer's own network namespace: the inode number that the kernel gives the first one.
pub const NETNS: u32 = 4_026_531_840;

/// A process name that clears the screen, is not UTF-8, starts like a formula and reverses the text direction.
pub const HOSTILE: &[u8] = b"=\x1b[2J\xff\xe2\x80\xae,\"x";
