//! Scenarios with servers that nobody here wrote: a load that shows a problem, and the same load with the remedy.
//!
//! Each is a file in `tests/scenarios/`, whose README has the format. A run is played on a [`bed::TestBed`] of its own, a
//! network namespace where nothing else happens, and nothing of one is left for the next.

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
    /// What it is called in the table.
    pub name: String,
    /// Programs that it runs.
    pub programs: Vec<String>,
    /// Shows the problem.
    pub before: Run,
    /// With the remedy.
    pub after: Option<Run>,
}

impl Scenario {
    /// What is played, in its order.
    pub fn runs(&self) -> impl Iterator<Item = &Run> {
        std::iter::once(&self.before).chain(&self.after)
    }
}

/// Servers, a load, and what is to be found while it runs.
#[derive(Debug)]
pub struct Run {
    /// Sysctls of the namespace, below `net.` and with slashes for dots.
    pub sysctls: BTreeMap<String, String>,
    /// Servers, in the order in which they start.
    pub servers: Vec<Server>,
    /// What makes the connections.
    pub load: Load,
    /// Environment of the load.
    pub env: BTreeMap<String, String>,
    /// After how many seconds the load and its children are killed. `None`: it ends by itself.
    pub seconds: Option<u64>,
    /// All findings that there must be.
    pub expected: Vec<Expected>,
}

/// A server.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// What [`Who`] calls it.
    pub name: String,
    /// The scenario goes on when something listens here, on 127.0.0.1 or on all addresses.
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

/// What makes the connections.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Load {
    /// A program with its arguments.
    Argv(Vec<String>),
    /// The text of a script for bash.
    Bash(String),
    /// A Python script beside the scenario's file.
    Python(String),
    /// wrk with eight connections for five seconds, towards a port's `page`.
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
    /// The finding that is behind it.
    pub cause: Option<String>,
    /// Whose doing it is.
    pub who: Who,
    /// The command's name; `None` where it is nobody's doing.
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
}

fn loopback() -> String {
    "127.0.0.1".to_owned()
}

/// Whose doing a finding is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// No process is named.
    Nobody,
    /// The process that is the load.
    Load,
    /// The child of the load that has the command's name.
    ChildOfLoad,
    /// Children of the load, many, none by itself.
    ChildrenOfLoad,
    /// So many children of the load together.
    WorkersOfLoad(u64),
    /// The server of that name.
    Server(String),
    /// The only child of the server of that name.
    WorkerOf(String),
}
