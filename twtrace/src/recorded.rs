//! Reads a recording into an engine, for the commands that report on its content.

use crate::cli::TimeSpec;
use anyhow::{Context as _, bail};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use twtrace_core::event::{Event, HostFacts};
use twtrace_core::netns::is_inode;
use twtrace_core::recording::Info;
use twtrace_core::snapshot::Snapshot;
use twtrace_core::snapshot::Window;
use twtrace_core::state::{Config, Filter, State};
use twtrace_probe::host;
use twtrace_probe::host::clock;
use twtrace_recording::reader::Recording;
use twtrace_view::report::Source;
use twtrace_view::{recording, text};

/// The requested part of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    /// From here on, else from its start.
    pub(crate) from: Option<TimeSpec>,
    /// Up to here, else to its end.
    pub(crate) to: Option<TimeSpec>,
}

/// A recording that was read.
#[derive(Debug)]
pub(crate) struct Recorded {
    info: Info,
    snapshot: Arc<Snapshot>,
}

impl Recorded {
    /// Reads it, from its first Event to the end of the span: so the sockets that are live when the span begins are
    /// known.
    ///
    /// # Errors
    /// It is not a recording, nothing of it can be read, or the span is not in it.
    pub(crate) fn read(path: &Path, filter: Filter, span: Span) -> anyhow::Result<Self> {
        Self::read_with(path, filter, span, &mut |_| {})
    }

    /// The same, and shows each event on its way to the state.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn read_with(
        path: &Path,
        filter: Filter,
        span: Span,
        see: &mut dyn FnMut(&Event),
    ) -> anyhow::Result<Self> {
        let recording = Recording::open(path)?;
        let info = recording.info().clone();
        let (from, to) = bounds(&info, span)?;
        let mut state = State::new(Config { filter, history: true, ..Config::default() });
        let mut replay = recording.replay()?;
        let mut advance = |state: &mut State, until_ns| {
            let mut sink = |event: Event| {
                see(&event);
                state.apply(event);
            };
            replay.advance(until_ns, &mut sink).with_context(|| format!("cannot read {}", path.display()))
        };
        // The first Events relate its clocks to each other.
        let mut more = advance(&mut state, 0)?;
        if let Some(from) = from.filter(|from| *from > state.summary().window.start_unix_ns) {
            let until_ns = monotonic(&state.summary().window, from);
            more = more && advance(&mut state, until_ns)?;
            state.count_from_now();
        }
        match to {
            Some(to) if more => {
                let until_ns = monotonic(&state.summary().window, to);
                advance(&mut state, until_ns)?;
            }
            _ => {
                while more {
                    more = advance(&mut state, u64::MAX)?;
                }
            }
        }
        Ok(Self {
            info: info.after(replay.losses(), replay.connections_lost()),
            snapshot: Arc::new(Snapshot::take(&mut state)),
        })
    }

    /// The newest snapshot of a trace that runs.
    pub(crate) fn of_live(name: &str, snapshot: Arc<Snapshot>) -> Self {
        Self { info: Info::of_live(name, snapshot.summary()), snapshot }
    }

    /// The input of a view.
    pub(crate) fn source(&self) -> Source<'_> {
        Source { info: &self.info, model: &self.snapshot }
    }
}

/// How long before now what is of interest began: TIME_WAIT lasts for a minute, and the kernel's timers may fire late. Owners
/// of sockets that a vendor's kernel keeps for longer stay unknown.
const OLDEST_NS: u64 = 150_000_000_000;

/// A recording without an event for this long has ended.
const AGO_NS: u64 = 5_000_000_000;

