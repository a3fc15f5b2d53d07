//! `twtrace drill`: something goes wrong where it does no harm, for people who want to see what twtrace says of it, and
//! whether their alerts fire.

use crate::cli::{DrillArgs, Part, Scene};
use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::{set_name, set_pdeathsig};
use nix::sys::signal::Signal;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Where the server listens.
const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8080);

/// The local ports of the namespace, which the client has used up after [`PORTS`] times [`PAUSE`].
const RANGE: &str = "40000 40099";
const PORTS: u32 = 100;

/// Between two connections.
const PAUSE: Duration = Duration::from_millis(100);

/// Plays the scene.
///
/// # Errors
/// There is no network namespace for it: that needs root.
pub fn run(args: &DrillArgs) -> anyhow::Result<ExitCode> {
    let Scene::Exhaustion = args.scene;
    match args.part {
        None => stage(args.duration),
        Some(Part::Server) => serve(),
        Some(Part::Client) => connect(args.duration),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// The process that sets the scene. The others end with it, and the namespace with them.
fn stage(duration: Duration) -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| match error {
        Errno::EPERM => anyhow::anyhow!("a network namespace of its own needs root: try sudo"),
        error => anyhow::Error::from(error).context("there is no network namespace for the drill"),
    })?;
    bring_up_loopback().context("cannot bring the loopback interface up")?;
    for (name, value) in [("ip_local_port_range", RANGE), ("tcp_tw_reuse", "0")] {
        std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value).with_context(|| format!("cannot set {name}"))?;
    }
    let mut server = Ended(start(Part::Server, duration)?);
    let mut ready = String::new();
    server.lines()?.read_line(&mut ready).context("the server of the drill has ended")?;
    say(&format!(
        "A process called drill-client has {PORTS} local ports to {SERVER}, and opens and closes {} connections a second: none is left \
         after {} s.\nSee it with `twtrace top` in another terminal. It ends after {} s, or with Ctrl-C, and leaves nothing \
         behind.",
        1000 / PAUSE.as_millis(),
        u128::from(PORTS) * PAUSE.as_millis() / 1000,
        duration.as_secs(),
    ));
    let mut client = Ended(start(Part::Client, duration)?);
    for line in client.lines()?.lines() {
        say(&line.context("the client of the drill has ended")?);
    }
    let status = client.0.wait().context("cannot wait for the client")?;
    if !status.success() {
        bail!("the client of the drill has failed");
    }
    Ok(())
}

/// A process that ends with this.
struct Ended(Child);

impl Ended {
    fn lines(&mut self) -> anyhow::Result<BufReader<impl io::Read>> {
        self.0.stdout.take().map(BufReader::new).context("it has no output")
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a process of the scene under a name of its own.
fn start(part: Part, duration: Duration) -> anyhow::Result<Child> {
    let (name, part) = match part {
        Part::Client => ("drill-client", "client"),
        Part::Server => ("drill-server", "server"),
    };
    let mut command = Command::new("/proc/self/exe");
    command.arg0(name).args(["drill", "exhaustion", "--part", part, "--duration"]);
    command.arg(format!("{}ms", duration.as_millis())).stdin(Stdio::null()).stdout(Stdio::piped());
    command.spawn().with_context(|| format!("cannot start the {part} of the drill"))
}

/// This process ends with the one that started it, and is called that.
fn be(name: &std::ffi::CStr) -> anyhow::Result<()> {
    set_name(name)?;
    set_pdeathsig(Signal::SIGKILL).context("cannot end with the drill")
}

fn serve() -> anyhow::Result<()> {
    be(c"drill-server")?;
    let listener = TcpListener::bind(SERVER).with_context(|| format!("cannot listen on {SERVER}"))?;
    say("ready");
    loop {
        let (mut stream, _) = listener.accept()?;
        // The client closes first, and keeps the TIME_WAIT socket.
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

fn connect(duration: Duration) -> anyhow::Result<()> {
    be(c"drill-client")?;
    let began = Instant::now();
    let (mut opened, mut failed) = (0_u32, 0_u32);
    for number in 1.. {
        match TcpStream::connect(SERVER) {
            Ok(mut stream) => {
                opened += 1;
                let _ = stream.write_all(b"x");
            }
            Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => {
                if failed == 0 {
                    say(&format!(
                        "after {} s and {opened} connections connect(2) fails: EADDRNOTAVAIL, no local port is left",
                        began.elapsed().as_secs()
                    ));
                }
                failed += 1;
            }
            Err(error) => return Err(error).with_context(|| format!("cannot connect to {SERVER}")),
        }
        if began.elapsed() >= duration {
            break;
        }
        sleep((PAUSE * number).saturating_sub(began.elapsed()));
    }
    say(&format!("{opened} connections, {failed} failed"));
    Ok(())
}

/// `ip link set lo up`: a new namespace has it down.
fn bring_up_loopback() -> io::Result<()> {
    // SAFETY: socket(2) takes numbers alone.
    let socket = Errno::result(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the descriptor is new, and nothing else closes it.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: an ifreq is plain bytes, for which all zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS takes a struct ifreq, which outlives the call.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) })?;
    Ok(())
}

/// A line on standard output. It is lost if its reader is gone, which is no error.
fn say(line: &str) {
    let mut out = io::stdout();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
