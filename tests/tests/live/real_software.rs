//! Third-party servers and clients.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use twtrace_tests::require::skip;
use twtrace_tests::software::{Postgres, installed, listening, stop};
use twtrace_tests::top::{Top, number, own, own_destinations, quiet_place, sockstat_tw};
use twtrace_tests::tracer::Place;

/// Runs a command in the place to its end, and returns what it printed.
fn output(place: &Place, mut command: Command) -> String {
    command.stdout(Stdio::piped());
    let output = place.spawn(command).wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).unwrap()
}

fn shell(place: &Place, script: &str) -> String {
    let mut command = Command::new("bash");
    command.args(["-c", script]);
    output(place, command)
}

/// Asserts that the live total of the place is what `ss` and the kernel's own count say.
fn agrees(place: &Place, report: &Value) {
    // ss shows the substate FIN_WAIT2 as such, with the timer of a TIME_WAIT socket.
    let listed = shell(
        place,
        "ss -Htan state time-wait | wc -l; ss -Htano state fin-wait-2 | grep -c 'timer:(timewait' || true",
    );
    let by_ss: u64 = listed.split_whitespace().map(|word| word.parse::<u64>().unwrap()).sum();
    let live = own_destinations(report, "time_wait_live");
    assert_eq!((live, by_ss, sockstat_tw(place)), (live, live, live), "twtrace, ss and sockstat");
}

/// TIME_WAIT sockets on a service's own side and on its clients' side, by `ss`. The side that closed first has the
/// socket, so this is how the kernel itself shows which side did.
fn sides(place: &Place, port: u16) -> (u64, u64) {
    let count = |end: &str| {
        let listed = shell(place, &format!("ss -Htan state time-wait {end} = :{port} | wc -l"));
        listed.trim().parse::<u64>().unwrap()
    };
    (count("sport"), count("dport"))
}

/// Waits until this many TIME_WAIT sockets were created and the last census lists as many as `ss` does. Some may have
/// ended: a port that a client uses again ends the server's one. Returns that report and the [`sides`].
fn census_of(top: &Top, place: &Place, port: u16, created: u64) -> (Value, u64, u64) {
    let report = top.wait(|report| {
        let (server_side, client_side) = sides(place, port);
        own_destinations(report, "time_wait_created") >= created
            && number(own(report), "/coverage/census") == server_side + client_side
            // One that ended just now is alive until a second census lacks it.
            && own_destinations(report, "time_wait_live") == server_side + client_side
    });
    let (server_side, client_side) = sides(place, port);
    (report, server_side, client_side)
}

/// TIME_WAIT sockets created by the rows with this command.
fn created_by(rows: &Value, command: &str) -> u64 {
    sum_of(rows, command, "time_wait_created")
}

/// A figure of the rows with this command.
fn sum_of(rows: &Value, command: &str, figure: &str) -> u64 {
    let rows = rows.as_array().unwrap().iter();
    rows.filter(|row| row["command"] == command).map(|row| row[figure].as_u64().unwrap()).sum()
}

#[test]
fn pgbench_with_a_connection_for_each_transaction() {
    let place = quiet_place();
    let folder = tempfile::tempdir().unwrap();
    let Some(postgres) = Postgres::start(&place, folder.path()) else { return };

    let top = Top::start_here(&place, &["--by", "command"]);
    let bench = postgres.pgbench(&["-C", "-t", "100"]);
    let printed = output(&place, bench);
    assert!(printed.contains("400/400"), "{printed}");

    // One for each transaction, and one or two that pgbench opens for itself. pgbench ends its session and closes; now
    // and then the server is faster.
    let (report, server_side, client_side) = census_of(&top, &place, Postgres::PORT, 400);
    let created = own_destinations(&report, "time_wait_created");
    assert!((400..=410).contains(&created), "{created}");
    // Which side is faster depends on the machine. A port that pgbench uses again ends the server's TIME_WAIT socket.
    let live = |command| sum_of(&report["processes"], command, "time_wait_live");
    assert_eq!((live("postgres"), live("pgbench")), (server_side, client_side));
    assert_eq!(own(&report)["coverage"]["ratio"], 1.0);
    let report = top.end();
    agrees(&place, &report);
    println!("pgbench -C: {client_side} TIME_WAIT sockets of pgbench, {server_side} of postgres");
}

