//! Scenarios with third-party servers: a load that shows a problem, and the same load with the remedy.
//!
//! Each is a file in `tests/scenarios/`; the README there describes the format. Each run is played on its own
//! [`bed::TestBed`], a network namespace with no other traffic, and leaves nothing behind for the next run.

pub mod bed;
mod commands;
pub mod dump;
pub mod effect;
pub mod play;
pub mod read;
pub mod running;

use std::collections::BTreeMap;

use serde::Deserialize;

/// A scenario.
#[derive(Debug)]
pub struct Scenario {
    /// Its name in the table.
    pub name: String,
    /// Programs that it runs.
    pub programs: Vec<String>,
    /// Shows the problem.
    pub before: Run,
    /// With the remedy.
    pub after: Option<Run>,
    /// A trace that starts when the load has run for a while finds the same.
    pub is_seen_late: bool,
}

impl Scenario {
    /// The runs, in order.
    pub fn runs(&self) -> impl Iterator<Item = &Run> {
        std::iter::once(&self.before).chain(&self.after)
    }
}

/// Servers, a load, and the findings to expect while it runs.
#[derive(Debug)]
pub struct Run {
    /// Sysctls of the namespace, below `net.` and with slashes for dots.
    pub sysctls: BTreeMap<String, String>,
    /// Servers, in the order in which they start.
    pub servers: Vec<Server>,
    /// What opens the connections.
    pub load: Load,
    /// Environment of the load.
    pub env: BTreeMap<String, String>,
    /// Seconds after which the load and its children are killed. `None`: it ends by itself.
    pub seconds: Option<u64>,
    /// All findings that must appear.
    pub expected: Vec<Expected>,
}

/// A server.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// What [`Who`] calls it.
    pub name: String,
    /// The scenario continues once something listens here, on 127.0.0.1 or on all addresses.
    pub port: u16,
    /// How it starts.
    pub start: Start,
    /// A command that is run to its end once the server listens.
    #[serde(default)]
    pub then: Vec<String>,
}

/// How a server starts.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// A program that stays in the foreground, with its arguments.
    Argv(Vec<String>),
    /// nginx with one worker, and this inside `http { }`.
    Nginx(String),
    /// PostgreSQL, with a data directory of its own.
    Postgres,
}

/// What opens the connections.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Load {
    /// A program with its arguments.
    Argv(Vec<String>),
    /// The text of a script for bash.
    Bash(String),
    /// A Python script next to the scenario's file.
    Python(String),
    /// wrk with eight connections for five seconds, to a port's `page`.
    Wrk {
        /// Of 127.0.0.1.
        port: u16,
        /// How long each connection waits before each request.
        delay_ms: u32,
    },
    /// pgbench with four clients and a short transaction, with more arguments.
    Pgbench(Vec<String>),
}

/// A finding.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Its id.
    pub id: String,
    /// Another id that it may have instead: what sets them apart cannot always be seen.
    pub or: Option<String>,
    /// The finding that causes it.
    pub cause: Option<String>,
    /// Which process causes it.
    pub who: Who,
    /// The command's name; `None` if no process causes it.
    pub command: Option<String>,
    /// `active` or `passive`; `None` where the finding has no destination.
    pub role: Option<String>,
    /// Port of the destination: one of these, where there are several.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// Local address of the destination.
    #[serde(default = "loopback")]
    pub local_addr: String,
    /// Ids of advice, any of which may come first.
    pub advice: Vec<String>,
    /// The advice that the scenario's second run follows.
    pub remedy: Option<String>,
    /// The first advice has a setting of the program with this in it.
    pub setting: Option<String>,
}

fn loopback() -> String {
    "127.0.0.1".to_owned()
}

/// Which process causes a finding.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// No process is named.
    Nobody,
    /// The process that is the load.
    Load,
    /// The child of the load that has the command's name.
    ChildOfLoad,
    /// Many children of the load together, none of them alone.
    ChildrenOfLoad,
    /// This many children of the load together.
    WorkersOfLoad(u64),
    /// The server of that name.
    Server(String),
    /// The only child of the server of that name.
    WorkerOf(String),
}
