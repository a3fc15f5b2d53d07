//! The environment of a run: a network namespace, a folder, and servers that end with it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::commands::{Texts, program};
use super::running::Running;
use super::{Load, Run, Server, Start};
use crate::software::{Postgres, listening, stop};
use crate::tracer::Place;

/// Length of the page that the servers have, in bytes.
const PAGE: usize = 400;

/// A namespace with servers. They are stopped when this is dropped.
pub struct TestBed {
    /// The namespace.
    pub place: Place,
    /// A folder for what they write, with a `page` of [`PAGE`] bytes.
    folder: TempDir,
    servers: Vec<(String, Child)>,
    postgres: Option<Postgres>,
}

impl TestBed {
    /// Starts the servers of a run and waits until they listen.
    ///
    /// # Panics
    /// If one does not start.
    pub fn of(run: &Run) -> Self {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        fs::write(folder.path().join("page"), "x".repeat(PAGE)).expect("root may write everywhere");
        let place = Place::new();
        for (name, value) in &run.sysctls {
            place.sysctl(name, value);
        }
        let mut bed = Self { place, folder, servers: Vec::new(), postgres: None };
        for server in &run.servers {
            bed.serve(server);
        }
        bed
    }

    /// Starts a server, waits until it listens, and runs its `then` command.
    fn serve(&mut self, server: &Server) {
        let texts = self.texts(Some(server.port));
        let command = match &server.start {
            Start::Argv(argv) => Some(texts.argv(argv)),
            Start::Nginx(http) => Some(texts.nginx(&server.name, http)),
            Start::Postgres => None,
        };
        let then = (!server.then.is_empty()).then(|| texts.argv(&server.then));
        if let Some(mut command) = command {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            self.servers.push((server.name.clone(), self.place.spawn(command)));
            listening(&self.place, server.port);
        } else {
            self.postgres = self.start_postgres(&server.name);
        }
        if let Some(then) = then {
            self.start(then, None).end();
        }
    }

    fn start_postgres(&self, name: &str) -> Option<Postgres> {
        let folder = self.folder.path().join(name);
        fs::create_dir(&folder).expect("each server has another name");
        // Its user must be able to reach its own folder.
        fs::set_permissions(self.folder.path(), Permissions::from_mode(0o755)).expect("root may change everything");
        Postgres::start(&self.place, &folder)
    }

    fn texts(&self, port: Option<u16>) -> Texts<'_> {
        Texts { folder: self.folder.path(), port }
    }

    /// Process id of a server.
    ///
    /// # Panics
    /// If no server has that name.
    pub fn server(&self, name: &str) -> u32 {
        let server = self.servers.iter().find(|(other, _)| other == name);
        server.unwrap_or_else(|| panic!("no server {name}")).1.id()
    }

    /// Process id of a server's only child.
    ///
    /// # Panics
    /// If it does not have exactly one.
    pub fn worker(&self, name: &str) -> u32 {
        let pid = self.server(name);
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("the server runs");
        let [worker] = children.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{name} has the children {children:?}");
        };
        worker.parse().expect("a process id is a number")
    }

    /// Starts the load of a run.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn load(&self, run: &Run) -> Running {
        let texts = self.texts(None);
        let mut command = match &run.load {
            Load::Argv(argv) => texts.argv(argv),
            Load::Bash(text) => texts.bash(text),
            Load::Python(file) => texts.argv(&["python3".to_owned(), format!("{{here}}/{file}")]),
            Load::Wrk { port, delay_ms } => texts.wrk(*port, *delay_ms),
            Load::Pgbench(arguments) => {
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                self.postgres.as_ref().expect("its programs are installed").pgbench(&arguments)
            }
        };
        command.envs(run.env.iter().map(|(name, value)| (name, texts.fill(value))));
        self.start(command, run.seconds.map(Duration::from_secs))
    }

    /// Starts a Python script, given as its text.
    pub(super) fn python(&self, text: &str) -> Running {
        let mut command = program("python3");
        command.args(["-c", text]);
        self.start(command, None)
    }

    fn start(&self, command: Command, time: Option<Duration>) -> Running {
        Running::start(&self.place, command, time)
    }
}

impl Drop for TestBed {
    fn drop(&mut self) {
        for (_, server) in &mut self.servers {
            stop(server);
        }
    }
}
