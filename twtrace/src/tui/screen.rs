//! Takes over the terminal and restores it.

use crate::cli::Colours;
use crate::config::Settings;
use crate::tui;
use crate::tui::model::{Outcome, Recording};
use crate::tui::playback::Playback;
use crate::tui::state::State;
use crate::tui::style::{Palette, Theme};
use crossterm::clipboard::CopyToClipboard;
use crossterm::event::{Event, KeyEventKind, KeyModifiers, MouseEventKind};
use crossterm::style::Print;
use crossterm::terminal::{BeginSynchronizedUpdate, EndSynchronizedUpdate, is_raw_mode_enabled};
use crossterm::{execute, queue};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use std::env;
use std::fs;
use std::io::{self, BufWriter, Stdout, Write as _};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};
use terminal_colorsaurus::{Error, QueryOptions, ThemeMode, theme_mode};
use twtrace_core::snapshot::Snapshot;
use twtrace_view::trend::Trend;

/// The whole terminal. Dropping it restores the previous content.
pub(crate) struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
    state: State,
    /// The current snapshot.
    latest: Arc<Snapshot>,
    /// The snapshot at the time when the user froze it.
    frozen: Option<Arc<Snapshot>>,
    /// The chart that goes on meanwhile.
    behind: Trend,
    /// What the user wants of the trace.
    orders: Orders,
    /// Keys before this may be no keys.
    ignores_keys: Option<Instant>,
    open: bool,
}

/// What the user wants of the trace.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Orders {
    /// A snapshot this often from now on.
    pub(crate) interval: Option<Duration>,
    /// Start a recording, or end it.
    pub(crate) record: bool,
}

impl Screen {
    /// Takes over the terminal and draws.
    pub(crate) fn open(settings: &Settings, playback: Option<Playback>, latest: Arc<Snapshot>) -> io::Result<Self> {
        // A replay also decodes on this thread: that must not go before the host's own work.
        if playback.is_none() {
            go_first();
        }
        let (palette, is_late) = palette(settings.colours);
        let theme = Theme { palette, ascii: !is_utf8() };
        // Raw mode, the alternate screen, and a hook that leaves both before a panic prints its message.
        ratatui::try_init().inspect_err(|_| leave())?;
        // A whole frame in one write, or the terminal would show halves: the backend of `try_init` writes it in pieces.
        let backend = CrosstermBackend::new(BufWriter::with_capacity(64 * 1024, io::stdout()));
        let mut terminal = Terminal::new(backend).inspect_err(|_| leave())?;
        execute!(terminal.backend_mut(), MOUSE_ON).inspect_err(|_| leave())?;
        let mut state = State::new(settings.by, settings.sort, theme);
        (state.columns, state.filter) = (settings.columns.clone(), settings.filter.clone());
        (state.interval, state.mistake) = (settings.interval, settings.mistake.clone());
        state.agent = settings.agent.clone();
        state.playback = playback;
        state.trend.add(&latest);
        state.losses.add(&latest);
        let mut screen = Self {
            terminal,
            state,
            latest,
            frozen: None,
            behind: Trend::default(),
            orders: Orders::default(),
            ignores_keys: is_late.then(|| Instant::now() + LATE),
            open: true,
        };
        screen.draw()?;
        Ok(screen)
    }

    /// The recording that is played.
    pub(crate) fn playback(&mut self) -> Option<&mut Playback> {
        self.state.playback.as_mut()
    }

    /// Draws this snapshot from now on.
    pub(crate) fn show(&mut self, latest: Arc<Snapshot>) -> io::Result<()> {
        // The chart of a frozen screen stays as it is.
        let trend = if self.frozen.is_some() { &mut self.behind } else { &mut self.state.trend };
        trend.add(&latest);
        self.state.losses.add(&latest);
        self.latest = latest;
        self.draw()
    }

    /// What the user wanted of the trace since the last call.
    pub(crate) fn orders(&mut self) -> Orders {
        std::mem::take(&mut self.orders)
    }

    /// The recording that was started from the screen, or none; and what there is to say about it.
    pub(crate) fn set_recording(&mut self, recording: Option<Recording>, notice: String) -> io::Result<()> {
        (self.state.recording, self.state.notice) = (recording, Some(notice));
        self.draw()
    }

    /// Whether the list of live sockets is shown.
    pub(crate) fn wants_sockets(&self) -> bool {
        self.state.wants_sockets()
    }

    /// The current snapshot, or the frozen one.
    fn shown(&self) -> Arc<Snapshot> {
        Arc::clone(self.frozen.as_ref().unwrap_or(&self.latest))
    }

    /// Draws.
    pub(crate) fn draw(&mut self) -> io::Result<()> {
        let shown = self.shown();
        queue!(self.terminal.backend_mut(), BeginSynchronizedUpdate)?;
        let state = &mut self.state;
        self.terminal.draw(|frame| tui::draw(frame, &shown, state))?;
        execute!(self.terminal.backend_mut(), EndSynchronizedUpdate)
    }

