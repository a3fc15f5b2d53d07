//! The terminal, taken and given back.

use crate::cli::ViewArgs;
use crate::tui::deck::Deck;
use crate::tui::figures::Frozen;
use crate::tui::state::{Outcome, State};
use crate::tui::{self, style::Look};
use crossterm::event::{Event, KeyEventKind};
use crossterm::terminal::{
    BeginSynchronizedUpdate, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode,
};
use crossterm::{cursor, execute, queue};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use std::env;
use std::io::{self, BufWriter, Stdout, Write as _};
use std::ops::ControlFlow;
use std::panic;
use twtrace_core::snapshot::Snapshot;

/// The whole terminal. Dropping it restores what was there.
pub(crate) struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
    state: State,
    frozen: Option<Box<Frozen>>,
    open: bool,
}

impl Screen {
    pub(crate) fn open(args: &ViewArgs, deck: Option<Deck>) -> io::Result<Self> {
        let colour = !args.no_color && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        restore_on_panic();
        enable_raw_mode()?;
        // From here on an early return restores what was done so far.
        let guard = TerminalGuard;
        execute!(io::stdout(), EnterAlternateScreen, cursor::Hide)?;
        // A whole frame in one write, or the terminal would show halves.
        let terminal = Terminal::new(CrosstermBackend::new(BufWriter::with_capacity(64 * 1024, io::stdout())))?;
        std::mem::forget(guard);
        let mut state = State::new(args.by, args.sort, Look { colour });
        state.deck = deck;
        Ok(Self { terminal, state, frozen: None, open: true })
    }

    /// The recording that is played.
    pub(crate) fn deck(&mut self) -> Option<&mut Deck> {
        self.state.deck.as_mut()
    }

    /// Draws what is known now, or what was when the user froze it.
    pub(crate) fn draw(&mut self, model: &Snapshot) -> io::Result<()> {
        queue!(self.terminal.backend_mut(), BeginSynchronizedUpdate)?;
        let (state, frozen) = (&mut self.state, self.frozen.as_deref());
        self.terminal.draw(|frame| match frozen {
            Some(frozen) => tui::draw(frame, frozen, state),
            None => tui::draw(frame, model, state),
        })?;
        execute!(self.terminal.backend_mut(), EndSynchronizedUpdate)
    }

    /// Acts on a key or another size, and draws.
    pub(crate) fn event(&mut self, event: &Event, model: &Snapshot) -> io::Result<ControlFlow<()>> {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => {
                let outcome = match self.frozen.as_deref() {
                    Some(frozen) => tui::key(*key, frozen, &mut self.state),
                    None => tui::key(*key, model, &mut self.state),
                };
                match outcome {
                    Outcome::Quit => return Ok(ControlFlow::Break(())),
                    Outcome::Freeze => self.frozen = Some(Box::new(Frozen::of(model, &self.state))),
                    Outcome::Thaw => self.frozen = None,
                    Outcome::Done => {}
                }
            }
            Event::Resize(..) => {}
            _ => return Ok(ControlFlow::Continue(())),
        }
        self.draw(model)?;
        Ok(ControlFlow::Continue(()))
    }

    pub(crate) fn close(mut self) -> io::Result<()> {
        self.open = false;
        restore()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.open {
            // The error that brought us here is the one to tell.
            let _ = restore();
        }
    }
}

/// Restores the terminal when dropped.
struct TerminalGuard;

impl Drop for TerminalGuard {
    fn drop(&mut self) {
        let _ = restore();
    }
}

fn restore() -> io::Result<()> {
    let raw = disable_raw_mode();
    let mut out = io::stdout();
    let left = execute!(out, EndSynchronizedUpdate, LeaveAlternateScreen, cursor::Show);
    raw.and(left).and_then(|()| out.flush())
}

/// What a panic says is said on the terminal as it was.
fn restore_on_panic() {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let _ = restore();
        hook(panic);
    }));
}
