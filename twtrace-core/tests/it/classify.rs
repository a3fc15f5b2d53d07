//! Every way to reach CLOSE, by the facts that the kernel reports.

use crate::common::{START, connection, owner, path, tuple};
use twtrace_core::classify::{Outcome, classify};
use twtrace_core::event::TcpState::{
    Close, CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, Listen, SynRecv, SynSent,
};
use twtrace_core::event::{Connection, Role, TcpState, TwCount};
use twtrace_core::snapshot::{Provenance, Substate};

fn from(last: &[TcpState], change: impl FnOnce(&mut Connection)) -> Connection {
    let mut connection = connection(1, owner(10, "curl"), tuple(40_000, 1, 80), START);
    connection.transitions = path(last, START);
    connection.sock_dead = false;
    change(&mut connection);
    connection
}

const FIRST: [TcpState; 6] = [Close, SynSent, Established, FinWait1, FinWait2, Close];

#[test]
fn each_case_has_its_outcome() {
    let abort = |linger| Outcome::Abort { linger };
    let cases: Vec<(&str, Connection, Outcome, Provenance)> = vec![
        (
            "shutdown, then the peer closes",
            from(&FIRST, |l| l.sock_done = true),
            Outcome::TimeWait(Substate::TimeWait),
            Provenance::Exact,
        ),
        (
            "close, the peer closes later",
            from(&FIRST, |l| l.sock_dead = true),
            Outcome::TimeWait(Substate::FinWait2),
            Provenance::Exact,
        ),
        (
            "FIN and ACK at once",
            from(&FIRST, |l| {
                l.sock_dead = true;
                l.sock_done = true;
            }),
            Outcome::TimeWait(Substate::TimeWait),
            Provenance::Exact,
        ),
        ("reset in FIN_WAIT2", from(&FIRST, |l| l.sk_err = 104), Outcome::ResetReceived, Provenance::Exact),
        (
            "linger2 < 0",
            from(&FIRST, |l| {
                l.sock_dead = true;
                l.rst_sent = true;
            }),
            Outcome::ResetSent,
            Provenance::Exact,
        ),
        ("FIN_WAIT2 without a sign", from(&FIRST, |_| ()), Outcome::ResetSent, Provenance::Inferred),
        ("keepalive in FIN_WAIT2", from(&FIRST, |l| l.sk_err = 110), Outcome::Broken(110), Provenance::Exact),
        (
            "simultaneous close",
            from(&[Established, FinWait1, Closing, Close], |_| ()),
            Outcome::TimeWait(Substate::TimeWait),
            Provenance::Exact,
        ),
        (
            "reset in CLOSING",
            from(&[FinWait1, Closing, Close], |l| l.sk_err = 104),
            Outcome::ResetReceived,
            Provenance::Exact,
        ),
        (
            "linger 0",
            from(&[SynSent, Established, Close], |l| {
                l.closed_in_context = true;
                l.sock_linger = true;
            }),
            abort(true),
            Provenance::Exact,
        ),
        (
            "unread data",
            from(&[SynSent, Established, Close], |l| l.closed_in_context = true),
            abort(false),
            Provenance::Exact,
        ),
        (
            "unread data after the peer's FIN",
            from(&[Established, CloseWait, Close], |l| l.closed_in_context = true),
            abort(false),
            Provenance::Exact,
        ),
        (
            "reset received",
            from(&[SynSent, Established, Close], |l| l.sk_err = 104),
            Outcome::ResetReceived,
            Provenance::Exact,
        ),
        (
            "reset after the peer's FIN",
            from(&[Established, CloseWait, Close], |l| l.sk_err = 32),
            Outcome::ResetReceived,
            Provenance::Exact,
        ),
        ("ss -K", from(&[SynSent, Established, Close], |l| l.sk_err = 103), Outcome::ResetSent, Provenance::Exact),
        (
            "retransmission timeout",
            from(&[SynSent, Established, Close], |l| l.sk_err = 110),
            Outcome::Broken(110),
            Provenance::Exact,
        ),
        (
            "established, without a sign",
            from(&[SynSent, Established, Close], |_| ()),
            Outcome::Unknown,
            Provenance::Inferred,
        ),
        (
            "reset in FIN_WAIT1",
            from(&[Established, FinWait1, Close], |l| l.sk_err = 104),
            Outcome::ResetReceived,
            Provenance::Exact,
        ),
        (
            "data after close",
            from(&[Established, FinWait1, Close], |l| l.rst_sent = true),
            Outcome::ResetSent,
            Provenance::Exact,
        ),
        (
            "FIN_WAIT1 without a sign",
            from(&[Established, FinWait1, Close], |_| ()),
            Outcome::Unknown,
            Provenance::Inferred,
        ),
        (
            "the peer closed first",
            from(&[Established, CloseWait, LastAck, Close], |_| ()),
            Outcome::PassiveClose,
            Provenance::Exact,
        ),
        (
            "reset instead of the last ACK",
            from(&[CloseWait, LastAck, Close], |l| l.sk_err = 104),
            Outcome::ResetReceived,
            Provenance::Exact,
        ),
        ("refused", from(&[Close, SynSent, Close], |l| l.sk_err = 111), Outcome::ConnectFailed(111), Provenance::Exact),
        (
            "refused, reported by connect",
            from(&[Close, SynSent, Close], |l| {
                l.connect_errno = 111;
                l.connect_exit = true;
            }),
            Outcome::ConnectFailed(111),
            Provenance::Exact,
        ),
        (
            "no port",
            from(&[Close, SynSent, Close], |l| {
                l.connect_errno = 99;
                l.connect_exit = true;
                l.tuple.local_port = 0;
            }),
            Outcome::NoPort,
            Provenance::Exact,
        ),
        (
            "no port, errno unseen",
            from(&[Close, SynSent, Close], |l| l.tuple.local_port = 0),
            Outcome::NoPort,
            Provenance::Inferred,
        ),
        (
            "the bound tuple is taken",
            from(&[Close, SynSent, Close], |l| {
                l.connect_errno = 99;
                l.connect_exit = true;
            }),
            Outcome::ConnectFailed(99),
            Provenance::Exact,
        ),
        (
            "given up by the owner",
            from(&[Close, SynSent, Close], |l| l.closed_in_context = true),
            Outcome::Abandoned,
            Provenance::Exact,
        ),
        (
            "simultaneous open refused",
            from(&[SynSent, SynRecv, Close], |l| l.sk_err = 111),
            Outcome::ConnectFailed(111),
            Provenance::Exact,
        ),
        (
            "reset of an accepted handshake",
            from(&[Listen, SynRecv, Close], |l| {
                l.role = Role::Passive;
                l.sk_err = 104;
            }),
            Outcome::ResetReceived,
            Provenance::Exact,
        ),
        ("nothing seen", from(&[], |_| ()), Outcome::Unknown, Provenance::Inferred),
    ];
    for (name, connection, outcome, known) in cases {
        let classified = classify(&connection);
        assert_eq!((classified.outcome, classified.known), (outcome, known), "{name}");
    }
}

#[test]
fn overflow_is_shown_by_the_count_and_never_certain_at_the_limit() {
    let created = Outcome::TimeWait(Substate::TimeWait);
    for (before, after, outcome, known) in [
        (Some(10), 11, created, Provenance::Exact),
        (Some(999), 1000, created, Provenance::Inferred),
        (Some(1000), 1000, Outcome::Overflow, Provenance::Inferred),
        (None, 11, created, Provenance::Exact),
        (None, 999, created, Provenance::Inferred),
        (None, 1000, Outcome::Overflow, Provenance::Inferred),
        (None, 1100, Outcome::Overflow, Provenance::Exact),
    ] {
        let connection = from(&FIRST, |l| {
            l.sock_done = true;
            l.tw = Some(TwCount { before, after, max: 1000 });
        });
        let classified = classify(&connection);
        assert_eq!((classified.outcome, classified.known), (outcome, known), "{before:?} {after}");
    }
}
