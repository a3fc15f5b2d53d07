//! `twtrace replay`: a recording on the screen of `top`, with time controls, or one report as of a moment.

mod player;
#[cfg(test)]
mod tests;
mod what_if;

use crate::batch::Batch;
use crate::cli::ReplayArgs;
use crate::config::{self, Settings};
use crate::event_loop::{EventLoop, Wakeup, runtime};
use crate::exit_code::exit_code;
use crate::recorded::say_losses;
use crate::tui::playback::{Churn, Mark, Playback};
use crate::tui::screen::Screen;
use anyhow::{Context as _, bail};
use player::{Playable, Player, Run};
use std::collections::HashSet;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};
use twtrace_core::finding::{Finding, Rule, Severity};
use twtrace_core::peaks::peaks;
use twtrace_core::recording::Info;
use twtrace_core::snapshot::Snapshot;
use twtrace_core::state::{Config, State};
use twtrace_recording::reader::Recording;
use twtrace_view::{findings, recording};

/// Interval of updates.
const POLL: Duration = Duration::from_millis(100);

/// How long a step to another moment may delay the keys.
const SLICE: Duration = Duration::from_millis(80);

/// Plays the recording, or writes the report of one moment.
///
/// # Errors
/// The recording cannot be read, there is no terminal to play on, or the output cannot be written to.
pub fn run(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    if !args.what_if.is_empty() {
        return what_if::report(args, &mut io::stdout().lock());
    }
    if !args.once && (args.view.json || args.view.csv || !io::stdout().is_terminal()) {
        bail!("playing a recording needs a terminal: add --once for a report as of --at, or of the end");
    }
    let recording = Recording::open(&args.recording)?;
    let info = recording.info().clone();
    let (name, warnings) = (recording::name(&info), recording::warnings(&info));
    let length = (info.end_unix_ns - info.start_unix_ns).clamp(0, i128::from(u64::MAX)) as u64;
    let config = Config { filter: args.view.filter.filter(), ..Config::default() };
    let survey = if args.once { None } else { Some(look_ahead(recording.run(0)?, config.clone(), length)) };
    let mut player = Player::new(recording, config, length)?;
    let window = player.window();
    let moments = (window.start_ns, window.start_ns.saturating_add(length));
    let mut playback = Playback::new(name, warnings, window.start_unix_ns, moments);
    if let Some(at) = args.at {
        playback.go(playback.find(at));
    }
    match survey {
        Some(survey) => play(&mut player, playback, args, &survey).map(|()| ExitCode::SUCCESS),
        None => {
            let at_ns = if args.at.is_some() { playback.target_ns() } else { u64::MAX };
            report(&mut player, info, at_ns, args, &mut io::stdout().lock())
        }
    }
}

/// One report, as of a moment.
fn report<T: Playable>(
    player: &mut Player<T>,
    at_opening: Info,
    at_ns: u64,
    args: &ReplayArgs,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    player.go_to(at_ns)?;
    player.go_on(&mut || false)?;
    let snapshot = player.snapshot(false);
    Batch::new(&args.view, BufWriter::new(out)).write(&snapshot)?;
    let code = exit_code(args.fail_on.as_ref(), &[&snapshot]);
    say_losses(&recording::warnings(&player.info(at_opening)));
    Ok(code)
}

/// What a whole recording has.
struct Survey {
    churn: Churn,
    marks: Vec<Mark>,
    end_ns: u64,
}

/// Moments at which findings are looked for, at most.
const LOOKS: u64 = 200;

/// Shortest time between two of them, nanoseconds.
const LEAST_LOOK_NS: u64 = 2_000_000_000;

/// Reads a whole recording of about this length on its own thread: its churn over time, when findings began, and its actual
/// end.
fn look_ahead(mut run: impl Run + Send + 'static, config: Config, length_ns: u64) -> Receiver<anyhow::Result<Survey>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        // When the user has quit, there is no receiver.
        let _ = sender.send(survey(&mut run, config, length_ns));
    });
    receiver
}

