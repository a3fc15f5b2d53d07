//! The live TIME_WAIT sockets, one per line, in the style of `ss -tano state time-wait`, with the process that `ss`
//! leaves empty.

use crate::json;
use crate::label::{self, command};
use crate::{text, words};
use serde::Serialize;
use std::borrow::Cow;
use std::io::{self, Write};
use std::net::IpAddr;
use twtrace_core::event::Role;
use twtrace_core::snapshot::Snapshot;
use twtrace_core::snapshot::{OwnerRef, Provenance, Substate, Summary, TimeWaitSocket};

/// Version of the JSON form.
const SCHEMA: u32 = 1;

/// Columns, left-aligned except for the timer.
const TITLES: [&str; 7] =
    ["State", "Timer", "Local Address:Port", "Peer Address:Port", "Closed by", "Opened by", "Netns"];

/// The right-aligned one.
const TIMER: usize = 1;

/// The first sockets in the order of namespace and addresses, at most `limit`.
fn chosen(model: &Snapshot, limit: Option<usize>) -> Vec<TimeWaitSocket> {
    let mut sockets: Vec<TimeWaitSocket> = model.sockets().iter().collect();
    sockets.sort_unstable_by_key(|socket| {
        let tuple = socket.tuple;
        (tuple.netns, tuple.local_addr, tuple.local_port, tuple.remote_addr, tuple.remote_port, socket.cookie)
    });
    sockets.truncate(limit.unwrap_or(usize::MAX));
    sockets
}

/// The list as text: a head, then a line for each.
///
/// # Errors
/// The output cannot be written to.
pub fn write_text(model: &Snapshot, limit: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    let summary = model.summary();
    let lines: Vec<[String; TITLES.len()]> = chosen(model, limit).iter().map(|socket| cells(socket, summary)).collect();
    let mut widths = TITLES.map(str::len);
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(text::width(cell));
        }
    }
    // If all are in the tracer's own namespace, the column is not needed.
    let shown = if lines.iter().all(|line| line[TITLES.len() - 1] == "-") { TITLES.len() - 1 } else { TITLES.len() };
    let mut write = |cells: &[Cow<'_, str>]| {
        let padded = cells.iter().zip(widths).enumerate();
        let padded: Vec<String> =
            padded.take(shown).map(|(index, (cell, width))| text::pad(cell, width, index == TIMER)).collect();
        writeln!(out, "{}", padded.join("  ").trim_end())
    };
    write(&TITLES.map(Cow::Borrowed))?;
    lines.iter().try_for_each(|line| write(&line.each_ref().map(|cell| Cow::Borrowed(cell.as_str()))))
}

fn cells(socket: &TimeWaitSocket, summary: &Summary) -> [String; TITLES.len()] {
    let tuple = socket.tuple;
    let mark = if socket.known == Provenance::Inferred { "~" } else { "" };
    let is_own = [0, summary.host.netns].contains(&tuple.netns);
    [
        state(socket).to_owned(),
        format!("{mark}{}sec", left_ns(socket, summary) / 1_000_000_000),
        text::address(tuple.local_addr, tuple.local_port),
        text::address(tuple.remote_addr, tuple.remote_port),
        owner(socket.closer.as_ref(), socket),
        owner(socket.opener.as_ref(), socket),
        if is_own { "-".to_owned() } else { label::namespace(summary, tuple.netns) },
    ]
}

/// The state as `ss` writes it.
fn state(socket: &TimeWaitSocket) -> &'static str {
    match socket.substate {
        Substate::TimeWait => "TIME-WAIT",
        Substate::FinWait2 => "FIN-WAIT-2",
    }
}

/// Time until its timer ends it.
fn left_ns(socket: &TimeWaitSocket, summary: &Summary) -> u64 {
    socket.expires_ns.saturating_sub(summary.window.now_ns)
}

/// As `ss -p` writes a process. No name can end before its closing quote.
fn owner(owner: Option<&OwnerRef>, socket: &TimeWaitSocket) -> String {
    match owner {
        Some(owner) => format!("(\"{}\",pid={})", command(&owner.comm).replace('"', "\\\""), owner.key.tgid),
        None if socket.before_start => "(before start)".to_owned(),
        None => "(unknown)".to_owned(),
    }
}

/// The quality of the list in one line: number of sockets, coverage, losses.
pub fn summary(model: &Snapshot) -> String {
    let summary = model.summary();
    let live = text::count(model.sockets().len() as u64);
    format!("{live} TIME_WAIT sockets; {}; {}", words::coverage(summary), words::losses(&summary.counters))
}

/// What `twtrace sockets --json` writes.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Report<'a> {
    /// Version of this form.
    #[cfg_attr(test, schemars(extend("const" = SCHEMA)))]
    schema: u32,
    /// Where it was traced.
    host: json::Host<'a>,
    /// Which time was traced.
    window: json::Window,
    /// How it was traced.
    tracing: json::Tracing<'a>,
    /// What the censuses of all network namespaces came to.
    coverage: json::Coverage,
    /// The live TIME_WAIT sockets.
    sockets: Vec<SocketJson<'a>>,
    /// How many there are, those that are not written included.
    sockets_total: usize,
}

