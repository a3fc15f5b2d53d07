//! Connections that are older than the tracer.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::net::{SocketAddr, TcpListener, TcpStream};

use twtrace_core::connection::judge;
use twtrace_core::input::{Input, Life, Role};
use twtrace_core::source::Source as _;
use twtrace_probe::source::live::{Live, LiveOptions};
use twtrace_tests::tracer::Place;

/// Both ends of a connection, the accepted one second.
fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

#[test]
fn they_are_followed_from_their_first_transition() {
    let place = Place::new();
    let (client, server) = place.run(connection);
    let (from, to): (SocketAddr, SocketAddr) = (client.local_addr().unwrap(), server.local_addr().unwrap());
    let mut live = Live::start(&LiveOptions::default()).unwrap();
    drop(client);
    // The end of the stream: the client's FIN was acknowledged.
    assert_eq!(server.peek(&mut [0]).unwrap(), 0);
    drop(server);

    let mut lives: Vec<Life> = Vec::new();
    let mut has_cookies = true;
    live.final_pump(&mut |input| match input {
        Input::Life(life) => lives.push(*life),
        Input::Start { tracing, .. } => has_cookies = !tracing.by_tuple,
        _ => {}
    })
    .unwrap();
    for (local, remote, outcomes) in
        [(from, to, &["time_wait", "fin_wait2_timewait"][..]), (to, from, &["passive_close"][..])]
    {
        let of_it = |life: &&Life| {
            let tuple = life.tuple;
            (tuple.local_addr, tuple.local_port, tuple.remote_addr, tuple.remote_port)
                == (local.ip(), local.port(), remote.ip(), remote.port())
        };
        let life = lives.iter().find(of_it).unwrap_or_else(|| panic!("{local} to {remote} is missing: {lives:#?}"));
        assert!(life.older && life.opener.is_none() && life.role == Role::Unknown, "{life:#?}");
        assert_eq!(life.closer.unwrap().key.tgid, std::process::id());
        assert!(outcomes.contains(&judge(life).outcome.name()), "{life:#?}");
        assert!(life.cookie != 0 || !has_cookies);
    }
}
