//! Python's own web server, which speaks HTTP/1.0 and closes first.

use std::process::Command;

use super::stage::{Stage, program};
use super::{Expected, Scene, Take, Who};

const PORT: u16 = 8097;

pub(super) const SCENE: Scene = Scene {
    name: "python3 -m http.server",
    programs: &["python3", "wrk"],
    before: Take {
        sysctls: &[],
        servers: |stage| server(stage, "HTTP/1.0"),
        load: |stage| stage.wrk(PORT, 20),
        expected: Some(Expected {
            id: "server-closes-first",
            cause: None,
            who: Who::Server("http.server"),
            command: "python3",
            role: "passive",
            ports: &[PORT],
            advice: &["keep-alive", "let-peer-close"],
            remedy: "keep-alive",
        }),
    },
    after: Some(Take {
        sysctls: &[],
        servers: |stage| server(stage, "HTTP/1.1"),
        load: |stage| stage.wrk(PORT, 20),
        expected: None,
    }),
};

fn server(stage: &mut Stage, protocol: &str) {
    let mut command = Command::new(program("python3"));
    command.args(["-m", "http.server", "--bind", "127.0.0.1", "--protocol", protocol, "--directory"]);
    command.arg(stage.folder()).arg(PORT.to_string());
    stage.serve("http.server", command, PORT);
}
