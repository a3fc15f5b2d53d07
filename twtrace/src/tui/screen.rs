//! The terminal, taken and given back.

use crate::cli::ViewArgs;
use crate::tui::deck::Deck;
use crate::tui::figures::Frozen;
use crate::tui::state::{Outcome, State};
use crate::tui::{self, style::Look};
use crossterm::event::{Event, KeyEventKind};
use crossterm::terminal::{BeginSynchronizedUpdate, EndSynchronizedUpdate, is_raw_mode_enabled};
use crossterm::{execute, queue};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use std::env;
use std::io::{self, BufWriter, Stdout};
use std::ops::ControlFlow;
use twtrace_core::engine::Model;

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
        // Raw mode, the alternate screen, and a hook that leaves both before a panic says what it has to say.
        ratatui::try_init().inspect_err(|_| leave())?;
        // A whole frame in one write, or the terminal would show halves: that of `try_init` writes it in pieces.
        let backend = CrosstermBackend::new(BufWriter::with_capacity(64 * 1024, io::stdout()));
        let terminal = Terminal::new(backend).inspect_err(|_| leave())?;
        let mut state = State::new(args.by, args.sort, Look { colour });
        state.deck = deck;
        Ok(Self { terminal, state, frozen: None, open: true })
    }

    /// The recording that is played.
    pub(crate) fn deck(&mut self) -> Option<&mut Deck> {
        self.state.deck.as_mut()
    }

    /// Draws what is known now, or what was when the user froze it.
    pub(crate) fn draw(&mut self, model: &Model) -> io::Result<()> {
        queue!(self.terminal.backend_mut(), BeginSynchronizedUpdate)?;
        let (state, frozen) = (&mut self.state, self.frozen.as_deref());
        self.terminal.draw(|frame| match frozen {
            Some(frozen) => tui::draw(frame, frozen, state),
            None => tui::draw(frame, model, state),
        })?;
        execute!(self.terminal.backend_mut(), EndSynchronizedUpdate)
    }

    /// Acts on a key or another size, and draws.
    pub(crate) fn event(&mut self, event: &Event, model: &Model) -> io::Result<ControlFlow<()>> {
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
        self.restore()
    }

    fn restore(&mut self) -> io::Result<()> {
        self.open = false;
        // A frame that an error cut short is still in the buffer, and must not be what comes last.
        let ended =
            execute!(self.terminal.backend_mut(), EndSynchronizedUpdate).and_then(|()| self.terminal.show_cursor());
        ratatui::try_restore().and(ended)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.open {
            // The error that brought us here is the one to tell.
            let _ = self.restore();
        }
    }
}

/// Undoes what was done before opening the screen failed.
fn leave() {
    if is_raw_mode_enabled().unwrap_or(false) {
        ratatui::restore();
    }
}
