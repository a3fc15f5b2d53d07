//! Many short connections: each process opens a given number of them, to all destinations in turn, and counts them.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{OwnedFd, RawFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, pipe};
use serde::{Deserialize, Serialize};

use super::command::Who;
use super::sys::{self, Family, SockOption, borrow, owned};

/// Options of `churn`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Processes that connect
    #[arg(long, default_value_t = 1)]
    processes: u32,
    /// Destinations, each an address of its own
    #[arg(long, default_value_t = 64)]
    destinations: u8,
    /// Connections per round, of all processes together
    #[arg(long, default_value_t = 20_000)]
    connections: u64,
    /// Let the server close first
    #[arg(long)]
    server_closes: bool,
    /// Reset each connection instead of closing it: no TIME_WAIT socket is created
    #[arg(long, conflicts_with = "server_closes")]
    reset: bool,
    /// A byte each way before the end, as a request and its answer
    #[arg(long)]
    exchange: bool,
    /// Additional processes that open one connection each and exit without closing it
    #[arg(long, default_value_t = 0, conflicts_with_all = ["server_closes", "exchange"])]
    one_shots: u32,
    /// How many of these are started per second; 0 is as fast as possible
    #[arg(long, default_value_t = 0)]
    one_shot_rate: u32,
    /// Number of rounds; the one-shots run once
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    /// Minimum number of seconds from the beginning of a round to that of the next
    #[arg(long, default_value_t = 0)]
    round_seconds: u64,
}

/// Processes that opened one connection each.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct OneShots {
    /// The process that started them.
    pub parent: Who,
    /// Process ids, in the order of their start. An id may occur twice.
    pub pids: Vec<u32>,
}

/// The connections of one process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Worker {
    /// The process.
    pub who: Who,
    /// Connections opened.
    #[serde(rename = "made")]
    pub opened: u64,
    /// The same by destination.
    pub destinations: BTreeMap<SocketAddr, u64>,
}

/// The connections of all processes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Churned {
    /// The process that accepted all connections.
    pub server: Who,
    /// Those that connected.
    pub workers: Vec<Worker>,
    /// Processes that opened one connection each, if any were asked for.
    pub one_shots: Option<OneShots>,
    /// Connections in all: each has two ends on this host.
    pub connections: u64,
    /// Connections per second.
    pub rate_per_s: f64,
}

/// Churns, and writes one JSON object.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<()> {
    ensure!(args.processes > 0 && args.destinations > 0, "there must be at least one process and one destination");
    let listeners: Vec<(RawFd, SocketAddr)> = (1..=args.destinations).map(listen).collect::<Result<_>>()?;
    let services: Vec<SocketAddr> = listeners.iter().map(|listener| listener.1).collect();
    let server = spawn("churn-server", |_| serve(&listeners, args))?;
    for (fd, _) in &listeners {
        drop(owned(*fd));
    }
    let began = Instant::now();
    let mut workers = Vec::new();
    for number in 0..args.processes {
        let share = args.connections / u64::from(args.processes)
            + u64::from(u64::from(number) < args.connections % u64::from(args.processes));
        let services = services.clone();
        workers.push(spawn(&format!("churn-{number}"), |report| {
            let worker = connect(&services, share, number, args)?;
            let mut file = std::fs::File::from(report);
            serde_json::to_writer(&mut file, &worker)?;
            Ok(())
        })?);
    }
    let shots = (args.one_shots > 0).then(|| {
        let services = services.clone();
        spawn("churn-shots", |report| {
            let shots = shoot(&services, args)?;
            Ok(serde_json::to_writer(&mut std::fs::File::from(report), &shots)?)
        })
    });
    let shots = shots.transpose()?;
    let mut reports = Vec::new();
    for Child { pid, report } in workers {
        let worker: Worker = serde_json::from_reader(std::fs::File::from(report)).context("a process failed")?;
        waitpid(pid, None)?;
        reports.push(worker);
    }
    let one_shots = shots.map(|Child { pid, report }| {
        let shots: OneShots = serde_json::from_reader(std::fs::File::from(report)).context("a process failed")?;
        waitpid(pid, None)?;
        anyhow::Ok(shots)
    });
    let one_shots = one_shots.transpose()?;
    let seconds = began.elapsed().as_secs_f64();
    settle(&services)?;
    let who = super::process::who(server.pid.as_raw() as u32)?;
    kill(server.pid, Signal::SIGTERM)?;
    waitpid(server.pid, None)?;
    let connections = reports.iter().map(|worker| worker.opened).sum::<u64>() + u64::from(args.one_shots);
    let churned =
        Churned { server: who, workers: reports, one_shots, connections, rate_per_s: connections as f64 / seconds };
    serde_json::to_writer(&mut *out, &churned)?;
    writeln!(out)?;
    Ok(())
}

struct Child {
    pid: Pid,
    /// Its report, until it ends.
    report: OwnedFd,
}

/// Forks a process with this name, which does `work` and ends.
fn spawn(comm: &str, work: impl FnOnce(OwnedFd) -> Result<()>) -> Result<Child> {
    let (report, writer) = pipe()?;
    // SAFETY: the generator has one thread.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(Child { pid: child, report }),
        ForkResult::Child => {
            drop(report);
            let done = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)
                .map_err(anyhow::Error::from)
                .and_then(|()| Ok(sys::set_name(comm)?))
                .and_then(|()| work(writer));
            if let Err(error) = &done {
                let _ = writeln!(io::stderr(), "{comm}: {error:#}");
            }
            // SAFETY: `_exit` runs none of the generator's destructors and handlers.
            unsafe { libc::_exit(i32::from(done.is_err())) }
        }
    }
}

