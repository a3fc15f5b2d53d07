//! A client that binds before it connects: each of its connections takes a port towards all destinations.

use std::process::Command;

use super::stage::{TestBed, python};
use super::{Expected, Run, Scenario, Who};

const PORTS: [u16; 2] = [8093, 8094];

pub(super) const SCENE: Scenario = Scenario {
    name: "bind before connect",
    programs: &["nginx", "python3"],
    before: Run {
        sysctls: &[],
        servers: nginx,
        load: |_| client("no"),
        expected: Some(Expected {
            id: "bind-before-connect",
            cause: None,
            who: Who::Load,
            command: "python3",
            role: "active",
            ports: &PORTS,
            advice: &["bind-address-no-port"],
            remedy: "bind-address-no-port",
        }),
    },
    after: Some(Run { sysctls: &[], servers: nginx, load: |_| client("yes"), expected: None }),
};

fn nginx(stage: &mut TestBed) {
    let [one, two] = PORTS;
    let server = format!("server {{ listen 127.0.0.1:{one}; listen 127.0.0.1:{two}; keepalive_requests 100000; }}");
    stage.nginx("web", &server, one);
}

fn client(no_port: &str) -> Command {
    let mut command = python(include_str!("bind.py"));
    command.env("NO_PORT", no_port);
    command
}
