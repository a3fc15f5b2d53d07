//! nginx as a reverse proxy of nginx.

use super::stage::Stage;
use super::{Expected, Scene, Take, Who};

const FRONT: u16 = 8090;
const UPSTREAM: u16 = 8091;

pub(super) const WITHOUT_KEEPALIVE: Scene = Scene {
    name: "nginx proxy without keep-alive",
    programs: &["nginx", "wrk"],
    before: Take {
        sysctls: &[],
        servers: |stage| servers(stage, ""),
        load: |stage| stage.wrk(FRONT, 20),
        expected: Some(Expected {
            id: "no-connection-reuse",
            cause: None,
            who: Who::WorkerOf("proxy"),
            command: "nginx",
            role: "active",
            ports: &[UPSTREAM],
            advice: &["keep-alive", "pool-connections"],
            remedy: "keep-alive",
        }),
    },
    after: Some(QUIET),
};

pub(super) const WITH_KEEPALIVE: Scene =
    Scene { name: "nginx proxy with keep-alive", programs: &["nginx", "wrk"], before: QUIET, after: None };

const QUIET: Take = Take {
    sysctls: &[],
    servers: |stage| servers(stage, "proxy_http_version 1.1; proxy_set_header Connection \"\";"),
    load: |stage| stage.wrk(FRONT, 20),
    expected: None,
};

/// What keeps connections to the upstream open is the three things together.
fn servers(stage: &mut Stage, keep: &str) {
    stage.nginx("upstream", &format!("server {{ listen 127.0.0.1:{UPSTREAM}; }}"), UPSTREAM);
    let keepalive = if keep.is_empty() { "" } else { "keepalive 16;" };
    let front = format!(
        "upstream there {{ server 127.0.0.1:{UPSTREAM}; {keepalive} }}\n\
         server {{ listen 127.0.0.1:{FRONT}; location / {{ {keep} proxy_pass http://there; }} }}"
    );
    stage.nginx("proxy", &front, FRONT);
}
