//! Who opens and who closes: processes that fork, exec, pass descriptors on, exit, or call from a thread or io_uring.

use anyhow::Result;

use super::{ALL, Case, Ends, PLAIN, Pair, TestBed};
use crate::require::skip;
use crate::workload::actor::Worker;
use crate::workload::command::{Answer, Command, How, Who};
use crate::workload::diag::TupleState;
use crate::workload::sys::Event;

pub(super) const CASES: &[Case] = &[
    Case { name: "fork-after-open", families: ALL, play: fork_after_open },
    Case { name: "descriptor-handed-over", families: ALL, play: handed_over },
    Case { name: "accepted-descriptor-handed-over", families: PLAIN, play: accepted_handed_over },
    Case { name: "exec-after-open", families: ALL, play: exec_after_open },
    Case { name: "exit-without-close", families: ALL, play: exit_without_close },
    Case { name: "killed", families: ALL, play: killed },
    Case { name: "named-threads", families: ALL, play: named_threads },
    Case { name: "prefork-server", families: ALL, play: prefork_server },
    Case { name: "io-uring", families: PLAIN, play: io_uring },
    Case { name: "io-uring-worker", families: PLAIN, play: io_uring_worker },
    Case { name: "io-uring-server", families: PLAIN, play: io_uring_server },
    Case { name: "io-uring-without-descriptor", families: PLAIN, play: io_uring_without_descriptor },
    Case { name: "io-uring-server-without-descriptor", families: PLAIN, play: io_uring_server_without_descriptor },
    Case { name: "32-bit-caller", families: PLAIN, play: compat_caller },
    Case { name: "left-in-unix-sockets", families: PLAIN, play: left_in_unix_sockets },
];

/// The rest of a case in which the client's side was closed first: the server follows.
fn follow(bed: &mut TestBed, ends: &Ends, pair: Pair, opener: &Who, closer: &Who) -> Result<()> {
    let server = &ends.server;
    server.wait_tuple(pair.from, pair.to, TupleState::TimewaitFinWait2)?;
    server.wait(pair.s, Event::PeerClosed)?;
    server.close(pair.s)?;
    ends.settle(pair)?;
    bed.active(server, pair, [Some(opener), Some(closer)], "fin_wait2_timewait")?;
    bed.passive(server, pair, [Some(&server.who); 2], "passive_close")
}

fn fork_after_open(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::new(bed.family)?;
    let pair = ends.pair(bed.family)?;
    let child = ends.client.fork("tw-child")?;
    // The first of the two closes nothing but its own descriptor.
    ends.client.close(pair.c)?;
    child.close(pair.c)?;
    follow(bed, &ends, pair, &ends.client.who, &child.who)
}

fn handed_over(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::new(bed.family)?;
    let pair = ends.pair(bed.family)?;
    let receiver = Worker::new("tw-receiver")?;
    let fd = ends.client.hand(pair.c, &receiver)?;
    ends.client.close(pair.c)?;
    receiver.close(fd)?;
    follow(bed, &ends, pair, &ends.client.who, &receiver.who)
}

fn accepted_handed_over(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::new(bed.family)?;
    let pair = ends.pair(bed.family)?;
    let (client, server) = (&ends.client, &ends.server);
    let receiver = Worker::new("tw-receiver")?;
    let fd = server.hand(pair.s, &receiver)?;
    server.close(pair.s)?;
    receiver.close(fd)?;
    client.wait_tuple(pair.to, pair.from, TupleState::TimewaitFinWait2)?;
    client.close(pair.c)?;
    ends.settle(pair)?;
    bed.passive(server, pair, [Some(&server.who), Some(&receiver.who)], "fin_wait2_timewait")?;
    bed.active(client, pair, [Some(&client.who); 2], "passive_close")
}

fn exec_after_open(bed: &mut TestBed) -> Result<()> {
    let mut ends = Ends::new(bed.family)?;
    let pair = ends.pair(bed.family)?;
    let before = ends.client.who.clone();
    ends.client.exec("tw-executed")?;
    anyhow::ensure!(ends.client.who.pid == before.pid && ends.client.who.comm == "tw-executed");
    ends.client.close(pair.c)?;
    follow(bed, &ends, pair, &before, &ends.client.who)
}

