//! Recordings from elsewhere: whatever is in one, each Event of it is read or the loss is stated.
//!
//! The bytes choose one file of a golden recording and edit it, or leave it out. Sums are put right afterwards, so that
//! what is behind them is reached. A panic inside of a decoder of Arrow or Parquet is caught by the reader, and
//! counted here; one in this project's own code, and one that nobody catches, is a crash.
#![no_main]

#[path = "../src/golden.rs"]
mod golden;

use golden::Golden;
use libfuzzer_sys::fuzz_target;
use std::alloc::{GlobalAlloc, Layout, System};
use std::panic::{set_hook, take_hook};
use std::path::{Path, PathBuf};
use std::process::abort;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use twtrace_core::state::{Config, Limits, State};
use twtrace_recording::reader::Recording;
use twtrace_testkit::look;

/// No file here is worth more at once, in bytes. libFuzzer's own limit of allocations needs a sanitizer.
const LARGEST_ALLOCATION: usize = 512 << 20;

struct Limited;

#[global_allocator]
static ALLOCATOR: Limited = Limited;

fn limit(bytes: usize) {
    if bytes > LARGEST_ALLOCATION {
        eprintln!("an allocation of {bytes} bytes");
        abort();
    }
}

// SAFETY: all of it is the system's.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        limit(layout.size());
        // SAFETY: as the caller says.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        limit(layout.size());
        // SAFETY: as the caller says.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        limit(size);
        // SAFETY: as the caller says.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller says.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Panics that the reader has caught.
static CAUGHT: AtomicU64 = AtomicU64::new(0);

extern "C" fn say_caught() {
    eprintln!("{} panics of decoders were caught", CAUGHT.load(Relaxed));
}

fn golden() -> &'static [Golden] {
    static GOLDEN: OnceLock<Vec<Golden>> = OnceLock::new();
    GOLDEN.get_or_init(|| {
        let found = golden::all();
        // The reader's own hook is there once it has read something.
        for golden in &found {
            let folder = folder();
            golden.write(folder.path());
            assert_ne!(read(folder.path()), 0, "a golden recording cannot be read");
        }
        let readers = take_hook();
        set_hook(Box::new(move |panic| {
            let is_foreign = |file: &str| file.contains("/registry/") || file.contains("/rustc/");
            if panic.location().is_none_or(|location| is_foreign(location.file())) {
                CAUGHT.fetch_add(1, Relaxed);
                readers(panic);
            } else {
                eprintln!("{panic}");
                abort();
            }
        }));
        // SAFETY: it only writes a line.
        unsafe { libc::atexit(say_caught) };
        found
    })
}

/// An empty directory, in memory where there is one.
fn folder() -> tempfile::TempDir {
    let memory = PathBuf::from("/dev/shm");
    let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
    tempfile::tempdir_in(parent).expect("no temporary directory")
}

/// Reads all that can be read into a state, and gives the number of Events.
fn read(path: &Path) -> usize {
    let Ok(recording) = Recording::open(path) else { return 0 };
    let limits = Limits { rows: 8, cells: 8, live: 16 };
    let mut state = State::new(Config { limits, history: true, ..Config::default() });
    let mut replay = recording.replay().expect("no thread");
    let mut count = 0;
    let mut sink = |event| {
        count += 1;
        state.apply(event);
    };
    while replay.advance(u64::MAX, &mut sink).expect("reading does not fail") {}
    look(&mut state);
    count
}

fuzz_target!(|bytes: &[u8]| {
    let all = golden();
    let [choice, file, edits @ ..] = bytes else { return };
    let mut golden = all[usize::from(choice & 7) % all.len()].clone();
    golden.edit(usize::from(*file), edits, choice & 8 == 0, choice & 16 != 0);
    let folder = folder();
    golden.write(folder.path());
    read(folder.path());
});
