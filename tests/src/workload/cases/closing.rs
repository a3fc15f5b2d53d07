//! Ways to close, either side first.

use anyhow::Result;

use super::{ALL, Case, Ends, TestBed};
use crate::workload::command::Command;
use crate::workload::diag::TupleState;
use crate::workload::sys::{Event, SockOption};

const CLOSE_WAIT: u8 = 8;
const FIN_WAIT2: u8 = 5;

pub(super) const CASES: &[Case] = &[
    Case { name: "client-closes-first", families: ALL, play: client_closes_first },
    Case { name: "server-closes-first", families: ALL, play: server_closes_first },
    Case { name: "client-shuts-down", families: ALL, play: client_shuts_down },
    Case { name: "server-shuts-down", families: ALL, play: server_shuts_down },
    Case { name: "close-in-fin-wait2", families: ALL, play: close_in_fin_wait2 },
    Case { name: "linger-zero", families: ALL, play: linger_zero },
    Case { name: "server-linger-zero", families: ALL, play: server_linger_zero },
    Case { name: "unread-data", families: ALL, play: unread_data },
    Case { name: "unread-data-in-close-wait", families: ALL, play: unread_in_close_wait },
    Case { name: "reset-in-fin-wait2", families: ALL, play: reset_in_fin_wait2 },
    Case { name: "data-for-a-time-wait-socket", families: ALL, play: data_for_time_wait },
    Case { name: "reset-for-a-time-wait-socket", families: ALL, play: reset_for_time_wait },
    Case { name: "linger2-negative", families: ALL, play: linger2_negative },
    Case { name: "disconnect", families: ALL, play: disconnect },
    Case { name: "disconnect-in-time-wait", families: ALL, play: disconnect_in_time_wait },
    Case { name: "destroyed", families: ALL, play: destroyed },
    Case { name: "listener-closes", families: ALL, play: listener_closes },
];

/// close, and the peer's FIN comes later: the TIME_WAIT socket waits for it in substate FIN_WAIT2.
fn client_closes_first(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::new(bed.family)?;
    let pair = ends.pair(bed.family)?;
    let (client, server) = (&ends.client, &ends.server);
    client.close(pair.c)?;
    server.wait_tuple(pair.from, pair.to, TupleState::TimewaitFinWait2)?;
    server.wait(pair.s, Event::PeerClosed)?;
    server.close(pair.s)?;
    server.wait_tuple(pair.from, pair.to, TupleState::TimeWait)?;
    ends.settle(pair)?;
    bed.active(client, pair, [Some(&client.who); 2], "fin_wait2_timewait")?;
    bed.passive(server, pair, [Some(&server.who); 2], "passive_close")
}

fn server_closes_first(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::new(bed.family)?;
    let pair = ends.pair(bed.family)?;
    let (client, server) = (&ends.client, &ends.server);
    server.close(pair.s)?;
    client.wait_tuple(pair.to, pair.from, TupleState::TimewaitFinWait2)?;
    client.wait(pair.c, Event::PeerClosed)?;
    client.close(pair.c)?;
    client.wait_tuple(pair.to, pair.from, TupleState::TimeWait)?;
    ends.settle(pair)?;
    bed.passive(server, pair, [Some(&server.who); 2], "fin_wait2_timewait")?;
    bed.active(client, pair, [Some(&client.who); 2], "passive_close")
}

/// shutdown of the sending side; the peer's FIN finds a full socket.
fn client_shuts_down(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::new(bed.family)?;
    let pair = ends.pair(bed.family)?;
    let (client, server) = (&ends.client, &ends.server);
    client.shutdown(pair.c)?;
    client.wait_state(pair.c, FIN_WAIT2)?;
    server.wait(pair.s, Event::PeerClosed)?;
    server.close(pair.s)?;
    server.wait_tuple(pair.from, pair.to, TupleState::TimeWait)?;
    ends.settle(pair)?;
    client.close(pair.c)?;
    bed.active(client, pair, [Some(&client.who); 2], "time_wait")?;
    bed.passive(server, pair, [Some(&server.who); 2], "passive_close")
}

