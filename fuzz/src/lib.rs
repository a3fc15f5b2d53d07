//! What comes from outside: records of a ring buffer, and recordings of other hosts. `cargo xtask fuzz` looks for bytes
//! that these functions fail on; the tests here run them on the inputs that it has found so far, and on random ones.

mod golden;

use golden::Golden;
use std::alloc::{GlobalAlloc, Layout, System};
use std::panic::{set_hook, take_hook};
use std::path::{Path, PathBuf};
use std::process::abort;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use twtrace_core::decode::decode as decode_record;
use twtrace_core::state::{Config, Limits, State};
use twtrace_recording::reader::Recording;
use twtrace_testkit::{SECOND_NS, look, tick};

/// The largest allocation that is allowed, in bytes. libFuzzer's own limit of allocations needs a sanitizer.
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

// SAFETY: every call is passed on to the system's allocator.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        limit(layout.size());
        // SAFETY: the caller guarantees it.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        limit(layout.size());
        // SAFETY: the caller guarantees it.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        limit(size);
        // SAFETY: the caller guarantees it.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller guarantees it.
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
        // The reader installs its own hook when it first reads something.
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

/// Applies everything that can be read to a state, and returns the number of events.
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

/// Records of the kernel side: any bytes are an event or an error, and a state accepts any event.
pub fn decode(bytes: &[u8]) {
    let limits = Limits { rows: 8, cells: 8, live: 16 };
    let mut state = State::new(Config { limits, history: true, ..Config::default() });
    // No record is longer than 512 bytes. One state gets several of them.
    for (number, record) in bytes.chunks(512).enumerate() {
        if let Ok(event) = decode_record(record) {
            state.apply(event);
        }
        state.apply(tick(number as u64 * SECOND_NS));
    }
    look(&mut state);
}

/// Recordings of other hosts: whatever is in one, each event of it is read or its loss is reported.
///
/// The bytes choose one file of a golden recording and edit it, or leave it out. Sums may then be computed again, so
/// that the edit is not rejected because of them. The reader catches a panic inside of a decoder of Arrow or Parquet,
/// which is counted here. A panic in this project's own code, or one that is not caught, is a crash.
pub fn recording(bytes: &[u8]) {
    let all = golden();
    let [choice, file, edits @ ..] = bytes else { return };
    let mut golden = all[usize::from(choice & 7) % all.len()].clone();
    golden.edit(usize::from(*file), edits, choice & 8 == 0, choice & 16 != 0);
    let folder = folder();
    golden.write(folder.path());
    read(folder.path());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pseudo-random numbers (SplitMix64), the same each time.
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut number = self.0;
            number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            number ^ (number >> 31)
        }

        fn bytes(&mut self, most: u64) -> Vec<u8> {
            let length = self.next() % most;
            (0..length).map(|_| self.next() as u8).collect()
        }
    }

    /// Runs a target on each input of its committed corpus and on random ones, and returns the number of the former.
    fn run(name: &str, random: u64, most: u64, target: fn(&[u8])) -> usize {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let mut paths: Vec<PathBuf> = std::fs::read_dir(&corpus)
            .unwrap_or_else(|error| panic!("{}: {error}", corpus.display()))
            .map(|entry| entry.expect("an entry").path())
            .collect();
        paths.sort();
        for path in &paths {
            target(&std::fs::read(path).expect("an input"));
        }
        let mut numbers = Numbers(1);
        for _ in 0..random {
            target(&numbers.bytes(most));
        }
        paths.len()
    }

    #[test]
    fn any_record_is_an_event_or_an_error() {
        assert!(run("decode", 2_000, 4_096, decode) > 100);
    }

    #[test]
    fn any_recording_is_read_or_its_loss_is_stated() {
        assert!(run("recording", 300, 256, recording) > 50);
    }
}