/// A state that knows the owners of the TIME_WAIT sockets that a recording of this boot has seen to be created, and has
/// counted nothing. A trace goes on from it. And remarks on the recording.
///
/// # Errors
/// The recording cannot be read, or is not of this boot.
pub(crate) fn owners(path: &Path, config: Config) -> anyhow::Result<(State, Vec<String>)> {
    let recording = Recording::open(path)?;
    same_boot(recording.info(), &host::facts())?;
    let now = clock::now()?;
    let since_ns = now.monotonic_ns.saturating_sub(OLDEST_NS);
    let mut state = State::new(config);
    let mut replay = recording.replay_since(now.unix_ns.saturating_sub(OLDEST_NS.into()))?;
    while replay.advance(u64::MAX, &mut |event| {
        // Its censuses, figures and namespaces are old: the trace reads its own.
        let is_wanted = match &event {
            // Which tier it is decides how sockets are identified.
            Event::Start { .. } | Event::Process { .. } | Event::Container { .. } | Event::User { .. } => true,
            Event::Connection(connection) => connection.end_ns >= since_ns && is_inode(connection.tuple.netns),
            Event::TimewaitEnd(end) => end.at_ns >= since_ns,
            Event::ResetSent { at_ns, .. } => *at_ns >= since_ns,
            // For the time of the last event.
            Event::Tick { .. } => true,
            _ => false,
        };
        if is_wanted {
            state.apply(event);
        }
    })? {}
    // What has ended since does not end in the trace.
    let now_ns = clock::monotonic_ns()?;
    let ended_ns = state.summary().window.now_ns;
    state.apply(Event::Tick { at_ns: now_ns });
    state.count_from_now();
    let mut notes = recording::warnings(&recording.info().clone().after(replay.losses(), replay.connections_lost()));
    if now_ns.saturating_sub(ended_ns) > AGO_NS {
        notes.push(recording::ended(Duration::from_nanos(now_ns - ended_ns)));
    }
    Ok((state, notes))
}

/// Sockets do not outlive their boot, and cookies start again.
pub(crate) fn same_boot(info: &Info, own: &HostFacts) -> anyhow::Result<()> {
    if info.host.boot_id.is_empty() || info.host.boot_id != own.boot_id {
        let name = recording::name(info);
        bail!(
            "{name} was not recorded since this host's last boot, so its sockets are gone: see `twtrace replay {name}`"
        );
    }
    Ok(())
}

/// Reports on standard error what could not be read, one line each: a program may read the report itself.
pub(crate) fn say_losses(losses: &[String]) {
    for loss in losses {
        // An error here cannot be reported.
        let _ = writeln!(io::stderr(), "twtrace: {loss}");
    }
}

/// Both ends of a span as wall-clock times, nanoseconds since the Unix epoch.
///
/// # Errors
/// The recording has nothing between them.
pub(crate) fn bounds(info: &Info, span: Span) -> anyhow::Result<(Option<i128>, Option<i128>)> {
    let (start, end) = (info.start_unix_ns, info.end_unix_ns);
    let resolve = |moment: Option<TimeSpec>| moment.map(|moment| moment.unix_ns(start, end));
    let (from, to) = (resolve(span.from), resolve(span.to));
    let there = || {
        let path = info.path.display();
        format!("{path} is from {} to {}", text::rfc3339(start), text::rfc3339(end))
    };
    match (from, to) {
        (Some(from), _) if from >= end => bail!("--from {} is too late: {}", text::rfc3339(from), there()),
        (_, Some(to)) if to <= start => bail!("--to {} is too early: {}", text::rfc3339(to), there()),
        (Some(from), Some(to)) if from >= to => {
            bail!("--from {} is not before --to {}: {}", text::rfc3339(from), text::rfc3339(to), there())
        }
        bounds => Ok(bounds),
    }
}

