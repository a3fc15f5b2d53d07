//! Redis, and a `redis-cli` for each command from a shell loop.

use std::process::Command;

use super::stage::{TestBed, program};
use super::{Expected, Run, Scenario, Who};

const PORT: u16 = 6399;

pub(super) const SCENE: Scenario = Scenario {
    name: "redis-cli from a shell loop",
    programs: &["redis-server", "redis-cli"],
    before: Run {
        sysctls: &[],
        servers: redis,
        load: |stage| stage.bash(&format!("{UNTIL}; do redis-cli -p {PORT} get x > /dev/null; done")),
        expected: Some(Expected {
            id: "fork-per-request",
            cause: None,
            who: Who::ChildrenOfLoad,
            command: "bash",
            role: "active",
            ports: &[PORT],
            advice: &["pool-connections", "keep-alive"],
            remedy: "pool-connections",
        }),
    },
    after: Some(Run {
        sysctls: &[],
        servers: redis,
        load: |stage| {
            stage.bash(&format!("{UNTIL}; do echo get x; sleep 0.005; done | redis-cli -p {PORT} > /dev/null"))
        },
        expected: None,
    }),
};

const UNTIL: &str = "PATH=/usr/bin:/bin; end=$((SECONDS + 5)); while ((SECONDS < end))";

fn redis(stage: &mut TestBed) {
    let mut command = Command::new(program("redis-server"));
    command.args(["--port", &PORT.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(stage.folder());
    stage.serve("redis", command, PORT);
    let mut set = Command::new(program("redis-cli"));
    set.args(["-p", &PORT.to_string(), "set", "x", &"x".repeat(300)]);
    assert_eq!(stage.start(set).end(), "OK\n");
}