fn exit_without_close(bed: &mut TestBed) -> Result<()> {
    let mut ends = Ends::new(bed.family)?;
    let pair = ends.pair(bed.family)?;
    ends.client.exit()?;
    follow(bed, &ends, pair, &ends.client.who, &ends.client.who)
}

fn killed(bed: &mut TestBed) -> Result<()> {
    let mut ends = Ends::new(bed.family)?;
    let pair = ends.pair(bed.family)?;
    ends.client.kill()?;
    follow(bed, &ends, pair, &ends.client.who, &ends.client.who)
}

/// Threads may have any name: the process has the name of its group leader.
fn named_threads(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::new(bed.family)?;
    let c = ends.client.open(bed.family)?;
    let thread = |name: &str| How::Thread(name.to_owned());
    let pair = ends.join(c, &thread("tw-connects"), &thread("tw-accepts"))?;
    ends.client.execute(&Command::Close { fd: c, how: thread("tw-closes") })?;
    follow(bed, &ends, pair, &ends.client.who, &ends.client.who)
}

/// The child accepts from the listener that its parent opened.
fn prefork_server(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::new(bed.family)?;
    let worker = ends.server.fork("tw-worker")?;
    let (client, server) = (&ends.client, &ends.server);
    let c = client.open(bed.family)?;
    anyhow::ensure!(client.connect(c, ends.service, &How::Plain)? == 0);
    let s = worker.accept(ends.listener, &How::Plain)?;
    let pair = Pair { c, s, from: client.names(c)?.local, to: ends.service };
    worker.close(s)?;
    client.wait_tuple(pair.to, pair.from, TupleState::TimewaitFinWait2)?;
    client.close(c)?;
    ends.settle(pair)?;
    bed.passive(server, pair, [Some(&worker.who); 2], "fin_wait2_timewait")?;
    bed.active(client, pair, [Some(&client.who); 2], "passive_close")
}

fn io_uring(bed: &mut TestBed) -> Result<()> {
    by_ring(bed, &How::Ring)
}

/// A kernel worker thread that belongs to the process executes the calls.
fn io_uring_worker(bed: &mut TestBed) -> Result<()> {
    by_ring(bed, &How::RingWorker)
}

fn by_ring(bed: &mut TestBed, how: &How) -> Result<()> {
    let ends = Ends::new(bed.family)?;
    if !has_ring(&ends.client)? {
        return Ok(());
    }
    let c = ends.client.open(bed.family)?;
    let pair = ends.join(c, how, &How::Plain)?;
    ends.client.execute(&Command::Close { fd: c, how: how.clone() })?;
    follow(bed, &ends, pair, &ends.client.who, &ends.client.who)
}

/// accept through io_uring is not an accept system call: only a hook on `inet_csk_accept` sees it.
fn io_uring_server(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::new(bed.family)?;
    let (client, server) = (&ends.client, &ends.server);
    if !has_ring(server)? {
        return Ok(());
    }
    let c = client.open(bed.family)?;
    let pair = ends.join(c, &How::Plain, &How::Ring)?;
    server.execute(&Command::Shutdown { fd: pair.s, both: false, how: How::RingWorker })?;
    client.wait(c, Event::PeerClosed)?;
    client.close(c)?;
    client.wait_tuple(pair.to, pair.from, TupleState::TimeWait)?;
    ends.settle(pair)?;
    server.execute(&Command::Close { fd: pair.s, how: How::Ring })?;
    bed.passive(server, pair, [Some(&server.who); 2], "time_wait")?;
    bed.last()?.accepted_out_of_sight = true;
    bed.active(client, pair, [Some(&client.who); 2], "passive_close")
}