    /// Acts on a key or a new size, and draws.
    pub(crate) fn event(&mut self, event: &Event) -> io::Result<ControlFlow<()>> {
        let shown = self.shown();
        let is_early = self.ignores_keys.is_some_and(|until| Instant::now() < until);
        let outcome = match event {
            Event::Key(key) if is_early && !key.modifiers.contains(KeyModifiers::CONTROL) => Outcome::Done,
            Event::Key(key) if key.kind != KeyEventKind::Release => tui::key(*key, &shown, &mut self.state),
            // What else a mouse does changes nothing.
            Event::Mouse(mouse) if is_meant(mouse.kind) => tui::mouse(*mouse, &shown, &mut self.state),
            Event::Resize(..) => Outcome::Done,
            _ => return Ok(ControlFlow::Continue(())),
        };
        match outcome {
            Outcome::Quit => return Ok(ControlFlow::Break(())),
            Outcome::Freeze => {
                self.frozen = Some(Arc::clone(&self.latest));
                self.behind = self.state.trend.clone();
            }
            Outcome::Thaw => {
                self.frozen = None;
                self.state.trend = std::mem::take(&mut self.behind);
            }
            Outcome::Mark => self.state.mark = Some(shown),
            Outcome::Interval(interval) => {
                self.orders.interval = Some(interval);
                self.state.trend.change_step();
                self.behind.change_step();
            }
            Outcome::Record => self.orders.record = true,
            Outcome::Copy(text) => self.copy(&text)?,
            Outcome::Export { name, text } => {
                // The terminal may not take it, and the file may be refused.
                self.state.notice = Some(match export(&name, &text) {
                    Ok(name) => format!("written to {name}, and copied"),
                    Err(error) => format!("copied; cannot write {name}.md: {error}"),
                });
                self.copy(&text)?;
            }
            Outcome::Done => {}
        }
        self.draw()?;
        Ok(ControlFlow::Continue(()))
    }

    /// Puts a text on the clipboard of the terminal (OSC 52), which may refuse it without a word.
    fn copy(&mut self, text: &str) -> io::Result<()> {
        execute!(self.terminal.backend_mut(), CopyToClipboard::to_clipboard_from(text))
    }

    pub(crate) fn close(mut self) -> io::Result<()> {
        self.restore()
    }

    fn restore(&mut self) -> io::Result<()> {
        self.open = false;
        // A frame that an error cut short is still in the buffer, and must not be written last.
        let ended = execute!(self.terminal.backend_mut(), EndSynchronizedUpdate, MOUSE_OFF)
            .and_then(|()| self.terminal.show_cursor());
        ratatui::try_restore().and(ended)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.open {
            // The error that brought us here is the one to report.
            let _ = self.restore();
        }
    }
}

/// Terminals that have no colours.
const COLOURLESS: [&str; 6] = ["dumb", "vt100", "vt102", "vt220", "vt320", "vt420"];

/// How long the keys are ignored after a terminal has not said in time which background it has: its answer would be read as
/// keys.
const LATE: Duration = Duration::from_secs(2);

/// The colours to draw with, and whether an answer of the terminal may still come.
fn palette(colours: Colours) -> (Palette, bool) {
    let palette = match colours {
        Colours::Dark => Palette::Dark,
        Colours::Light => Palette::Light,
        Colours::Contrast => Palette::Contrast,
        Colours::None => Palette::Plain,
        // See no-color.org.
        Colours::Auto if env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) => Palette::Plain,
        Colours::Auto if env::var("TERM").is_ok_and(|name| COLOURLESS.contains(&&*name)) => Palette::Plain,
        // Nearly every terminal answers at once that it does not know, or which it is.
        Colours::Auto => match theme_mode(QueryOptions::default()) {
            Ok(ThemeMode::Light) => Palette::Light,
            Ok(ThemeMode::Dark) => Palette::Dark,
            // Most are dark.
            Err(error) => return (Palette::Dark, matches!(error, Error::Timeout(_))),
        },
    };
    (palette, false)
}

/// Whether the locale says that the terminal shows UTF-8: the first of these variables that is set decides (POSIX). Without
/// any, as under sudo, it is assumed: a console of the last twenty years shows it.
fn is_utf8() -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"].iter().filter_map(env::var_os).find(|value| !value.is_empty());
    set.is_none_or(|value| {
        let value = value.to_string_lossy().to_ascii_lowercase();
        value.contains("utf-8") || value.contains("utf8")
    })
}

/// Whether an event of the mouse does something.
fn is_meant(kind: MouseEventKind) -> bool {
    matches!(kind, MouseEventKind::Down(_) | MouseEventKind::ScrollUp | MouseEventKind::ScrollDown)
}

/// Buttons and the wheel, in the form that has no limit of columns (SGR). Motion would wake this thread all the time.
const MOUSE_ON: Print<&str> = Print("\x1b[?1000h\x1b[?1006h");
const MOUSE_OFF: Print<&str> = Print("\x1b[?1006l\x1b[?1000l");

/// Files of one name and second that are written at most.
const EXPORTS: u32 = 100;

/// Writes a new file, and returns its name. An existing one, or a link in its place, is not touched.
fn export(name: &str, text: &str) -> io::Result<String> {
    let mut number = 1;
    loop {
        let name = if number == 1 { format!("{name}.md") } else { format!("{name}-{number}.md") };
        match fs::OpenOptions::new().write(true).create_new(true).open(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < EXPORTS => number += 1,
            opened => return opened?.write_all(text.as_bytes()).map(|()| name),
        }
    }
}

/// Undoes what was done before opening the screen failed.
fn leave() {
    // The error that brought us here is the one to report.
    let _ = execute!(io::stdout(), MOUSE_OFF);
    if is_raw_mode_enabled().unwrap_or(false) {
        ratatui::restore();
    }
}

/// Priority of the drawing thread over other threads (`nice`).
const NICE: libc::c_int = -10;

/// The drawing thread works for a few milliseconds at a time. If all processors of the host are busy, it would wait
/// longer than that for its turn. Threads that were started before are not affected.
fn go_first() {
    // SAFETY: getpriority(2) and setpriority(2) read their numbers and no memory; 0 is the calling thread.
    unsafe {
        // A user who lowered the priority wants that. Without the privilege, keys are only answered later.
        if libc::getpriority(libc::PRIO_PROCESS, 0) <= 0 {
            let _ = libc::setpriority(libc::PRIO_PROCESS, 0, NICE);
        }
    }
}
