//! Connects that come to nothing although there are ports, and closes that nobody acknowledges.

use super::*;
use twtrace_core::event::NetFigures;
use twtrace_core::finding::Severity;

/// A connect that its process gives up after a second and a half.
fn given_up(n: u64, who: Owner, end_ns: u64) -> Connection {
    let mut connection = one_shot(n, who, end_ns);
    connection.transitions =
        twtrace_testkit::transitions(&[TcpState::Close, TcpState::SynSent, TcpState::Close], end_ns, |step| {
            if step == 1 { 1_500 * MS } else { 0 }
        });
    (connection.established, connection.closed_in_context) = (false, true);
    connection
}

/// A connect that failed with an errno.
fn failed(errno: u16) -> impl Fn(u64, Owner, u64) -> Connection {
    move |n, who, end_ns| {
        let mut connection = one_shot(n, who, end_ns);
        connection.transitions = path(&[TcpState::Close, TcpState::SynSent, TcpState::Close], end_ns);
        (connection.connect_errno, connection.connect_exit, connection.established) = (errno, true, false);
        connection
    }
}

fn tracked(figures: NetFigures) -> Event {
    twtrace_testkit::kernel(KernelFacts { figures: Box::new(figures), ..kernel_facts() })
}

#[test]
fn connects_that_get_no_answer_are_not_about_ports() {
    let app = owner(5, "app");
    let from_ns = START + 3 * SECOND;
    for (events, title) in [
        (many(app, 30, 100, from_ns, given_up), "gets no answer from its destination: local ports are free"),
        (many(app, 30, 100, from_ns, failed(110)), "gets no answer from its destination: local ports are free"),
        (many(app, 30, 100, from_ns, failed(111)), "is refused by its destination: local ports are free"),
    ] {
        let finding = only(&mut state_after(events));
        assert_eq!((finding.rule, finding.severity, pid(&finding)), (Rule::ConnectsFail, Severity::Warning, Some(5)));
        assert_eq!(finding.title, title);
        assert_eq!(evidence(&finding, "verdict"), "this is not TIME_WAIT".to_owned().into());
        let advice = finding.advice[0].id;
        let (from, to) = effect(&finding, advice, "connect_failures_per_s");
        assert!((9.9..=10.1).contains(&from) && to == 0.0, "{from}");
    }
    // A client that tries two addresses at once gives up the slower one.
    let raced = |n, who, end_ns| Connection {
        transitions: path(&[TcpState::Close, TcpState::SynSent, TcpState::Close], end_ns),
        ..given_up(n, who, end_ns)
    };
    assert_eq!(rules(&mut state_after(many(app, 30, 100, from_ns, raced))), []);
    // A few are sent again and succeed.
    assert_eq!(rules(&mut state_after(many(app, 4, 100, from_ns, given_up))), []);
    // It was long ago.
    let then = [tick(START + 60 * SECOND)];
    assert_eq!(rules(&mut state_after(many(app, 30, 100, from_ns, given_up).into_iter().chain(then))), []);
}

#[test]
fn connects_that_still_wait_count_before_the_first_gives_up() {
    let waiting = |second: u64| {
        let rows = (0..8).map(|n| row(100 + n, tuple(40_000 + n as u16, 1, 80), CensusState::SynSent, 0));
        census(START + second * SECOND, rows.collect())
    };
    let app = owner(5, "app");
    let owners = socket_owners(START + 6 * SECOND, vec![owner_row(&app, CensusState::SynSent, 0, (1, 80), 8)]);
    // The row of the destination is there since one of its connections ended.
    let before = many(app, 1, 1, START, one_shot);
    let finding = only(&mut state_after(before.into_iter().chain((1..7).flat_map(waiting)).chain([owners])));
    assert_eq!((finding.rule, pid(&finding)), (Rule::ConnectsFail, Some(5)));
    assert_eq!(evidence(&finding, "syn_sent_for_3_s"), 8.into());
}

#[test]
fn a_prober_of_many_silent_hosts_is_one_finding() {
    let prober = owner(5, "prober");
    let to = |n: u64, who, end_ns| Connection {
        tuple: tuple(40_000 + n as u16, (n % 20) as u8, 80),
        ..given_up(n, who, end_ns)
    };
    let finding = only(&mut state_after(many(prober, 200, 20, START, to)));
    assert_eq!((finding.rule, pid(&finding), finding.destination), (Rule::ConnectsFail, Some(5), None));
    assert_eq!(evidence(&finding, "destinations"), 20.into());
    assert_eq!(finding.title, "gets no answer from 20 destinations, such as 10.0.1.0:80: local ports are free");
}

