//! Brings a state to any moment of a recording.
//!
//! The state at a moment is the one after everything up to and including the first tick at that moment or later. Going
//! back means starting again; states that are kept on the way shorten that.

use twtrace_core::event::Event;
use twtrace_core::recording::Info;
use twtrace_core::snapshot::{Snapshot, Window};
use twtrace_core::state::{Config, State};
use twtrace_recording::reader::Recording;
use twtrace_recording::replay::Replay;

/// Maximum number of engines kept.
const KEPT: usize = 32;

/// Maximum size of all of them, in bytes.
const KEPT_BYTES: usize = 256 * 1024 * 1024;

/// Minimum time between two of them, nanoseconds.
const LEAST_SPACING_NS: u64 = 1_000_000_000;

/// Events that can be read again.
pub(super) trait Playable {
    /// One pass.
    type Run: Run;

    /// A pass that begins with a segment; 0 means the first.
    fn run(&self, segment: u32) -> anyhow::Result<Self::Run>;
}

/// A pass over a tape.
pub(super) trait Run {
    /// Passes on events up to and including the first tick at `until_ns` or later; false when there are no more.
    fn advance(&mut self, until_ns: u64, sink: &mut dyn FnMut(Event)) -> anyhow::Result<bool>;

    /// The segment in which it is.
    fn segment(&self) -> u32;

    /// What the recording says about itself, with what turned out to be unreadable.
    fn info(&self, at_opening: Info) -> Info;
}

impl Playable for Recording {
    type Run = Replay;

    fn run(&self, segment: u32) -> anyhow::Result<Replay> {
        self.replay_from(segment)
    }
}

impl Run for Replay {
    fn advance(&mut self, until_ns: u64, sink: &mut dyn FnMut(Event)) -> anyhow::Result<bool> {
        Self::advance(self, until_ns, sink)
    }

    fn segment(&self) -> u32 {
        Self::segment(self)
    }

    fn info(&self, at_opening: Info) -> Info {
        at_opening.after(self.losses(), self.connections_lost())
    }
}

/// Position of a pass: its two latest ticks, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    now_ns: u64,
    before_ns: u64,
    /// More came after the latest tick.
    beyond: bool,
}

impl Place {
    fn passed(&mut self, event: &Event) {
        match event {
            Event::Tick { at_ns } if *at_ns > self.now_ns => {
                *self = Self { now_ns: *at_ns, before_ns: self.now_ns, beyond: false };
            }
            _ => self.beyond = true,
        }
    }

    /// Whether a target leads here, and not to an earlier tick.
    fn is_of(self, target_ns: u64) -> bool {
        target_ns > if self.beyond { self.now_ns } else { self.before_ns }
    }
}

/// A state that was kept, and the position of the pass at that time.
struct Kept {
    at: Place,
    segment: u32,
    state: State,
}

/// A state on its way to a moment.
pub(super) struct Player<T: Playable> {
    tape: T,
    config: Config,
    run: T::Run,
    /// Position of the pass.
    at: Place,
    ended: bool,
    state: State,
    /// The state already contains what the pass has up to this tick.
    known_ns: u64,
    target_ns: u64,
    kept: Vec<Kept>,
    spacing_ns: u64,
}

impl<T: Playable> Player<T> {
    /// At the first tick of a recording of about this length.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn new(tape: T, config: Config, length_ns: u64) -> anyhow::Result<Self> {
        let mut player = Self {
            run: tape.run(0)?,
            tape,
            state: State::new(config.clone()),
            config,
            at: Place::default(),
            ended: false,
            known_ns: 0,
            target_ns: 1,
            kept: Vec::new(),
            spacing_ns: (length_ns / KEPT as u64).max(LEAST_SPACING_NS),
        };
        player.go_on(&mut || false)?;
        Ok(player)
    }

    /// The state at the current position.
    pub(super) fn snapshot(&mut self, sockets: bool) -> Snapshot {
        if sockets { Snapshot::with_sockets(&mut self.state) } else { Snapshot::take(&mut self.state) }
    }

    /// The current position, and its start.
    pub(super) fn window(&self) -> Window {
        self.state.summary().window
    }

    #[cfg(test)]
    pub(super) fn knows_the_same(&self, other: &State) -> bool {
        format!("{:?}", self.state) == format!("{other:?}")
    }

    /// Whether it is at the last target.
    pub(super) fn has_arrived(&self) -> bool {
        self.ended || (self.at.now_ns >= self.target_ns && !self.is_catching_up())
    }

    /// Whether the state is ahead of the pass.
    fn is_catching_up(&self) -> bool {
        self.at.now_ns < self.known_ns
    }

    /// Whether it is at the end of the recording.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Recording facts, with what turned out to be unreadable on the way.
    pub(super) fn info(&self, at_opening: Info) -> Info {
        self.run.info(at_opening)
    }

    /// Sets another target. [`Self::go_on`] goes there.
    ///
    /// # Errors
    /// The recording cannot be read any more.
    pub(super) fn go_to(&mut self, target_ns: u64) -> anyhow::Result<()> {
        // Before the first tick there is nothing to show.
        self.target_ns = target_ns.max(1);
        // On the way to a kept state, the first moment that can be reached is that state's.
        let is_near = if self.is_catching_up() { target_ns >= self.known_ns } else { self.at.is_of(target_ns) };
        if is_near {
            return Ok(());
        }
        let kept = self.kept.iter().rev().find(|kept| kept.at.now_ns <= target_ns);
        self.run = self.tape.run(kept.map_or(0, |kept| kept.segment))?;
        (self.at, self.ended) = (Place::default(), false);
        (self.known_ns, self.state) = match kept {
            Some(kept) => (kept.at.now_ns, kept.state.clone()),
            None => (0, State::new(self.config.clone())),
        };
        Ok(())
    }

    /// Continues to the target, tick by tick, until `enough` returns true.
    ///
    /// # Errors
    /// The recording cannot be read any more.
    pub(super) fn go_on(&mut self, enough: &mut dyn FnMut() -> bool) -> anyhow::Result<()> {
        while !self.has_arrived() {
            let is_known = self.is_catching_up();
            let Self { run, at, state, .. } = self;
            let more = run.advance(at.now_ns.saturating_add(1), &mut |event| {
                at.passed(&event);
                if !is_known {
                    state.apply(event);
                }
            })?;
            self.ended = !more;
            if !is_known {
                self.keep();
            }
            if enough() {
                break;
            }
        }
        Ok(())
    }

    /// Keeps the state if it is far enough from the last kept one.
    fn keep(&mut self) {
        let next_ns = self.kept.last().map_or(0, |kept| kept.at.now_ns.saturating_add(self.spacing_ns));
        if self.ended || self.at.now_ns < next_ns {
            return;
        }
        self.kept.push(Kept { at: self.at, segment: self.run.segment(), state: self.state.clone() });
        let size = |kept: &[Kept]| kept.iter().map(|kept| kept.state.size()).sum::<usize>();
        while self.kept.len() > KEPT || size(&self.kept) > KEPT_BYTES {
            // Drops every second one; a single one that is too large is dropped too.
            let mut index = 0;
            self.kept.retain(|_| {
                index += 1;
                index % 2 == 0
            });
            self.spacing_ns = self.spacing_ns.saturating_mul(2);
        }
    }
}
