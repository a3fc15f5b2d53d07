//! How the local side of a connection was chosen, and binds that fail: each as the workload generator did it.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::common::traced;
use twtrace_core::event::{BindFailed, Binding, Connection, Event, Role, Tier, Tuple};
use twtrace_probe::source::kernel_source::{KernelSource, KernelSourceOptions};
use twtrace_tests::require::skip;
use twtrace_tests::tracer::Place;
use twtrace_tests::workload::bindings::{Connected, Done, Refused};

/// What the generator did, and what the tracer reported meanwhile.
fn trace() -> (Vec<Done>, Vec<Event>, KernelSource) {
    let mut live = KernelSource::start(&KernelSourceOptions::default()).unwrap();
    let place = Place::new();
    let (text, events) = traced(&mut live, &place, "bindings");
    (text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), events, live)
}

fn without_btf() -> bool {
    std::env::var("TWTRACE_BTF").is_ok_and(|value| value == "none")
}

fn ends(tuple: &Tuple) -> (SocketAddr, SocketAddr) {
    ((tuple.local_addr, tuple.local_port).into(), (tuple.remote_addr, tuple.remote_port).into())
}

/// What connections are compared by: it would differ if any of it were taken from another socket.
type Line = (u32, String, String, Binding);

fn line(pid: u32, local: SocketAddr, remote: SocketAddr, established: bool, binding: Binding) -> Line {
    // A refused connect has given its port back before its caller can ask for it.
    let local = if established { local.to_string() } else { local.ip().to_string() };
    (pid, local, remote.to_string(), binding)
}

fn expected(done: &Connected) -> Line {
    let binding = match without_btf() {
        true => Binding::default(),
        false => Binding { port: done.bound_port, address: done.bound_address, range: done.range },
    };
    line(done.pid, done.local, done.remote, done.established, binding)
}

fn seen(connection: &Connection) -> Line {
    let (local, remote) = ends(&connection.tuple);
    line(connection.opener.unwrap().key.tgid, local, remote, connection.established, connection.binding)
}

#[test]
fn local_bindings_and_failed_binds_are_reported() {
    let (done, events, live) = trace();
    let is_ours = |pid: u32| done.iter().any(|done| pid_of(done) == pid);

    let connected: Vec<&Connected> = done
        .iter()
        .filter_map(|done| match done {
            Done::Connected(connected) => Some(connected),
            Done::Refused(_) => None,
        })
        .collect();
    let connections: Vec<&Connection> = events
        .iter()
        .filter_map(|event| match event {
            Event::Connection(connection)
                if connection.role == Role::Active && is_ours(connection.opener?.key.tgid) =>
            {
                Some(&**connection)
            }
            _ => None,
        })
        .collect();
    let sorted = |mut lines: Vec<Line>| {
        lines.sort_by_key(|line| format!("{line:?}"));
        lines
    };
    let reported = sorted(connections.iter().map(|connection| seen(connection)).collect());
    let wanted = sorted(connected.iter().map(|done| expected(done)).collect());
    assert_eq!(reported, wanted, "{connected:#?}");
    if !connected.iter().any(|done| done.range.is_some()) {
        skip("IP_LOCAL_PORT_RANGE", "this kernel has no such option");
    }

    let bound: Vec<(u64, Tuple)> = events
        .iter()
        .filter_map(|event| match event {
            Event::BoundConnect { cookie, tuple, .. }
                if connected.iter().any(|done| done.netns == u64::from(tuple.netns)) =>
            {
                Some((*cookie, *tuple))
            }
            _ => None,
        })
        .collect();
    let with_port: Vec<&Connection> =
        connections.iter().copied().filter(|connection| connection.binding.port).collect();
    // Where tracers get no cookies, a socket has one only by chance, maybe later.
    let key = |cookie: u64, tuple: &Tuple| (if live.tier() == Tier::Tuple { 0 } else { cookie }, format!("{tuple:?}"));
    let reported: BTreeSet<_> = bound.iter().map(|(cookie, tuple)| key(*cookie, tuple)).collect();
    let wanted: BTreeSet<_> = with_port.iter().map(|connection| key(connection.cookie, &connection.tuple)).collect();
    assert_eq!(reported, wanted, "by cookie and tuple, as their connections");
    assert_eq!(bound.len(), with_port.len(), "once each");
    for connection in &with_port {
        let began = connection.transitions[0].at_ns;
        let at = events.iter().find_map(|event| match event {
            Event::BoundConnect { tuple, at_ns, .. } if *tuple == connection.tuple => Some(*at_ns),
            _ => None,
        });
        assert!(at.unwrap().abs_diff(began) < 100_000_000, "{at:?} against {began}");
    }

    let failed: Vec<&BindFailed> = events
        .iter()
        .filter_map(|event| match event {
            Event::BindFailed(failed) if is_ours(failed.owner.key.tgid) => Some(&**failed),
            _ => None,
        })
        .collect();
    let hook = live.hooks().iter().find(|hook| hook.name == "syscalls:sys_exit_bind").unwrap();
    if !hook.attached {
        assert!(without_btf() || hook.reason.is_some(), "{hook:?}");
        assert!(failed.is_empty());
        return;
    }
    let refused: Vec<&Refused> = done
        .iter()
        .filter_map(|done| match done {
            Done::Refused(refused) => Some(refused),
            Done::Connected(_) => None,
        })
        .collect();
    assert_eq!((failed.len(), refused.len()), (refused.len(), 15), "{failed:#?}");
    for (failed, refused) in failed.iter().zip(&refused) {
        let (asked, other) = ends(&failed.tuple);
        assert_eq!(
            (failed.owner.key.tgid, u64::from(failed.tuple.netns), asked, i32::from(failed.errno), failed.reuse),
            (refused.pid, refused.netns, refused.asked, refused.errno, refused.reuse),
            "{}",
            refused.case
        );
        assert_eq!(failed.owner.comm.bytes(), b"twtrace-workload".get(..15).unwrap());
        assert!(other.port() == 0 && other.ip().is_unspecified() && other.is_ipv4() == asked.is_ipv4(), "{other}");
        assert_eq!(failed.tuple.v4_mapped, refused.case.ends_with("Mapped"));
    }
    println!("figures: {} connections, {} of bound ports, {} binds", connections.len(), bound.len(), failed.len());
}

fn pid_of(done: &Done) -> u32 {
    match done {
        Done::Connected(connected) => connected.pid,
        Done::Refused(refused) => refused.pid,
    }
}
