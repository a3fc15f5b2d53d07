//! A user with a great many network namespaces, one for each of its processes.

use std::io::{self, Read as _, Write};

use anyhow::Result;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, Uid, fork, pause, pipe, setuid};

/// Options of `crowd`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Number of namespaces
    #[arg(long)]
    namespaces: u32,
    /// The user
    #[arg(long)]
    uid: u32,
}

/// Creates them, writes a line, and keeps them until standard input ends.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<()> {
    let (ready, tell) = pipe()?;
    for _ in 0..args.namespaces {
        // SAFETY: this process has one thread.
        if let ForkResult::Child = unsafe { fork() }? {
            unshare(CloneFlags::CLONE_NEWNET)?;
            setuid(Uid::from_raw(args.uid))?;
            // After setuid, which clears it.
            set_pdeathsig(Signal::SIGKILL)?;
            nix::unistd::write(&tell, b".")?;
            loop {
                pause();
            }
        }
    }
    drop(tell);
    io::Read::read_exact(&mut std::fs::File::from(ready), &mut vec![0; args.namespaces as usize])?;
    writeln!(out, "{}", args.namespaces)?;
    out.flush()?;
    Ok(io::stdin().read_to_end(&mut Vec::new()).map(drop)?)
}
