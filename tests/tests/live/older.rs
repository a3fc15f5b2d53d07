//! Connections that are older than the tracer.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use twtrace_core::classify::classify;
use twtrace_core::event::{Connection, Event, Role};
use twtrace_core::source::Source as _;
use twtrace_probe::source::kernel_source::{KernelSource, KernelSourceOptions};
use twtrace_tests::tracer::Place;

/// Both ends of a connection, the accepted one second.
fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

#[test]
fn older_connections_are_followed_from_their_first_transition() {
    let place = Place::new();
    let (client, server) = place.run(connection);
    let (from, to): (SocketAddr, SocketAddr) = (client.local_addr().unwrap(), server.local_addr().unwrap());
    let netns = place.netns() as u32;
    let mut live = KernelSource::start(&KernelSourceOptions::default()).unwrap();
    // A process that another test is just starting has a copy of the descriptor until it calls exec: close(2) may not be
    // the last one, and that process would close the connection.
    client.shutdown(Shutdown::Write).unwrap();
    drop(client);
    // The end of the stream: the client's FIN was acknowledged.
    assert_eq!(server.peek(&mut [0]).unwrap(), 0);
    server.shutdown(Shutdown::Write).unwrap();
    drop(server);

    let mut connections: Vec<Connection> = Vec::new();
    let mut has_cookies = true;
    live.final_pump(&mut |event| match event {
        Event::Connection(connection) => connections.push(*connection),
        Event::Start { tracing, .. } => has_cookies = !tracing.by_tuple,
        _ => {}
    })
    .unwrap();
    for (local, remote, outcomes) in
        [(from, to, &["time_wait", "fin_wait2_timewait"][..]), (to, from, &["passive_close"][..])]
    {
        let of_it = |connection: &&Connection| {
            let tuple = connection.tuple;
            // Other tests have connections with the same addresses in namespaces of theirs. Without BTF there is no
            // namespace.
            let is_here = [0, netns].contains(&tuple.netns);
            is_here
                && (tuple.local_addr, tuple.local_port, tuple.remote_addr, tuple.remote_port)
                    == (local.ip(), local.port(), remote.ip(), remote.port())
        };
        let connection = connections
            .iter()
            .find(of_it)
            .unwrap_or_else(|| panic!("{local} to {remote} is missing: {connections:#?}"));
        assert!(connection.older && connection.opener.is_none() && connection.role == Role::Unknown, "{connection:#?}");
        assert_eq!(connection.closer.unwrap().key.tgid, std::process::id());
        assert!(outcomes.contains(&classify(connection).outcome.name()), "{connection:#?}");
        assert!(connection.cookie != 0 || !has_cookies);
    }
}