fn listen(host: u8) -> Result<(RawFd, SocketAddr)> {
    let fd = sys::open(Family::V4, libc::IPPROTO_TCP)?;
    sys::set(fd, SockOption::ReuseAddress)?;
    sys::bind(fd, (Ipv4Addr::new(127, 0, 1, host), 9000).into())?;
    sys::listen(fd)?;
    Ok((fd, sys::names(fd)?.local))
}

/// Accepts everything, from all listeners, and closes each connection before or after its client.
fn serve(listeners: &[(RawFd, SocketAddr)], args: &Args) -> Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::empty())?;
    for &(fd, _) in listeners {
        sys::set(fd, SockOption::NonBlocking)?;
        epoll.add(borrow(fd), EpollEvent::new(EpollFlags::EPOLLIN, fd as u64))?;
    }
    let mut events = [EpollEvent::empty(); 64];
    loop {
        let ready = epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in &events[..ready] {
            loop {
                let fd = match sys::accept(event.data() as RawFd) {
                    Ok(fd) => fd,
                    Err(nix::errno::Errno::EAGAIN) => break,
                    Err(errno) => return Err(errno.into()),
                };
                if args.exchange {
                    ensure!(sys::receive(fd)? == 1);
                    sys::send_byte(fd)?;
                }
                if !args.server_closes {
                    // The client's FIN.
                    match sys::receive(fd) {
                        Err(nix::errno::Errno::ECONNRESET) if args.reset => {}
                        received => ensure!(received? == 0),
                    }
                }
                sys::close(fd)?;
            }
        }
    }
}

fn connect(services: &[SocketAddr], share: u64, first: u32, args: &Args) -> Result<Worker> {
    let mut destinations = BTreeMap::new();
    let began = Instant::now();
    let rounds = (0..args.rounds).flat_map(|round| (0..share).map(move |number| (round, number)));
    for (round, number) in rounds {
        if number == 0 {
            let due = Duration::from_secs(args.round_seconds * u64::from(round));
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
        let service = services[((number + u64::from(first)) % services.len() as u64) as usize];
        let fd = sys::open(Family::V4, libc::IPPROTO_TCP)?;
        sys::connect(fd, service).with_context(|| format!("connection {number} to {service}"))?;
        if args.exchange {
            sys::send_byte(fd)?;
            ensure!(sys::receive(fd)? == 1);
        }
        if args.server_closes {
            ensure!(sys::receive(fd)? == 0);
        }
        if args.reset {
            sys::set(fd, SockOption::LingerZero)?;
        }
        sys::close(fd)?;
        *destinations.entry(service).or_default() += 1;
    }
    Ok(Worker { who: super::process::myself()?, opened: share * u64::from(args.rounds), destinations })
}

/// Starts `one_shots` processes, a few at a time. Each opens a connection and exits: the kernel closes it.
fn shoot(services: &[SocketAddr], args: &Args) -> Result<OneShots> {
    const AT_A_TIME: usize = 8;
    let mut shots = OneShots { parent: super::process::myself()?, pids: Vec::new() };
    let mut running = std::collections::VecDeque::new();
    let began = Instant::now();
    for (number, service) in (0..args.one_shots).zip(services.iter().cycle()) {
        if args.one_shot_rate > 0 {
            let due = Duration::from_secs_f64(f64::from(number) / f64::from(args.one_shot_rate));
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
        if running.len() == AT_A_TIME
            && let Some(oldest) = running.pop_front()
        {
            end_well(oldest)?;
        }
        let child = spawn("one-shot", |_| {
            let fd = sys::open(Family::V4, libc::IPPROTO_TCP)?;
            sys::connect(fd, *service).with_context(|| format!("a connection to {service}"))?;
            Ok(())
        })?;
        shots.pids.push(child.pid.as_raw() as u32);
        running.push_back(child.pid);
    }
    running.into_iter().try_for_each(end_well)?;
    Ok(shots)
}

fn end_well(pid: Pid) -> Result<()> {
    let status = waitpid(pid, None)?;
    ensure!(status == nix::sys::wait::WaitStatus::Exited(pid, 0), "a process failed: {status:?}");
    Ok(())
}

/// Waits until every connection to the services is closed on both sides: only listeners and TIME_WAIT sockets are left.
fn settle(services: &[SocketAddr]) -> Result<()> {
    let port = format!(":{:04X} ", services.first().map_or(0, SocketAddr::port));
    sys::until("the last connections to close", || {
        let table = std::fs::read_to_string("/proc/thread-self/net/sockstat")?;
        let orphans = field(&table, "orphan").unwrap_or(0);
        let inuse = field(&table, "inuse").unwrap_or(0);
        Ok((orphans == 0 && inuse <= services.len() as u64).then_some(()))
    })
    .or_else(|error| {
        // Other connections of this namespace may stay open: check those of the services one by one.
        let table = std::fs::read_to_string("/proc/thread-self/net/tcp")?;
        let open =
            table.lines().filter(|line| line.contains(&port) && !line.contains(" 06 ") && !line.contains(" 0A "));
        match open.count() {
            0 => Ok(()),
            open => bail!("{open} connections are still open: {error}"),
        }
    })
}

fn field(sockstat: &str, name: &str) -> Option<u64> {
    let line = sockstat.lines().find(|line| line.starts_with("TCP:"))?;
    let mut words = line.split_whitespace();
    words.find(|word| *word == name)?;
    words.next()?.parse().ok()
}
