//! The workers of one program, each of which opens a few connections a second.

use std::process::Command;

use super::stage::{TestBed, python};
use super::{Expected, Run, Scenario, Who};

const PORT: u16 = 8097;

pub(super) const SCENE: Scenario = Scenario {
    name: "workers of one program",
    programs: &["nginx", "python3"],
    before: Run {
        sysctls: &[],
        servers: nginx,
        load: |_| client("no"),
        expected: Some(Expected {
            id: "no-connection-reuse",
            cause: None,
            who: Who::WorkersOfLoad(8),
            command: "python3",
            role: "active",
            ports: &[PORT],
            advice: &["pool-connections"],
            remedy: "pool-connections",
        }),
    },
    after: Some(Run { sysctls: &[], servers: nginx, load: |_| client("yes"), expected: None }),
};

fn nginx(stage: &mut TestBed) {
    stage.web(PORT);
}

fn client(pool: &str) -> Command {
    let mut command = python(include_str!("workers.py"));
    command.env("POOL", pool);
    command
}
