//! Scenarios with servers that nobody here wrote: a load that shows a problem, and the same load with the remedy.
//!
//! Each take is played on a [`TestBed`] of its own, a network namespace where nothing else happens, and nothing of one is
//! left for the next.

mod bind;
mod bypass;
pub mod dump;
pub mod effect;
pub mod exhaustion;
mod http_server;
mod pgbench;
pub mod play;
mod proxy;
mod redis;
pub mod stage;
mod workers;

use std::process::Command;

use stage::TestBed;

/// A scenario.
#[derive(Debug)]
pub struct Scenario {
    /// What it is called in the table.
    pub name: &'static str,
    /// Programs that it runs.
    pub programs: &'static [&'static str],
    /// Shows the problem.
    pub before: Run,
    /// With the remedy.
    pub after: Option<Run>,
}

/// Servers, a load, and what is to be found while it runs.
#[derive(Debug)]
pub struct Run {
    /// Sysctls of the namespace, below `net.` and with slashes for dots.
    pub sysctls: &'static [(&'static str, &'static str)],
    /// Starts the servers.
    pub servers: fn(&mut TestBed),
    /// What makes the connections, for 4 to 7 seconds. What is found by who holds the open sockets takes the second
    /// search for that, which comes after five.
    pub load: fn(&TestBed) -> Command,
    /// The one finding; `None` when there must be none.
    pub expected: Option<Expected>,
}

/// A finding.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// Its id.
    pub id: &'static str,
    /// The finding that is behind it.
    pub cause: Option<&'static str>,
    /// Whose doing it is.
    pub who: Who,
    /// The command's name.
    pub command: &'static str,
    /// `active` or `passive`.
    pub role: &'static str,
    /// Port of the destination: one of these, where there are several.
    pub ports: &'static [u16],
    /// Ids of advice, any of which may come first.
    pub advice: &'static [&'static str],
    /// What the remedy of the second take is called.
    pub remedy: &'static str,
}

/// Whose doing a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The process that is the load.
    Load,
    /// Children of the load, many, none by itself.
    ChildrenOfLoad,
    /// So many children of the load together.
    WorkersOfLoad(u64),
    /// The server of that name.
    Server(&'static str),
    /// The only child of the server of that name.
    WorkerOf(&'static str),
}

/// All scenarios.
pub const ALL: [&Scenario; 11] = [
    &pgbench::SCENE,
    &proxy::WITHOUT_KEEPALIVE,
    &proxy::WITHOUT_POOL,
    &proxy::WITH_KEEPALIVE,
    &redis::SCENE,
    &http_server::SCENE,
    &bypass::SCENE,
    &workers::SCENE,
    &bind::SCENE,
    &exhaustion::WITHOUT_REUSE,
    &exhaustion::WITH_REUSE,
];
