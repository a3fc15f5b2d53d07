//! A client that uses up its 500 ports towards one destination; the same where timewait sockets are reused.

use std::process::Command;

use super::stage::{TestBed, python};
use super::{Expected, Run, Scenario, Who};

const PORT: u16 = 8095;
const RANGE: (&str, &str) = ("ipv4/ip_local_port_range", "40000 40499");
const REUSE: &[(&str, &str)] = &[RANGE, ("ipv4/tcp_tw_reuse", "1")];

/// See [`super::ALL`].
pub(super) const WITHOUT_REUSE: Scenario = Scenario {
    name: "exhaustion, tcp_tw_reuse 0",
    programs: &["nginx", "python3"],
    before: Run {
        sysctls: &[RANGE, ("ipv4/tcp_tw_reuse", "0")],
        servers: nginx,
        load: |_| client("no"),
        expected: Some(Expected {
            id: "exhaustion-reached",
            cause: Some("no-connection-reuse"),
            // What is advised first may be better than what can be tried here without another client.
            advice: &["pool-connections", "tcp-tw-reuse"],
            remedy: "tcp-tw-reuse",
            ..NO_REUSE
        }),
    },
    after: Some(CHURN),
};

/// See [`super::ALL`].
pub(super) const WITH_REUSE: Scenario = Scenario {
    name: "the same, tcp_tw_reuse 1",
    programs: &["nginx", "python3"],
    before: CHURN,
    after: Some(Run { sysctls: REUSE, servers: nginx, load: |_| client("yes"), expected: None }),
};

const CHURN: Run = Run { sysctls: REUSE, servers: nginx, load: |_| client("no"), expected: Some(NO_REUSE) };

const NO_REUSE: Expected = Expected {
    id: "no-connection-reuse",
    cause: None,
    who: Who::Load,
    command: "python3",
    role: "active",
    ports: &[PORT],
    advice: &["pool-connections"],
    remedy: "pool-connections",
};

fn nginx(stage: &mut TestBed) {
    stage.web(PORT);
}

fn client(pool: &str) -> Command {
    let mut command = python(include_str!("exhaustion.py"));
    command.env("POOL", pool);
    command
}
