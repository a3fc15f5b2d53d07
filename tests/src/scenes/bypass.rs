//! A client that has a pool, and opens connections beside it.

use std::process::Command;

use super::stage::{TestBed, python};
use super::{Expected, Run, Scenario, Who};

const PORT: u16 = 8092;

pub(super) const SCENE: Scenario = Scenario {
    name: "pool and a bypass beside it",
    programs: &["nginx", "python3"],
    before: Run {
        sysctls: &[],
        servers: nginx,
        load: |_| client("yes"),
        expected: Some(Expected {
            id: "pool-bypassed",
            cause: None,
            who: Who::Load,
            command: "python3",
            role: "active",
            ports: &[PORT],
            advice: &["pool-connections"],
            remedy: "pool-connections",
        }),
    },
    after: Some(Run { sysctls: &[], servers: nginx, load: |_| client("no"), expected: None }),
};

fn nginx(stage: &mut TestBed) {
    stage.web(PORT);
}

fn client(bypass: &str) -> Command {
    let mut command = python(include_str!("bypass.py"));
    command.env("BYPASS", bypass);
    command
}
