//! The workers of one program, each of which opens a few connections a second.

use std::process::Command;

use super::stage::{Stage, python};
use super::{Expected, Scene, Take, Who};

const PORT: u16 = 8097;

pub(super) const SCENE: Scene = Scene {
    name: "workers of one program",
    programs: &["nginx", "python3"],
    before: Take {
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
    after: Some(Take { sysctls: &[], servers: nginx, load: |_| client("yes"), expected: None }),
};

fn nginx(stage: &mut Stage) {
    stage.web(PORT);
}

fn client(pool: &str) -> Command {
    let mut command = python(include_str!("workers.py"));
    command.env("POOL", pool);
    command
}
