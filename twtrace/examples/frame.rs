//! What drawing costs: 60,000 TIME_WAIT sockets, 5,000 processes, 2,000 destinations, on screens of three sizes.
//!
//! ```sh
//! cargo run --release -p twtrace --example frame
//! ```
//!
//! With `--frames N` it draws the first screen so many times and prints nothing, for counts of instructions.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "an example prints, and stops at the first surprise"
)]

use clap::Parser;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use std::time::{Duration, Instant};
use twtrace::tui::state::State;
use twtrace::tui::style::{Palette, Theme};
use twtrace::tui::{draw, key};
use twtrace_core::event::Event;
use twtrace_core::snapshot::{GroupBy, Snapshot};
use twtrace_core::state::{Config, State as Trace};
use twtrace_testkit::{SECOND_NS, START_NS, answered, kernel, kernel_facts, owner, start, state_of, tick, tuple};
use twtrace_view::order::Sort;

const PROCESSES: u64 = 5000;
const DESTINATIONS: u64 = 2000;
const FRAMES: u32 = 100;

use KeyCode::{Char, Down, Enter};

/// Views, and the keys that lead to them.
const SCENES: [(&str, &[KeyCode]); 6] = [
    ("programs", &[]),
    ("processes", &[Char('g'), Char('g'), Char('g'), Char('g'), Char('g'), Char('g'), Char('g'), Char('g'), Char('g')]),
    ("destinations", &[Char('2')]),
    ("findings", &[Char('4')]),
    ("a program open down to its sockets", &[Enter, Down, Enter, Down, Enter]),
    ("a filter being typed", &[Char('/'), Char('d'), Char('e'), Char('s'), Char('t'), Char(':'), Char('1')]),
];

/// What drawing costs
#[derive(Parser)]
struct Args {
    /// Draw the first screen so many times, and print nothing
    #[arg(long)]
    frames: Option<u32>,
    /// Number of TIME_WAIT sockets
    #[arg(long, default_value_t = 60_000)]
    sockets: u64,
}

fn main() {
    let Args { frames, sockets } = Args::parse();
    let mut state = state_of(Config::default(), [start(START_NS).event(), kernel(kernel_facts())]);
    for number in 0..sockets {
        let who = owner(1000 + (number % PROCESSES) as u32, format!("worker-{}", number % 40));
        let destination = number % DESTINATIONS;
        let to =
            tuple(1024 + (number % 60_000) as u16, [10, 0, (destination / 250) as u8, (destination % 250) as u8], 80);
        let at_ns = START_NS + number * 30 * SECOND_NS / sockets;
        state.apply(Event::Connection(Box::new(answered(number + 1, who, to, at_ns))));
    }
    state.apply(tick(START_NS + 31 * SECOND_NS));
    if let Some(frames) = frames {
        return draw_only(&mut state, frames);
    }
    for (width, height) in [(80, 24), (120, 40), (200, 60)] {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        for (what, keys) in SCENES {
            let mut ui = State::new(GroupBy::Program, Sort::DEFAULT, Theme { palette: Palette::Dark, ascii: false });
            let (mut first, mut others) = (Duration::ZERO, Duration::ZERO);
            for second in 0..FRAMES {
                // A new snapshot now and then, as a trace has one each second.
                let began_taking = Instant::now();
                let with_sockets = ui.wants_sockets();
                let snapshot =
                    if with_sockets { Snapshot::with_sockets(&mut state) } else { Snapshot::take(&mut state) };
                let taking = began_taking.elapsed();
                for code in keys.iter().filter(|_| second == 0) {
                    terminal.draw(|frame| draw(frame, &snapshot, &mut ui)).unwrap();
                    let _ = key(KeyEvent::new(*code, KeyModifiers::NONE), &snapshot, &mut ui);
                }
                ui.trend.add(&snapshot);
                let began = Instant::now();
                terminal.draw(|frame| draw(frame, &snapshot, &mut ui)).unwrap();
                first += began.elapsed();
                let again = Instant::now();
                terminal.draw(|frame| draw(frame, &snapshot, &mut ui)).unwrap();
                others += again.elapsed();
                if second == 1 {
                    println!("{width}x{height} {what}: a snapshot takes {taking:.1?}");
                }
            }
            println!("    first frame of a snapshot {:.2?}, each further one {:.2?}", first / FRAMES, others / FRAMES);
        }
    }
}

/// The first screen, each time of another snapshot than before.
fn draw_only(state: &mut Trace, frames: u32) {
    let mut terminal = Terminal::new(TestBackend::new(120, 40)).unwrap();
    let mut ui = State::new(GroupBy::Program, Sort::DEFAULT, Theme { palette: Palette::Dark, ascii: false });
    let snapshots = [32, 33].map(|second| {
        state.apply(tick(START_NS + second * SECOND_NS));
        Snapshot::take(state)
    });
    for snapshot in snapshots.iter().cycle().take(frames as usize) {
        ui.trend.add(snapshot);
        terminal.draw(|frame| draw(frame, snapshot, &mut ui)).unwrap();
    }
}