fn server_shuts_down(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::new(bed.family)?;
    let pair = ends.pair(bed.family)?;
    let (client, server) = (&ends.client, &ends.server);
    server.shutdown(pair.s)?;
    server.wait_state(pair.s, FIN_WAIT2)?;
    client.wait(pair.c, Event::PeerClosed)?;
    client.close(pair.c)?;
    client.wait_tuple(pair.to, pair.from, TupleState::TimeWait)?;
    ends.settle(pair)?;
    server.close(pair.s)?;
    bed.passive(server, pair, [Some(&server.who); 2], "time_wait")?;
    bed.active(client, pair, [Some(&client.who); 2], "passive_close")
}

/// shutdown, and close once the peer has acknowledged: `__tcp_close` itself creates the TIME_WAIT socket.
fn close_in_fin_wait2(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::new(bed.family)?;
    let pair = ends.pair(bed.family)?;
    ends.client.shutdown(pair.c)?;
    ends.client.wait_state(pair.c, FIN_WAIT2)?;
    super::close_first(bed, &ends, pair)
}

fn linger_zero(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::new(bed.family)?;
    let pair = ends.pair(bed.family)?;
    let (client, server) = (&ends.client, &ends.server);
    client.set(pair.c, SockOption::LingerZero)?;
    client.close(pair.c)?;
    ends.settle(pair)?;
    bed.active(client, pair, [Some(&client.who); 2], "linger_abort")?;
    bed.passive(server, pair, [Some(&server.who), None], "reset_received")
}

fn server_linger_zero(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::new(bed.family)?;
    let pair = ends.pair(bed.family)?;
    let (client, server) = (&ends.client, &ends.server);
    server.set(pair.s, SockOption::LingerZero)?;
    server.close(pair.s)?;
    ends.settle(pair)?;
    bed.passive(server, pair, [Some(&server.who); 2], "linger_abort")?;
    bed.active(client, pair, [Some(&client.who), None], "reset_received")
}

fn unread_data(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::new(bed.family)?;
    let pair = ends.pair(bed.family)?;
    let (client, server) = (&ends.client, &ends.server);
    server.send_byte(pair.s)?;
    client.wait(pair.c, Event::Readable)?;
    client.close(pair.c)?;
    ends.settle(pair)?;
    bed.active(client, pair, [Some(&client.who); 2], "unread_abort")?;
    bed.passive(server, pair, [Some(&server.who), None], "reset_received")
}

/// The server has sent its FIN, so it closed first, and it receives an RST in reply.
fn unread_in_close_wait(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::new(bed.family)?;
    let pair = ends.pair(bed.family)?;
    let (client, server) = (&ends.client, &ends.server);
    server.send_byte(pair.s)?;
    server.shutdown(pair.s)?;
    client.wait(pair.c, Event::PeerClosed)?;
    client.wait_state(pair.c, CLOSE_WAIT)?;
    server.wait_state(pair.s, FIN_WAIT2)?;
    client.close(pair.c)?;
    ends.settle(pair)?;
    bed.active(client, pair, [Some(&client.who); 2], "unread_abort")?;
    bed.passive(server, pair, [Some(&server.who); 2], "reset_received")
}

fn reset_in_fin_wait2(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::new(bed.family)?;
    let pair = ends.pair(bed.family)?;
    let (client, server) = (&ends.client, &ends.server);
    client.shutdown(pair.c)?;
    client.wait_state(pair.c, FIN_WAIT2)?;
    server.wait_state(pair.s, CLOSE_WAIT)?;
    server.set(pair.s, SockOption::LingerZero)?;
    server.close(pair.s)?;
    ends.settle(pair)?;
    bed.active(client, pair, [Some(&client.who); 2], "reset_received")?;
    bed.passive(server, pair, [Some(&server.who); 2], "linger_abort")
}

/// Data ends a TIME_WAIT socket in substate FIN_WAIT2 early: CLOSE created it, and no tracepoint reports its end.
fn data_for_time_wait(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::new(bed.family)?;
    let pair = ends.pair(bed.family)?;
    let (client, server) = (&ends.client, &ends.server);
    client.close(pair.c)?;
    server.wait_tuple(pair.from, pair.to, TupleState::TimewaitFinWait2)?;
    server.wait_state(pair.s, CLOSE_WAIT)?;
    server.send_byte(pair.s)?;
    server.wait_tuple(pair.from, pair.to, TupleState::NoSocket)?;
    ends.settle(pair)?;
    bed.active(client, pair, [Some(&client.who); 2], "fin_wait2_timewait")?;
    bed.last()?.timewait_cut_short = true;
    bed.passive(server, pair, [Some(&server.who), None], "reset_received")
}