/// The ring alone has the socket, and is closed: the kernel closes the socket later, in a thread of its own.
fn io_uring_without_descriptor(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::new(bed.family)?;
    if !has_ring(&ends.client)? {
        return Ok(());
    }
    let pair = ends.pair(bed.family)?;
    ends.client.execute(&Command::KeepInRing { fd: pair.c })?;
    ends.client.execute(&Command::CloseRing)?;
    follow(bed, &ends, pair, &ends.client.who, &ends.client.who)
}

/// No descriptor ever refers to the accepted socket.
fn io_uring_server_without_descriptor(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::new(bed.family)?;
    let (client, server) = (&ends.client, &ends.server);
    if !has_ring(server)? {
        return Ok(());
    }
    let c = client.open(bed.family)?;
    anyhow::ensure!(client.connect(c, ends.service, &How::Plain)? == 0);
    let pair = Pair { c, s: -1, from: client.names(c)?.local, to: ends.service };
    match server.ask(&Command::AcceptInRing { fd: ends.listener })? {
        Answer::Done => {}
        // Before 5.15. The connection is reset, which is another case.
        refused @ Answer::Errno(libc::EINVAL) => {
            skip("accept without a descriptor", &format!("{refused:?}"));
            server.close(ends.listener)?;
            ends.settle(pair)?;
            bed.active(client, pair, [Some(&client.who), None], "reset_received")?;
            return bed.passive(server, pair, [None, Some(&server.who)], "unread_abort");
        }
        other => anyhow::bail!("accept without a descriptor: {other:?}"),
    }
    // Older kernels close it later, in a thread of their own. Its opener is known to the exact tier alone, and nobody would
    // be the closer elsewhere.
    server.execute(&Command::ShutdownInRing)?;
    client.wait(c, Event::PeerClosed)?;
    client.close(c)?;
    client.wait_tuple(pair.to, pair.from, TupleState::TimeWait)?;
    ends.settle(pair)?;
    server.execute(&Command::CloseInRing)?;
    bed.passive(server, pair, [Some(&server.who); 2], "time_wait")?;
    bed.last()?.accepted_out_of_sight = true;
    bed.active(client, pair, [Some(&client.who); 2], "passive_close")
}

/// Both processes call as 32-bit programs do: no tracepoint of a system call sees that.
fn compat_caller(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::new(bed.family)?;
    let (client, server) = (&ends.client, &ends.server);
    if !has_compat(client)? {
        return Ok(());
    }
    let c = client.open(bed.family)?;
    let pair = ends.join(c, &How::Compat, &How::Compat)?;
    client.execute(&Command::Close { fd: c, how: How::Compat })?;
    server.wait_tuple(pair.from, pair.to, TupleState::TimewaitFinWait2)?;
    server.wait(pair.s, Event::PeerClosed)?;
    server.execute(&Command::Shutdown { fd: pair.s, both: false, how: How::Compat })?;
    server.close(pair.s)?;
    ends.settle(pair)?;
    bed.active(server, pair, [Some(&client.who); 2], "fin_wait2_timewait")?;
    bed.passive(server, pair, [Some(&server.who); 2], "passive_close")?;
    bed.last()?.accepted_out_of_sight = true;
    Ok(())
}

/// Newer kernels collect garbage in a thread of their own, older ones in whichever process closes a Unix socket next: here
/// the same process.
fn left_in_unix_sockets(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::new(bed.family)?;
    let pair = ends.pair(bed.family)?;
    ends.client.execute(&Command::LeaveInUnixSockets { fd: pair.c })?;
    follow(bed, &ends, pair, &ends.client.who, &ends.client.who)
}

pub(super) fn has_compat(actor: &Worker) -> Result<bool> {
    has(actor, &Command::ProbeCompat, "system calls of 32-bit programs")
}

fn has_ring(actor: &Worker) -> Result<bool> {
    has(actor, &Command::ProbeRing, "io_uring")
}

fn has(actor: &Worker, probe: &Command, what: &str) -> Result<bool> {
    match actor.ask(probe)? {
        Answer::Done => Ok(true),
        other => {
            skip(what, &format!("{other:?}"));
            Ok(false)
        }
    }
}
