//! `twtrace agent` under test, and a client that asks it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::tracer::{Place, program};

/// How long an answer, or a line, may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What comes before the address in the line that says where it answers.
const ANSWERING: &str = "answering on http://";

/// A running agent. Dropping this before its end kills it.
pub struct Agent<'a> {
    place: &'a Place,
    child: Child,
    said: Mutex<Receiver<String>>,
    address: SocketAddr,
    before: Vec<String>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// The lines before its body.
    pub head: String,
    /// Its body.
    pub body: String,
}

impl<'a> Agent<'a> {
    /// Starts it in a place with these arguments, on a port that the kernel chooses, and waits until it answers.
    ///
    /// # Panics
    /// If it cannot trace.
    pub fn start(place: &'a Place, arguments: &[&str]) -> Self {
        Self::start_by(place, Command::new(program("twtrace")), arguments)
    }

    /// The same, by a command to which the arguments are added.
    ///
    /// # Panics
    /// If it cannot trace.
    pub fn start_by(place: &'a Place, mut command: Command, arguments: &[&str]) -> Self {
        command.args(["agent", "--listen", "127.0.0.1:0", "--ring-bytes", "64M"]).args(arguments);
        let mut child = place.spawn({
            command.stderr(Stdio::piped()).stdout(Stdio::null());
            command
        });
        let error = child.stderr.take().expect("its standard error is piped");
        let (sender, said) = channel();
        thread::spawn(move || {
            BufReader::new(error).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let (mut before, mut address) = (Vec::new(), None);
        while address.is_none() {
            let line = said.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("it says where it answers: {before:?}"));
            address = line.split(ANSWERING).nth(1).and_then(|rest| rest.trim_end_matches('/').parse().ok());
            before.push(line);
        }
        let address = address.expect("the loop ends with an address");
        let agent = Self { place, child, said: Mutex::new(said), address, before };
        agent.wait("/healthz", |answer| answer.status == 200);
        agent
    }

    /// Where it answers, in its place.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it said until it answered, the line with its address included.
    pub fn before(&self) -> String {
        self.before.join("\n")
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A connection to it.
    ///
    /// # Panics
    /// If it does not accept.
    pub fn connect(&self) -> TcpStream {
        let address = self.address;
        let stream = self.place.run(move || TcpStream::connect(address)).expect("it accepts connections");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket has a time limit");
        stream
    }

    /// Asks for a path.
    ///
    /// # Panics
    /// If there is no answer.
    pub fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    }

    /// Sends a request as it is.
    ///
    /// # Panics
    /// If there is no answer.
    pub fn ask(&self, request: &str) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).expect("it reads the request");
        read(&mut stream)
    }

    /// Asks for JSON.
    ///
    /// # Panics
    /// If it is none.
    pub fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{answer:?}");
        serde_json::from_str(&answer.body).expect("it answers with JSON")
    }

    /// Asks until the answer is as expected.
    ///
    /// # Panics
    /// If it is not for a minute.
    pub fn wait(&self, path: &str, enough: impl Fn(&Answer) -> bool) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.get(path);
            if enough(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "{path} never becomes what it should: {answer:?}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// The next line on standard error that contains this.
    ///
    /// # Panics
    /// If there is none for a minute.
    pub fn said(&self, what: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let said = self.said.lock().expect("no reader panics");
            let line = said.recv_timeout(left).unwrap_or_else(|_| panic!("it never says {what:?}"));
            if line.contains(what) {
                return line;
            }
        }
    }

    /// Ends it with a signal, and returns what else it said.
    ///
    /// # Panics
    /// If it fails.
    pub fn end(mut self) -> String {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).expect("it runs");
        let status = self.child.wait().expect("a child can be waited for");
        let said = self.said.lock().expect("no reader panics").iter().collect::<Vec<_>>().join("\n");
        assert!(status.success(), "{status}: {said}");
        said
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads an answer to its end.
///
/// # Panics
/// If it is none.
pub fn read(stream: &mut impl std::io::Read) -> Answer {
    let mut bytes = Vec::new();
    // A server that closes with a request unread resets the connection after its answer.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).expect("it answers with text");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// The samples of a metric: labels and value.
///
/// # Panics
/// If a value is no number.
pub fn samples<'a>(page: &'a str, name: &str) -> Vec<(&'a str, f64)> {
    let of = |line: &'a str| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        (labels.is_empty() || labels.starts_with('{')).then(|| (labels, value.parse().expect("a number")))
    };
    page.lines().filter_map(of).collect()
}

/// Makes a certificate for this host's loopback names, and its key.
///
/// # Panics
/// If openssl does not.
pub fn certificate(certificate: &str, key: &str) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", certificate])
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{made:?}");
}