#[test]
fn connection_tracking_says_who_drops() {
    let app = owner(5, "app");
    let none = NetFigures { conntrack_count: Some(100), conntrack_max: Some(1000), ..NetFigures::default() };
    let none = NetFigures { conntrack_insert_failed: Some(70), conntrack_drop: Some(5), ..none };
    for (now, advice, title) in [
        (none, "find-who-drops", "gets no answer from its destination: local ports are free"),
        (
            NetFigures { conntrack_insert_failed: Some(90), conntrack_drop: Some(25), ..none },
            "nat-ports",
            "gets no answer: source NAT on this host has no port for its connections",
        ),
        (
            NetFigures { conntrack_count: Some(990), ..none },
            "conntrack-limit",
            "gets no answer: the connection tracking of this host is full, not its ports",
        ),
    ] {
        let events = many(app, 30, 100, START + 3 * SECOND, given_up);
        let finding = only(&mut state_after([tracked(none)].into_iter().chain(events).chain([tracked(now)])));
        assert_eq!((finding.title.as_str(), finding.advice[0].id), (title, advice));
    }
}

#[test]
fn sockets_that_nobody_acknowledges_are_orphans() {
    let server = owner(10, "server");
    let closed = |second: u64| {
        let one = |n: u16| {
            let state = if n.is_multiple_of(2) { CensusState::FinWait1 } else { CensusState::LastAck };
            row(100 + u64::from(n), tuple(40_000 + n, 1, 80).mirrored(), state, 0)
        };
        let listener = row(1, tuple(0, 1, 80).mirrored().without_remote(), CensusState::Listen, 0);
        census(START + second * SECOND, (0..30).map(one).chain([listener]).collect())
    };
    let figures =
        |aborts| tracked(NetFigures { orphans: Some(31), aborts_on_memory: Some(aborts), ..NetFigures::default() });
    let listens = SocketOwner {
        local_addr: tuple(0, 1, 80).remote_addr,
        ..owner_row(&server, CensusState::Listen, 80, (0, 0), 1)
    };
    for (aborts, severity) in [(4, Severity::Warning), (5, Severity::Critical)] {
        let owners = socket_owners(START + 6 * SECOND, vec![listens.clone()]);
        let events = [figures(4)].into_iter().chain((1..7).flat_map(closed)).chain([figures(aborts), owners]);
        let finding = only(&mut state_after(events));
        assert_eq!((finding.rule, finding.severity, pid(&finding)), (Rule::FinWait1PileUp, severity, Some(10)));
        let figures = ["fin_wait1", "fin_wait1_for_3_s", "orphans"].map(|name| evidence(&finding, name));
        assert_eq!(figures, [30.into(), 30.into(), 31.into()]);
    }
    // On their way to the end.
    assert_eq!(rules(&mut state_after((5..7).flat_map(closed))), []);
}

#[test]
fn a_full_queue_says_what_was_dropped() {
    let queued = |second: u64| {
        let rows = (0..9).map(|n| row(100 + n, tuple(40_000 + n as u16, 1, 80).mirrored(), CensusState::Queued, 0));
        let at = tuple(0, 1, 80).mirrored().without_remote();
        let listener = twtrace_core::event::CensusRow { backlog: 8, ..row(1, at, CensusState::Listen, 0) };
        census(START + second * SECOND, rows.chain([listener]).collect())
    };
    let figures = |overflows| {
        tracked(NetFigures {
            listen_overflows: Some(overflows),
            listen_drops: Some(overflows + 2),
            ..NetFigures::default()
        })
    };
    let events = [figures(100)].into_iter().chain((1..7).flat_map(queued)).chain([figures(140)]);
    let finding = only(&mut state_after(events));
    assert_eq!((finding.rule, finding.severity), (Rule::NotAccepting, Severity::Critical));
    assert_eq!(["listen_overflows", "listen_drops"].map(|name| evidence(&finding, name)), [40.into(), 40.into()]);
}