fn survey(run: &mut impl Run, config: Config, length_ns: u64) -> anyhow::Result<Survey> {
    let mut state = State::new(Config { history: true, ..config });
    let step_ns = (length_ns / LOOKS).max(LEAST_LOOK_NS);
    let mut marks = Vec::new();
    let mut active: HashSet<(u64, Rule, Severity)> = HashSet::new();
    let mut until_ns = 1;
    let mut more = true;
    while more {
        more = run.advance(until_ns, &mut |event| state.apply(event))?;
        let at_ns = state.summary().window.now_ns;
        until_ns = at_ns.saturating_add(step_ns);
        let snapshot = Snapshot::take(&mut state);
        let now = findings::sorted(snapshot.findings()).into_iter();
        let now: Vec<&Finding> = now.filter(|one| one.active && one.severity != Severity::Info).collect();
        // What was near and is reached, or was a habit and has its consequence, is news.
        let key = |finding: &Finding| (findings::id(finding), finding.rule, finding.severity);
        for finding in now.iter().filter(|finding| !active.contains(&key(finding))) {
            let (severity, subject) =
                (findings::severity(finding.severity), findings::subject(finding, Some(&snapshot)));
            marks.push(Mark { at_ns, text: format!("{severity} {}: {subject}", finding.rule.name()) });
        }
        active = now.into_iter().map(key).collect();
    }
    let churn = state.history().map_or_else(Churn::default, |history| {
        let created: Vec<u64> = history.moments().iter().map(|moment| moment.created).collect();
        Churn { peaks: peaks(&created), created, bucket_ns: history.bucket_ns() }
    });
    Ok(Survey { churn, marks, end_ns: state.summary().window.now_ns })
}

/// Plays until the user quits.
fn play<T: Playable>(
    player: &mut Player<T>,
    playback: Playback,
    args: &ReplayArgs,
    survey: &Receiver<anyhow::Result<Survey>>,
) -> anyhow::Result<()> {
    let settings = Settings::new(&args.view, None, config::find());
    runtime()?.block_on(async {
        let mut events = EventLoop::<()>::new(None, None)?;
        events.poll_every(POLL);
        let first = Arc::new(player.snapshot(false));
        let mut screen = Screen::open(&settings, Some(playback), first).context("cannot use the terminal")?;
        events.listen_to_keys();
        let mut last = Instant::now();
        loop {
            let mut changed = false;
            match events.next().await? {
                Wakeup::Poll | Wakeup::View(_) => {}
                Wakeup::Event(event) => {
                    let sockets = screen.wants_sockets();
                    if screen.event(&event)?.is_break() {
                        break;
                    }
                    // A tab that needs a longer list.
                    changed = screen.wants_sockets() != sockets;
                }
                Wakeup::End | Wakeup::Failed => break,
            }
            let now = Instant::now();
            let elapsed = now.duration_since(std::mem::replace(&mut last, now));
            let Some(playback) = screen.playback() else { break };
            if player.has_arrived() {
                let was_playing = playback.is_playing();
                playback.passed(elapsed);
                changed |= was_playing != playback.is_playing();
            }
            if let Ok(seen) = survey.try_recv() {
                let Survey { churn, marks, end_ns } = seen?;
                (playback.churn, playback.marks) = (Some(churn), marks);
                playback.ended(end_ns);
                changed = true;
            }
            player.go_to(playback.target_ns())?;
            if !player.has_arrived() {
                player.go_on(&mut || now.elapsed() >= SLICE)?;
                changed = true;
                if player.has_ended() {
                    playback.ended(player.window().now_ns);
                }
            }
            if changed {
                let sockets = screen.wants_sockets();
                screen.show(Arc::new(player.snapshot(sockets)))?;
                // A line that is open needs them, and came back with this snapshot.
                if screen.wants_sockets() && !sockets {
                    screen.show(Arc::new(player.snapshot(true)))?;
                }
            }
        }
        screen.close().context("cannot restore the terminal")
    })
}
