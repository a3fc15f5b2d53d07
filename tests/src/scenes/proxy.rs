//! nginx as a reverse proxy of nginx.

use super::stage::TestBed;
use super::{Expected, Run, Scenario, Who};

const FRONT: u16 = 8090;
const UPSTREAM: u16 = 8091;

/// nginx as it comes: it speaks HTTP/1.0 with the upstream and asks it to close, which the upstream then does first.
pub(super) const WITHOUT_KEEPALIVE: Scenario = Scenario {
    name: "nginx proxy without keep-alive",
    programs: &["nginx", "wrk"],
    before: Run {
        sysctls: &[],
        servers: |stage| servers(stage, "", ""),
        load: |stage| stage.wrk(FRONT, 20),
        expected: Some(NO_REUSE),
    },
    after: Some(QUIET),
};

/// The proxy asks for no end of the connection, and has no place where to keep it: it closes first.
pub(super) const WITHOUT_POOL: Scenario = Scenario {
    name: "nginx proxy, HTTP/1.1 and no pool",
    programs: &["nginx", "wrk"],
    before: Run {
        sysctls: &[],
        servers: |stage| servers(stage, KEEP, ""),
        load: |stage| stage.wrk(FRONT, 20),
        expected: Some(NO_REUSE),
    },
    after: Some(QUIET),
};

pub(super) const WITH_KEEPALIVE: Scenario =
    Scenario { name: "nginx proxy with keep-alive", programs: &["nginx", "wrk"], before: QUIET, after: None };

const QUIET: Run = Run {
    sysctls: &[],
    servers: |stage| servers(stage, KEEP, "keepalive 16;"),
    load: |stage| stage.wrk(FRONT, 20),
    expected: None,
};

const NO_REUSE: Expected = Expected {
    id: "no-connection-reuse",
    cause: None,
    who: Who::WorkerOf("proxy"),
    command: "nginx",
    role: "active",
    ports: &[UPSTREAM],
    advice: &["keep-alive", "pool-connections"],
    remedy: "pool-connections",
};

const KEEP: &str = "proxy_http_version 1.1; proxy_set_header Connection \"\";";

/// What keeps connections to the upstream open is the three things together.
fn servers(stage: &mut TestBed, keep: &str, pool: &str) {
    stage.nginx("upstream", &format!("server {{ listen 127.0.0.1:{UPSTREAM}; }}"), UPSTREAM);
    let front = format!(
        "upstream there {{ server 127.0.0.1:{UPSTREAM}; {pool} }}\n\
         server {{ listen 127.0.0.1:{FRONT}; location / {{ {keep} proxy_pass http://there; }} }}"
    );
    stage.nginx("proxy", &front, FRONT);
}