/// nginx in the foreground, with its configuration in its own folder. Pages under /endless/ have no length, so that a
/// client reads to the end of the connection.
fn nginx(place: &Place, folder: &Path) -> Option<Child> {
    let Some(nginx) = installed("nginx") else {
        skip("nginx", "it is not installed");
        return None;
    };
    let path = folder.display();
    fs::write(folder.join("index.html"), "hello\n").unwrap();
    fs::create_dir(folder.join("endless")).unwrap();
    fs::write(folder.join("endless/index.html"), "hello\n").unwrap();
    fs::write(
        folder.join("nginx.conf"),
        format!(
            "daemon off; pid {path}/pid; error_log {path}/error; user root; worker_processes 1;
             events {{}}
             http {{ access_log off; client_body_temp_path {path}/a; proxy_temp_path {path}/b; fastcgi_temp_path {path}/c;
               uwsgi_temp_path {path}/d; scgi_temp_path {path}/e;
               server {{ listen 127.0.0.1:8099; root {path};
                 location /endless/ {{ chunked_transfer_encoding off; ssi on; ssi_types *; }} }} }}"
        ),
    )
    .unwrap();
    let mut command = Command::new(nginx);
    command.arg("-c").arg(folder.join("nginx.conf")).stdout(Stdio::null()).stderr(Stdio::null());
    let child = place.spawn(command);
    listening(place, 8099);
    Some(child)
}

/// A script that fetches a page again and again, each time with a new process.
fn poll(place: &Place, folder: &Path, curl: &str) {
    let script = folder.join("poll.sh");
    fs::write(&script, format!("#!/bin/bash\nfor i in $(seq 100); do curl -s -o /dev/null {curl}; done\n")).unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    output(place, Command::new(&script));
}

#[test]
fn nginx_fetched_by_one_shot_curls() {
    if installed("curl").is_none() {
        return skip("curl", "it is not installed");
    }
    // With the header, the server closes first; without, the client.
    let close = "-H 'Connection: close' http://127.0.0.1:8099/endless/";
    for (curl, closer) in [(close, "nginx"), ("http://127.0.0.1:8099/", "curl")] {
        let place = quiet_place();
        let folder = tempfile::tempdir().unwrap();
        let Some(mut server) = nginx(&place, folder.path()) else { return };
        let top = Top::start_here(&place, &["--by", "parent"]);
        poll(&place, folder.path(), curl);
        let (report, server_side, client_side) = census_of(&top, &place, 8099, 100);
        assert_eq!(created_by(&report["processes"], "nginx"), server_side);
        assert_eq!(created_by(&report["processes"], "curl"), client_side);
        assert_eq!(created_by(&report["processes"], closer), 100, "{closer}");
        assert_eq!(own_destinations(&report, "time_wait_created"), 100);
        assert_eq!(own(&report)["coverage"]["ratio"], 1.0);

        // A hundred processes that are gone are one row under the script that started them.
        let groups = report["groups"]["rows"].as_array().unwrap();
        let script: Vec<&Value> = groups.iter().filter(|row| row["parent_command"] == "poll.sh").collect();
        assert_eq!(script.len(), 1, "{groups:#?}");
        assert_eq!((&script[0]["opened"], &script[0]["processes"]), (&100.into(), &100.into()));
        let expected = if closer == "curl" { 100 } else { 0 };
        assert_eq!(script[0]["time_wait_created"], expected);
        let report = top.end();
        agrees(&place, &report);
        println!("100 times curl {curl}: 100 TIME_WAIT sockets of {closer}");
        stop(&mut server);
    }
}
