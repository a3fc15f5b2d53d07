//! Third-party servers and clients.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};

use crate::require::skip;
use crate::tracer::Place;

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// The path of a program, if this machine has it.
pub fn installed(name: &str) -> Option<PathBuf> {
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|e| e.path().join("bin"));
    let folders = debian.chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Waits until something listens on a port of the place.
///
/// # Panics
/// If nothing does for half a minute.
pub fn listening(place: &Place, port: u16) {
    let wanted = format!(":{port:04X} 00000000:0000 0A");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let table = place.run(|| fs::read_to_string("/proc/thread-self/net/tcp")).expect("the kernel has TCP");
        if table.contains(&wanted) {
            return;
        }
        assert!(Instant::now() < deadline, "nothing listens on port {port}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Sends SIGTERM to a server and waits until it has ended.
pub fn stop(server: &mut Child) {
    let _ = kill(Pid::from_raw(server.id() as i32), Signal::SIGTERM);
    let _ = server.wait();
}

/// A PostgreSQL server with a data directory of its own. It is stopped when this is dropped.
#[derive(Debug)]
pub struct Postgres {
    server: Child,
    pgbench: PathBuf,
    /// What `pgbench` runs repeatedly.
    script: PathBuf,
}

impl Postgres {
    /// Where it listens, on 127.0.0.1.
    pub const PORT: u16 = 5499;

    /// Starts it in a place, with its files in a folder whose owner becomes the user `postgres`. If it is not
    /// installed, reports a skip.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(place: &Place, folder: &Path) -> Option<Self> {
        let programs = ["initdb", "postgres", "pgbench"].map(installed);
        let [Some(initdb), Some(postgres), Some(pgbench)] = programs else {
            skip("postgresql", "it is not installed");
            return None;
        };
        let Ok(Some(user)) = User::from_name("postgres") else {
            skip("postgresql", "it has no user");
            return None;
        };
        let data = folder.join("data");
        nix::unistd::chown(folder, Some(user.uid), Some(user.gid)).expect("root may give a folder away");
        let mut init = as_user(&initdb, &user);
        init.args(["--auth=trust", "--no-sync", "-D"]).arg(&data);
        assert!(init.status().expect("initdb can be run").success(), "initdb failed");
        let mut serve = as_user(&postgres, &user);
        serve.arg("-D").arg(&data).args(["-p", &Self::PORT.to_string(), "-c", "listen_addresses=127.0.0.1"]);
        serve.args(["-c", "fsync=off", "-k"]).arg(folder);
        let server = place.spawn(serve);
        let script = folder.join("one.sql");
        fs::write(&script, "SELECT 1;\n").expect("root may write everywhere");
        let postgres = Self { server, pgbench, script };
        listening(place, Self::PORT);
        Some(postgres)
    }

    /// pgbench with four clients that repeat a short transaction, to be run in the same place.
    pub fn pgbench(&self, arguments: &[&str]) -> Command {
        let mut bench = Command::new(&self.pgbench);
        bench.args(["-h", "127.0.0.1", "-p", &Self::PORT.to_string(), "-U", "postgres", "-n", "-c", "4"]);
        bench.args(arguments).arg("-f").arg(&self.script).arg("postgres");
        bench.stdin(Stdio::null()).stderr(Stdio::null());
        bench
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        stop(&mut self.server);
    }
}

/// A child that runs as another user.
fn as_user(program: &Path, user: &User) -> Command {
    let mut command = Command::new(program);
    command.uid(user.uid.as_raw()).gid(user.gid.as_raw()).env("LC_ALL", "C").current_dir("/");
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}