/// Converts a wall-clock time to the traced host's monotonic clock.
fn monotonic(window: &Window, unix_ns: i128) -> u64 {
    let since = unix_ns.saturating_sub(window.start_unix_ns);
    let at = i128::from(window.start_ns).saturating_add(since).max(0);
    u64::try_from(at).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;
    use twtrace_core::snapshot::GroupBy;
    use twtrace_recording::writer::{Recorder, WriteOptions};
    use twtrace_testkit::{shop, snapshot_with_history};

    /// A recording of a troubled web shop, and its Events.
    fn recorded(seconds: u64) -> (tempfile::TempDir, Vec<Event>) {
        let folder = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::create(&folder.path().join("shop.twt"), WriteOptions::default()).unwrap();
        let events = shop::events(seconds, 1.0);
        events.iter().for_each(|event| recorder.record(event).unwrap());
        recorder.finish().unwrap();
        (folder, events)
    }

    fn read(folder: &tempfile::TempDir, from: &str, to: &str) -> Recorded {
        Recorded::read(&folder.path().join("shop.twt"), Filter::default(), span(from, to)).unwrap()
    }

    /// Everything that a report shows of a model.
    fn shown(snapshot: &Snapshot) -> String {
        let model = snapshot;
        let mut shown = format!("{:?}\n{:?}\n", model.summary(), model.history());
        for by in [GroupBy::Process, GroupBy::Command] {
            model.rows(by).iter().for_each(|row| shown += &format!("{row:?}\n"));
        }
        model.destinations().iter().for_each(|row| shown += &format!("{row:?}\n"));
        shown
    }

    #[test]
    fn what_is_read_is_what_was_recorded() {
        let (folder, events) = recorded(20);
        let read = read(&folder, "", "");
        assert_eq!(shown(&read.snapshot), shown(&snapshot_with_history(events)));
        assert_eq!((read.info.losses, read.info.finished), (Vec::new(), true));
    }

    #[test]
    fn a_part_is_counted_from_its_first_tick_to_its_last() {
        let (folder, events) = recorded(20);
        let read = read(&folder, "+5s", "-8s");
        let mut state = State::new(Config { history: true, ..Config::default() });
        let mut ticks = 0;
        for event in events {
            let is_tick = matches!(event, Event::Tick { .. });
            state.apply(event);
            ticks += u32::from(is_tick);
            // Ticks are a nanosecond before each full second.
            if is_tick && ticks == 6 {
                state.count_from_now();
            }
            if is_tick && ticks == 12 {
                break;
            }
        }
        assert_eq!(shown(&read.snapshot), shown(&Snapshot::take(&mut state)));
        let summary = read.snapshot.summary();
        assert_eq!((summary.window.seconds(), summary.totals.connections > 0), (6.0, true));
    }

    #[test]
    fn parts_come_to_the_whole() {
        let (folder, _) = recorded(20);
        let totals_of = |from, to| {
            let read = read(&folder, from, to);
            let totals = &read.snapshot.summary().totals;
            (totals.connections, totals.counts.time_wait_created, totals.counts.errors.clone())
        };
        let (whole, first, second) = (totals_of("", ""), totals_of("", "+10s"), totals_of("+10s", ""));
        assert_eq!((whole.0, whole.1), (first.0 + second.0, first.1 + second.1));
        assert_eq!(whole.2[&99], [first.2, second.2].iter().filter_map(|errors| errors.get(&99)).sum::<u64>());
        // A span from before its beginning gives all of it.
        assert_eq!(totals_of("00:00", "23:00"), whole);
    }

    const SECOND: i128 = 1_000_000_000;

    fn info() -> Info {
        let start_unix_ns = 1_790_000_000 * SECOND;
        Info { path: "a.twt".into(), start_unix_ns, end_unix_ns: start_unix_ns + 600 * SECOND, ..Info::default() }
    }

    fn span(from: &str, to: &str) -> Span {
        let parse = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
        Span { from: parse(from), to: parse(to) }
    }

    #[test]
    fn spans_must_be_in_the_recording() {
        let start = info().start_unix_ns;
        assert_eq!(bounds(&info(), span("", "")).unwrap(), (None, None));
        let expected = (Some(start + 90 * SECOND), Some(start + 300 * SECOND));
        assert_eq!(bounds(&info(), span("+90s", "-5m")).unwrap(), expected);
        // 14:13:20 to 14:23:20. Before the start there is nothing to leave out.
        assert_eq!(bounds(&info(), span("14:00", "14:20")).unwrap().1, Some(start + 400 * SECOND));
        for (from, to, expected) in [
            ("-1m", "+1m", "--from 2026-09-21T14:22:20.000Z is not before --to 2026-09-21T14:14:20.000Z"),
            ("14:23:20", "", "--from 2026-09-21T14:23:20.000Z is too late: a.twt is from 2026-09-21T14:13:20.000Z"),
            ("", "14:13:20", "--to 2026-09-21T14:13:20.000Z is too early"),
        ] {
            let error = bounds(&info(), span(from, to)).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn clocks_of_any_recording_are_put_together() {
        let window = Window { start_ns: 50, start_unix_ns: 1_000, now_ns: 60 };
        assert_eq!((monotonic(&window, 1_100), monotonic(&window, 960), monotonic(&window, 900)), (150, 10, 0));
        assert_eq!((monotonic(&window, i128::MAX), monotonic(&window, i128::MIN)), (u64::MAX, 0));
    }

    #[test]
    fn recordings_of_another_boot_are_refused() {
        let of = |boot_id: &str| HostFacts { boot_id: boot_id.to_owned(), ..HostFacts::default() };
        let info = Info { path: "/var/tmp/a.twt".into(), host: of("1"), ..Info::default() };
        assert!(same_boot(&info, &of("1")).is_ok());
        for (info, own) in [(info, of("2")), (Info::default(), of(""))] {
            let error = same_boot(&info, &own).map_err(|error| error.to_string());
            assert!(error.is_err_and(|error| error.contains("twtrace replay")));
        }
    }
}
