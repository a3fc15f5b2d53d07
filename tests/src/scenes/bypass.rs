//! A client that has a pool, and opens connections beside it.

use std::process::Command;

use super::stage::{Stage, python};
use super::{Expected, Scene, Take, Who};

const PORT: u16 = 8092;

pub(super) const SCENE: Scene = Scene {
    name: "pool and a bypass beside it",
    programs: &["nginx", "python3"],
    before: Take {
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
    after: Some(Take { sysctls: &[], servers: nginx, load: |_| client("no"), expected: None }),
};

fn nginx(stage: &mut Stage) {
    stage.web(PORT);
}

fn client(bypass: &str) -> Command {
    let mut command = python(include_str!("bypass.py"));
    command.env("BYPASS", bypass);
    command
}