/// A TIME_WAIT socket.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct SocketJson<'a> {
    /// Its substate.
    #[cfg_attr(test, schemars(extend("enum" = ["time_wait", "fin_wait2"])))]
    state: &'static str,
    /// Time until its timer ends it, in milliseconds.
    expires_in_ms: u64,
    /// How long it has been there, in milliseconds; null for those older than the trace.
    age_ms: Option<u64>,
    /// Network namespace, by inode number; null when it is not known.
    netns: Option<u32>,
    /// Its name; null when it is not known.
    netns_name: Option<&'a str>,
    /// Who began the connection.
    role: Role,
    /// Address on this host.
    local_addr: IpAddr,
    /// Port on this host.
    local_port: u16,
    /// Address of the peer.
    remote_addr: IpAddr,
    /// Port of the peer.
    remote_port: u16,
    /// Who closed it here; null when that is not known.
    closer: Option<OwnerJson>,
    /// Who opened or accepted it here; null when that is not known.
    opener: Option<OwnerJson>,
    /// How its fate is known.
    known: Provenance,
    /// It is older than the trace.
    before_start: bool,
    /// Cookie of the socket, as in `ss -e`.
    sk: String,
}

/// A process.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct OwnerJson {
    /// Process id in the initial PID namespace.
    pid: u32,
    /// Nanoseconds since boot at which it started.
    start_ns: u64,
    /// Name of the process.
    command: String,
    /// User id.
    uid: u32,
}

/// The list as one JSON object on one line.
///
/// # Errors
/// The output cannot be written to.
pub fn write_json(model: &Snapshot, limit: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    let summary = model.summary();
    let owner = |owner: OwnerRef| OwnerJson {
        pid: owner.key.tgid,
        start_ns: owner.key.start_ns,
        command: text::lossless(owner.comm.bytes()).into_owned(),
        uid: owner.uid,
    };
    let sockets = chosen(model, limit).into_iter().map(|socket| SocketJson {
        state: match socket.substate {
            Substate::TimeWait => "time_wait",
            Substate::FinWait2 => "fin_wait2",
        },
        expires_in_ms: left_ns(&socket, summary) / 1_000_000,
        age_ms: (socket.created_ns > 0).then(|| summary.window.now_ns.saturating_sub(socket.created_ns) / 1_000_000),
        netns: Some(summary.inode(socket.tuple.netns)).filter(|inode| *inode != 0),
        netns_name: summary.namespace(socket.tuple.netns).map(|of| of.name.as_str()).filter(|name| !name.is_empty()),
        role: socket.role,
        local_addr: socket.tuple.local_addr,
        local_port: socket.tuple.local_port,
        remote_addr: socket.tuple.remote_addr,
        remote_port: socket.tuple.remote_port,
        closer: socket.closer.map(owner),
        opener: socket.opener.map(owner),
        known: socket.known,
        before_start: socket.before_start,
        sk: format!("{:x}", socket.cookie),
    });
    let report = Report {
        schema: SCHEMA,
        host: json::host(&summary.host),
        window: json::window(summary),
        tracing: json::tracing(summary),
        coverage: json::coverage(summary),
        sockets: sockets.collect(),
        sockets_total: model.sockets().len(),
    };
    json::write_plain(&report, out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;
    use crate::fits::assert_fits;
    use serde_json::Value;
    use twtrace_testkit::web;

    fn text(limit: Option<usize>) -> String {
        let mut out = Vec::new();
        write_text(&web::snapshot(), limit, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_socket_is_a_line_as_ss_writes_it() {
        let text = text(None);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 1 + web::snapshot().sockets().len());
        insta::assert_snapshot!([&lines[..2], &lines[79..84], &lines[230..]].concat().join("\n"));
    }

    #[test]
    fn nothing_in_it_acts_on_a_terminal() {
        for line in text(None).lines() {
            assert!(line.chars().all(text::is_plain), "{line:?}");
        }
    }

    #[test]
    fn the_first_few_are_of_one_namespace_and_do_not_name_it() {
        let text = text(Some(3));
        assert_eq!(text.lines().count(), 4);
        assert!(!text.contains("Netns"), "{text}");
    }

    #[test]
    fn json_has_every_field() {
        let mut out = Vec::new();
        write_json(&web::snapshot(), Some(2), &mut out).unwrap();
        let report: Value = serde_json::from_slice(&out).unwrap();
        assert_fits("sockets", &report);
        assert_eq!((&report["schema"], report["sockets"].as_array().unwrap().len()), (&1.into(), 2));
        assert!(report["sockets_total"].as_u64().unwrap() > 200);
        let socket = &report["sockets"][0];
        assert_eq!(
            (&socket["state"], &socket["known"], &socket["before_start"]),
            (&"time_wait".into(), &"exact".into(), &false.into())
        );
        assert_eq!((&socket["netns_name"], &socket["role"]), (&"host".into(), &"active".into()));
        for name in ["expires_in_ms", "age_ms", "netns", "local_addr", "local_port", "remote_addr", "remote_port", "sk"]
        {
            assert!(!socket[name].is_null(), "{name}: {socket}");
        }
        for (who, pid) in [("closer", 2000), ("opener", 2000)] {
            assert_eq!((&socket[who]["pid"], &socket[who]["command"]), (&pid.into(), &"curl".into()));
        }
    }

    #[test]
    fn the_summary_says_what_the_list_is_worth() {
        let said = summary(&web::lossy());
        assert!(said.contains("coverage 100.0%") && said.contains("lost 1,234"), "{said}");
    }
}
