//! PostgreSQL, and a connection for each transaction.

use std::process::Command;

use super::stage::TestBed;
use super::{Expected, Run, Scenario, Who};
use crate::software::Postgres;

pub(super) const SCENE: Scenario = Scenario {
    name: "pgbench -C",
    programs: &["initdb", "postgres", "pgbench"],
    before: Run {
        sysctls: &[],
        servers: postgres,
        load: |stage| bench(stage, &["-C"]),
        expected: Some(Expected {
            id: "no-connection-reuse",
            cause: None,
            who: Who::Load,
            command: "pgbench",
            role: "active",
            ports: &[Postgres::PORT],
            advice: &["pool-connections"],
            remedy: "pool-connections",
        }),
    },
    after: Some(Run { sysctls: &[], servers: postgres, load: |stage| bench(stage, &[]), expected: None }),
};

fn postgres(stage: &mut TestBed) {
    let folder = stage.folder().join("postgres");
    std::fs::create_dir(&folder).expect("it is not there yet");
    // Its user must be able to reach its own folder.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(stage.folder(), open).expect("root may change everything");
    stage.postgres = Postgres::start(&stage.place, &folder);
}

/// Four clients, no faster than a hundred transactions a second.
fn bench(stage: &TestBed, arguments: &[&str]) -> Command {
    let postgres = stage.postgres.as_ref().expect("its programs are installed");
    postgres.pgbench(&[&["-T", "5", "-R", "100"], arguments].concat())
}
