//! Sockets that stay open: a process listens or connects, reports its sockets and waits until it has to end.

use std::io::{self, Read as _, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::{Result, bail};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, fork, pause};
use serde::{Deserialize, Serialize};

use super::command::Who;
use super::process::{myself, who};
use super::sys;

/// Options of `keep-open`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Listen on a port that the kernel chooses, and accept every connection until standard input ends
    #[arg(long, conflicts_with = "connect")]
    listen: bool,
    /// Connect to this address
    #[arg(long)]
    connect: Option<SocketAddr>,
    /// Number of connections
    #[arg(long, default_value_t = 1)]
    connections: u32,
    /// Fork a child that has the same descriptors
    #[arg(long)]
    share: bool,
}

/// The sockets that a process has open.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OpenSockets {
    /// The process.
    pub who: Who,
    /// Its child, which has the same sockets.
    pub child: Option<Who>,
    /// Where it listens, or is connected to.
    pub address: SocketAddr,
}

/// Keeps the sockets open until standard input ends. Then a listener closes what it accepted.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<()> {
    if args.listen {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        sys::set_name("open-listener")?;
        say(out, &OpenSockets { who: myself()?, child: None, address: listener.local_addr()? })?;
        std::thread::spawn(move || {
            let mut accepted = Vec::new();
            while let Ok((stream, _)) = listener.accept() {
                accepted.push(stream);
            }
        });
        return Ok(io::stdin().read_to_end(&mut Vec::new()).map(drop)?);
    }
    let Some(address) = args.connect else { bail!("either --listen or --connect") };
    let streams: Vec<TcpStream> =
        (0..args.connections).map(|_| TcpStream::connect(address)).collect::<io::Result<_>>()?;
    sys::set_name("open-client")?;
    let child = if args.share { Some(share()?) } else { None };
    say(out, &OpenSockets { who: myself()?, child, address })?;
    io::stdin().read_to_end(&mut Vec::new())?;
    drop(streams);
    Ok(())
}

fn say(out: &mut dyn Write, sockets: &OpenSockets) -> Result<()> {
    writeln!(out, "{}", serde_json::to_string(sockets)?)?;
    Ok(out.flush()?)
}

/// A child that does nothing, and ends with its parent.
fn share() -> Result<Who> {
    // SAFETY: this process has one thread.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(who(child.as_raw().cast_unsigned())?),
        ForkResult::Child => {
            let _ = set_pdeathsig(Signal::SIGKILL);
            loop {
                pause();
            }
        }
    }
}
