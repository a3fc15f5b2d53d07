//! Arguments of `drill`.

use super::parse;
use clap::{Args, ValueEnum};
use std::time::Duration;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scene {
    /// A client uses up its 100 local ports within 10 seconds, and its connects fail until the first TIME_WAIT sockets end
    Exhaustion,
}

/// A process of a drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// It opens and closes connections.
    Client,
    /// It accepts them.
    Server,
}

/// Arguments of `drill`.
#[derive(Clone, Debug, Args)]
pub struct DrillArgs {
    /// What goes wrong
    #[arg(value_enum)]
    pub scene: Scene,

    /// How long: 500ms, 5s, 2m, 1h, or seconds
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse::duration)]
    pub duration: Duration,

    /// Which process this is.
    #[arg(long, value_enum, hide = true)]
    pub part: Option<Part>,
}

pub(super) const DRILL_EXAMPLES: &str = "\
Examples:
  twtrace drill exhaustion                   for a minute; look at it with `twtrace top` in another terminal
  twtrace drill exhaustion --duration 5m     until an alert has had the time to fire

It runs in a network namespace of its own, touches no other process, and leaves nothing behind.";