fn reset_for_time_wait(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::new(bed.family)?;
    let pair = ends.pair(bed.family)?;
    let (client, server) = (&ends.client, &ends.server);
    client.close(pair.c)?;
    server.wait_tuple(pair.from, pair.to, TupleState::TimewaitFinWait2)?;
    server.wait_state(pair.s, CLOSE_WAIT)?;
    server.set(pair.s, SockOption::LingerZero)?;
    server.close(pair.s)?;
    server.wait_tuple(pair.from, pair.to, TupleState::NoSocket)?;
    ends.settle(pair)?;
    bed.active(client, pair, [Some(&client.who); 2], "fin_wait2_timewait")?;
    bed.last()?.timewait_cut_short = true;
    bed.passive(server, pair, [Some(&server.who); 2], "linger_abort")
}

/// No FIN_WAIT2 at all: close sends an RST after it has set the state CLOSE.
fn linger2_negative(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::new(bed.family)?;
    let pair = ends.pair(bed.family)?;
    let (client, server) = (&ends.client, &ends.server);
    client.set(pair.c, SockOption::Linger2(-1))?;
    client.shutdown(pair.c)?;
    client.wait_state(pair.c, FIN_WAIT2)?;
    server.wait_state(pair.s, CLOSE_WAIT)?;
    client.close(pair.c)?;
    ends.settle(pair)?;
    bed.active(client, pair, [Some(&client.who); 2], "reset_sent")?;
    bed.passive(server, pair, [Some(&server.who), None], "reset_received")
}

/// connect to AF_UNSPEC aborts the connection, and the socket can be used again.
fn disconnect(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::new(bed.family)?;
    let pair = ends.pair(bed.family)?;
    let (client, server) = (&ends.client, &ends.server);
    client.execute(&Command::Disconnect { fd: pair.c })?;
    ends.settle(pair)?;
    bed.active(client, pair, [Some(&client.who); 2], "unread_abort")?;
    bed.passive(server, pair, [Some(&server.who), None], "reset_received")?;

    let again = ends.join(pair.c, &super::How::Plain, &super::How::Plain)?;
    super::close_first(bed, &ends, again)
}

/// The same once the connection is in TIME_WAIT: two TIME_WAIT sockets have one cookie.
fn disconnect_in_time_wait(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::new(bed.family)?;
    let pair = ends.pair(bed.family)?;
    let (client, server) = (&ends.client, &ends.server);
    client.shutdown(pair.c)?;
    client.wait_state(pair.c, FIN_WAIT2)?;
    server.close(pair.s)?;
    server.wait_tuple(pair.from, pair.to, TupleState::TimeWait)?;
    ends.settle(pair)?;
    bed.active(client, pair, [Some(&client.who); 2], "time_wait")?;
    bed.passive(server, pair, [Some(&server.who); 2], "passive_close")?;

    client.execute(&Command::Disconnect { fd: pair.c })?;
    let again = ends.join(pair.c, &super::How::Plain, &super::How::Plain)?;
    super::close_first(bed, &ends, again)
}

/// `ss -K`: the process that requests it does not count as the closer.
fn destroyed(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::new(bed.family)?;
    let pair = ends.pair(bed.family)?;
    let (client, server) = (&ends.client, &ends.server);
    server.execute(&Command::Destroy { local: pair.from, remote: pair.to })?;
    ends.settle(pair)?;
    bed.active(client, pair, [Some(&client.who), None], "reset_sent")?;
    bed.passive(server, pair, [Some(&server.who), None], "reset_received")
}

/// A connection that was not accepted yet is aborted when its listener closes.
fn listener_closes(bed: &mut TestBed) -> Result<()> {
    let ends = Ends::new(bed.family)?;
    let (client, server) = (&ends.client, &ends.server);
    let c = client.open(bed.family)?;
    anyhow::ensure!(client.connect(c, ends.service, &super::How::Plain)? == 0);
    let pair = super::Pair { c, s: -1, from: client.names(c)?.local, to: ends.service };
    server.wait(ends.listener, Event::Readable)?;
    server.close(ends.listener)?;
    ends.settle(pair)?;
    bed.active(client, pair, [Some(&client.who), None], "reset_received")?;
    bed.passive(server, pair, [None, Some(&server.who)], "unread_abort")
}
