//! Snapshots of recordings for the tests of reports, and the recordings' facts about themselves.

use std::path::PathBuf;
use twtrace_core::event::Event;
use twtrace_core::recording::{Info, Loss};
use twtrace_core::snapshot::Snapshot;
use twtrace_testkit::{findings, shop, snapshot_with_history, web};

/// The facts of its recording.
pub(crate) fn info(path: &str, snapshot: &Snapshot) -> Info {
    let summary = snapshot.summary();
    Info {
        path: PathBuf::from(path),
        id: "000102030405060708090a0b0c0d0e0f".to_owned(),
        host: summary.host.clone(),
        start_unix_ns: summary.window.start_unix_ns,
        end_unix_ns: summary.window.start_unix_ns + i128::from(summary.window.now_ns - summary.window.start_ns),
        connections: summary.totals.connections,
        bytes: 24 * summary.totals.connections,
        finished: true,
        ..Info::default()
    }
}

/// A loss with a text that an attacker chose.
pub(crate) fn loss() -> Loss {
    Loss { file: "connections-0002.parquet".to_owned(), what: "<b>bad</b>\n\u{1b}[2J| checksum".to_owned() }
}

/// The five seconds that the tests of all views use.
pub(crate) fn short() -> Snapshot {
    snapshot_with_history(web::events()).with_findings(findings())
}

/// The same on a host with a name that is HTML, Markdown, a formula and several lines.
pub(crate) fn hostile() -> Snapshot {
    let mut events = web::events();
    if let Some(Event::Start { host, .. }) = events.first_mut() {
        host.hostname = "=<script>alert(1)</script>|`\n\u{1b}[2J\u{202e}".to_owned();
        host.kernel = "<img src=x onerror=alert(1)>".to_owned();
    }
    snapshot_with_history(events).with_findings(findings())
}

/// An incident of this many seconds: a service stopped pooling its connections, until it was rolled back.
pub(crate) fn incident(seconds: u64) -> Snapshot {
    snapshot_with_history(shop::events(seconds, 1.0)).with_findings(findings())
}

/// The same host on a quiet day.
pub(crate) fn quiet(seconds: u64) -> Snapshot {
    snapshot_with_history(shop::events(seconds, 0.0))
}
