//! Python's own web server, which speaks HTTP/1.0 and closes first.
//!
//! wrk and most clients know from the answer's length that it is over, and then close as early as the server: with
//! those it is a race, and a matter of the client's. This client waits for the end, as HTTP/1.0 has it.

use std::process::Command;

use super::stage::{TestBed, program, python};
use super::{Expected, Run, Scenario, Who};

const PORT: u16 = 8097;

pub(super) const SCENE: Scenario = Scenario {
    name: "python3 -m http.server",
    programs: &["python3"],
    before: Run {
        sysctls: &[],
        servers: |stage| server(stage, "HTTP/1.0"),
        load: |_| python(include_str!("http_server.py")),
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
    after: Some(Run {
        sysctls: &[],
        servers: |stage| server(stage, "HTTP/1.1"),
        load: |_| python(include_str!("http_server.py")),
        expected: None,
    }),
};

fn server(stage: &mut TestBed, protocol: &str) {
    let mut command = Command::new(program("python3"));
    command.args(["-m", "http.server", "--bind", "127.0.0.1", "--protocol", protocol, "--directory"]);
    command.arg(stage.folder()).arg(PORT.to_string());
    stage.serve("http.server", command, PORT);
}
