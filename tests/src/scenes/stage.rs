//! Where a scenario is played: a network namespace, a folder, and servers that end with it.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::Run;
use crate::software::{Postgres, installed, listening, stop};
use crate::tracer::Place;

/// Length of the pages that the servers have, in bytes.
pub const PAGE: usize = 400;

/// A namespace with servers. They are stopped when this is dropped.
pub struct TestBed {
    /// The namespace.
    pub place: Place,
    /// A folder for what they write, with a `page` of [`PAGE`] bytes.
    folder: TempDir,
    servers: Vec<(&'static str, Child)>,
    /// PostgreSQL, when the scenario has it.
    pub postgres: Option<Postgres>,
}

impl TestBed {
    /// With the servers of a take up and listening.
    ///
    /// # Panics
    /// When one does not start.
    pub fn of(take: &Run) -> Self {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        fs::write(folder.path().join("page"), "x".repeat(PAGE)).expect("root may write everywhere");
        let place = Place::new();
        for (name, value) in take.sysctls {
            place.sysctl(name, value);
        }
        let mut stage = Self { place, folder, servers: Vec::new(), postgres: None };
        (take.servers)(&mut stage);
        stage
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a server, and waits until it listens on that port of 127.0.0.1 or of all addresses.
    pub fn serve(&mut self, name: &'static str, mut command: Command, port: u16) {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.servers.push((name, self.place.spawn(command)));
        listening(&self.place, port);
    }

    /// Process id of a server.
    ///
    /// # Panics
    /// When there is none of that name.
    pub fn server(&self, name: &str) -> u32 {
        let server = self.servers.iter().find(|(other, _)| *other == name);
        server.unwrap_or_else(|| panic!("no server {name}")).1.id()
    }

    /// Process id of a server's only child.
    ///
    /// # Panics
    /// When it has another number of them.
    pub fn worker(&self, name: &str) -> u32 {
        let pid = self.server(name);
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("the server runs");
        let [worker] = children.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{name} has the children {children:?}");
        };
        worker.parse().expect("a process id is a number")
    }

    /// A web server on a port of its own that keeps connections for as long as the client does.
    ///
    /// # Panics
    /// When it does not start.
    pub fn web(&mut self, port: u16) {
        self.nginx("web", &format!("server {{ listen 127.0.0.1:{port}; keepalive_requests 100000; }}"), port);
    }

    /// nginx with one worker, a folder of its own and that inside `http { }`. It serves `page` wherever its root is
    /// `$folder`.
    ///
    /// # Panics
    /// When it is not installed, or does not start.
    pub fn nginx(&mut self, name: &'static str, http: &str, port: u16) {
        let folder = self.folder().join(name);
        fs::create_dir(&folder).expect("each server has another name");
        let (path, root) = (folder.display(), self.folder().display());
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("{what}_temp_path {path}/{what}; "))
            .concat();
        let text = format!(
            "daemon off; pid {path}/pid; error_log {path}/error; user root; worker_processes 1;\n\
             events {{}}\nhttp {{ access_log off; root {root}; {temporary}\n{http}\n}}\n"
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, text).expect("root may write everywhere");
        let mut command = Command::new(program("nginx"));
        command.arg("-c").arg(file);
        self.serve(name, command, port);
    }

    /// A script of [`Self::folder`], by bash.
    pub fn bash(&self, text: &str) -> Command {
        let file = self.folder().join("load.sh");
        fs::write(&file, text).expect("root may write everywhere");
        let mut command = Command::new("/bin/bash");
        command.arg(file);
        command
    }

    /// wrk with eight connections for five seconds towards a port's `page`, each of which waits some milliseconds
    /// before each request: a load, and no contest.
    pub fn wrk(&self, port: u16, delay_ms: u32) -> Command {
        let script = self.folder().join("delay.lua");
        fs::write(&script, format!("function delay() return {delay_ms} end\n")).expect("root may write everywhere");
        let mut command = Command::new(program("wrk"));
        command.args(["-t", "1", "-c", "8", "-d", "5s", "-H", "Accept: text/html,application/xhtml+xml;q=0.9,*/*"]);
        command.args(["-H", "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"]);
        command.arg("-s").arg(script).arg(format!("http://127.0.0.1:{port}/page"));
        command
    }

    /// Starts the load. Its standard output can be read.
    pub fn start(&self, mut command: Command) -> Load {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        Load(Some(self.place.spawn(command)))
    }
}

impl Drop for TestBed {
    fn drop(&mut self) {
        for (_, server) in &mut self.servers {
            stop(server);
        }
    }
}

/// What makes the connections. It is killed when this is dropped before its end.
pub struct Load(Option<Child>);

impl Load {
    /// Process id.
    ///
    /// # Panics
    /// Never while it is not ended.
    pub fn pid(&self) -> u32 {
        self.0.as_ref().expect("it is there until it ends").id()
    }

    /// Whether it still runs.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn runs(&mut self) -> bool {
        let child = self.0.as_mut().expect("it is there until it ends");
        child.try_wait().expect("a child can be waited for").is_none()
    }

    /// Waits for its end, and gives what it printed.
    ///
    /// # Panics
    /// When it fails.
    pub fn end(mut self) -> String {
        let child = self.0.take().expect("it ends once");
        let output = child.wait_with_output().expect("a child can be waited for");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "the load failed: {printed}");
        printed
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A client of [`super`]'s, by Debian's Python, whatever else comes first in the path.
pub fn python(text: &str) -> Command {
    let mut command = Command::new(program("python3"));
    command.args(["-c", text]);
    command
}

/// Where a program is.
///
/// # Panics
/// When it is not installed, which the scenario was asked before it began.
pub fn program(name: &str) -> std::path::PathBuf {
    installed(name).unwrap_or_else(|| panic!("{name} is not installed"))
}
