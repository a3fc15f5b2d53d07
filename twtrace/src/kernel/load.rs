//! Loads the eBPF object, attaches its programs and reads what they count.
//!
//! What runs on this kernel is decided by trying: feature probes have said yes where the kernel then said no.

use super::explain;
use super::offsets;
use super::tracefs;
use anyhow::{Context as _, anyhow, bail};
use aya::maps::{HashMap, MapData, PerCpuArray, RingBuf};
use aya::programs::{BtfTracePoint, TracePoint};
use aya::{Btf, Ebpf, EbpfLoader, Pod};
use aya_log::EbpfLogger;
use log::Log;
use std::borrow::Cow;
use std::env;
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};
use twtrace_common::{Config, ConnRecord, Counters, Offsets, conn_flag, tcp_state};
use twtrace_core::input::{Hook, KernelCounters};

/// The object that was committed with these sources, or with the feature `build-ebpf` the one built from them.
static EMBEDDED: &[u8] = aya::include_bytes_aligned!(env!("TWTRACE_EMBEDDED_OBJECT"));

/// Environment variable with the path of another object, for tests.
pub const OBJECT_VARIABLE: &str = "TWTRACE_BPF_OBJECT";

/// Symbol that objects with this layout of records have. It changes with [`twtrace_common::WIRE_VERSION`].
const WIRE_SYMBOL: &str = "WIRE_VERSION_1";
const _: () = assert!(twtrace_common::WIRE_VERSION == 1);

/// Sockets looked at in one go whose end may have been missed.
const MAX_CLOSING: usize = 4096;

/// Name of the twin program's hook as users see it.
const TWIN: &str = "inet_sock_set_state (twin)";

/// System call exits, with the program for each.
const EXITS: [(&str, &str); 3] =
    [("connect_exit", "sys_exit_connect"), ("accept_exit", "sys_exit_accept"), ("accept4_exit", "sys_exit_accept4")];

/// A wire type as the loader hands it over.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Wire<T>(T);

// SAFETY: all `#[repr(C)]`, of integers only, without implicit padding (sizes are asserted where they are declared).
unsafe impl Pod for Wire<Counters> {}
// SAFETY: as above.
unsafe impl Pod for Wire<ConnRecord> {}
// SAFETY: as above.
unsafe impl Pod for Wire<Offsets> {}
// SAFETY: as above.
unsafe impl Pod for Wire<Config> {}

/// How to load.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Another object than the embedded one.
    pub object: Option<PathBuf>,
    /// Sockets followed at a time.
    pub max_sockets: u32,
    /// Size of the ring buffer in bytes: a power of two and a multiple of the page size.
    pub ring_bytes: u32,
    /// Write the kernel side's debug log to standard error.
    pub debug: bool,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            object: None,
            max_sockets: twtrace_common::MAX_SOCKETS,
            ring_bytes: twtrace_common::RING_BYTES,
            debug: false,
        }
    }
}

/// Programs that are loaded and attached. Dropping it detaches them.
pub struct Loaded {
    /// Every hook and what became of it.
    pub hooks: Vec<Hook>,
    /// Where records arrive.
    pub ring: RingBuf<MapData>,
    counters: PerCpuArray<MapData, Wire<Counters>>,
    sockets: HashMap<MapData, u64, Wire<ConnRecord>>,
    /// `/proc` file that tells how often the kernel skipped the first program.
    fdinfo: PathBuf,
    logger: Option<EbpfLogger<StderrLog>>,
    /// Holds programs and links.
    _ebpf: Ebpf,
}

/// Loads the object and attaches all that can be. Optional hooks that are refused are in [`Loaded::hooks`] with their
/// reason.
///
/// To be called from the thread that lives longest, before others are started: tracefs may be mounted for it alone.
///
/// # Errors
/// Without `inet_sock_set_state` there is no trace.
pub fn load(options: &LoadOptions) -> anyhow::Result<Loaded> {
    let object = object(options.object.as_deref())?;
    let offsets = offsets::of_this_kernel()?;
    let btf = Btf::from_sys_fs().context("cannot read the kernel's BTF")?;
    let defer = Config { defer_connect: 1, ..config(options) };
    let mut ebpf = load_object(&object, options, offsets, defer, &btf)?;
    let tracefs = tracefs::ensure_tracefs();
    let mut exits: Vec<Hook> =
        EXITS.iter().map(|(program, event)| attach_exit(&mut ebpf, program, event, &tracefs)).collect();
    if !exits[0].attached {
        // Programs must not wait for an errno that nobody tells: again, with that switched off for good.
        let config = Config { defer_connect: 0, ..defer };
        ebpf = load_object(&object, options, offsets, config, &btf)?;
        for (hook, (program, event)) in exits.iter_mut().zip(EXITS).skip(1) {
            *hook = attach_exit(&mut ebpf, program, event, &tracefs);
        }
    }
    let reset = match attach_btf(&mut ebpf, "send_reset", "tcp_send_reset", &btf) {
        Ok(()) => hook("tcp_send_reset", "tp_btf", Ok(())),
        Err(error) => hook("tcp_send_reset", "tp_btf", Err(explain::explain(&error))),
    };
    // The twin second: it has to run after the first. Neither is of use without the other, for the first leaves it to
    // the twin to free its slots.
    for program in ["set_state", "set_state_twin"] {
        attach_btf(&mut ebpf, program, "inet_sock_set_state", &btf)
            .context("cannot watch the state changes of TCP sockets")?;
    }
    let mut hooks = vec![hook("inet_sock_set_state", "tp_btf", Ok(())), hook(TWIN, "tp_btf", Ok(())), reset];
    hooks.extend(exits);

    let fd = ebpf.program("set_state").context("the object has no program set_state")?.fd()?.as_fd().as_raw_fd();
    let logger = options.debug.then(|| EbpfLogger::init_with_logger(&mut ebpf, StderrLog)).transpose()?;
    Ok(Loaded {
        hooks,
        ring: RingBuf::try_from(take_map(&mut ebpf, "RING")?)?,
        counters: PerCpuArray::try_from(take_map(&mut ebpf, "COUNTERS")?)?,
        sockets: HashMap::try_from(take_map(&mut ebpf, "SOCKETS")?)?,
        fdinfo: PathBuf::from(format!("/proc/self/fdinfo/{fd}")),
        logger,
        _ebpf: ebpf,
    })
}

/// Tries every hook, then lets go of them again.
///
/// # Errors
/// As [`load`].
pub fn try_hooks(object: Option<&Path>) -> anyhow::Result<Vec<Hook>> {
    let options = LoadOptions { object: object.map(Path::to_owned), max_sockets: 64, ring_bytes: 4096, debug: false };
    load(&options).map(|loaded| loaded.hooks)
}

impl Loaded {
    /// What the programs have counted since they were attached.
    ///
    /// # Errors
    /// The map or the program's information cannot be read.
    pub fn counters(&self) -> anyhow::Result<KernelCounters> {
        let mut sum = Counters::default();
        for program in 0..self.counters.len() {
            for Wire(one) in self.counters.get(&program, 0)?.iter() {
                add(&mut sum, one);
            }
        }
        let missed = recursion_misses(&fs::read_to_string(&self.fdinfo).context("cannot read the program's fdinfo")?);
        Ok(KernelCounters {
            transitions: sum.transitions,
            recovered: sum.recovered,
            recursion: missed.saturating_sub(sum.recovered),
            lives_begun: sum.lives_begun,
            lives_ended: sum.lives_ended,
            handshakes_dropped: sum.handshakes_dropped,
            connects_failed_early: sum.connects_failed_early,
            records: sum.records,
            ring_full: sum.ring_full,
            map_full: sum.map_full,
            stale: sum.stale,
            exit_unresolved: sum.exit_unresolved,
            undecodable: 0,
        })
    }

    /// Sockets that sent their FIN before `before_ns` and have not ended since, as far as was seen: key in the map and
    /// cookie.
    ///
    /// Two system calls a followed socket.
    pub fn closing(&self, before_ns: u64) -> Vec<(u64, u64)> {
        let closing = |record: &ConnRecord| {
            let last = usize::from(record.transitions).checked_sub(1)?;
            let over = record.flags & (conn_flag::DONE | conn_flag::PENDING) != 0;
            let waits = {
                use tcp_state::{CLOSING, FIN_WAIT1, FIN_WAIT2};
                [FIN_WAIT1, FIN_WAIT2, CLOSING].contains(record.new_states.get(last)?)
            };
            (waits && !over && *record.times_ns.get(last)? < before_ns).then_some(record.cookie)
        };
        // The iteration goes on while the map changes; what it misses comes up the next time.
        let entries = self.sockets.iter().filter_map(Result::ok);
        entries.filter_map(|(key, Wire(record))| Some((key, closing(&record)?))).take(MAX_CLOSING).collect()
    }

    /// Takes a socket out of the map whose end was not seen, and gives its record as the ring buffer would have;
    /// `None` when its end has come meanwhile.
    pub fn take_unseen(&mut self, key: u64, cookie: u64) -> Option<Vec<u8>> {
        let Wire(mut record) = self.sockets.get(&key, 0).ok()?;
        if record.cookie != cookie || record.flags & conn_flag::DONE != 0 {
            return None;
        }
        self.sockets.remove(&key).ok()?;
        record.flags |= conn_flag::END_UNSEEN;
        let last = usize::from(record.transitions).checked_sub(1)?;
        record.end_ns = *record.times_ns.get(last)?;
        let bytes = (&raw const record).cast::<u8>();
        // SAFETY: a plain value without padding, read as bytes while it is alive.
        Some(unsafe { std::slice::from_raw_parts(bytes, size_of::<ConnRecord>()) }.to_vec())
    }

    /// Writes out what the kernel side has logged.
    pub fn flush_log(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }
}

fn add(sum: &mut Counters, one: &Counters) {
    sum.transitions += one.transitions;
    sum.recovered += one.recovered;
    sum.duplicates += one.duplicates;
    sum.lives_begun += one.lives_begun;
    sum.lives_ended += one.lives_ended;
    sum.handshakes_dropped += one.handshakes_dropped;
    sum.connects_failed_early += one.connects_failed_early;
    sum.records += one.records;
    sum.ring_full += one.ring_full;
    sum.map_full += one.map_full;
    sum.stale += one.stale;
    sum.exit_unresolved += one.exit_unresolved;
}

/// `recursion_misses` of a program's fdinfo (`bpf_prog_show_fdinfo`); kernels before 5.12 do not have it.
fn recursion_misses(fdinfo: &str) -> u64 {
    fdinfo.lines().find_map(|line| line.strip_prefix("recursion_misses:")?.trim().parse().ok()).unwrap_or(0)
}

fn object(path: Option<&Path>) -> anyhow::Result<Cow<'static, [u8]>> {
    let path = path.map(Path::to_owned).or_else(|| env::var_os(OBJECT_VARIABLE).map(PathBuf::from));
    match path {
        Some(path) => {
            let bytes = fs::read(&path).with_context(|| format!("cannot read the eBPF object {}", path.display()))?;
            Ok(Cow::Owned(bytes))
        }
        None if EMBEDDED.is_empty() => {
            bail!("this program was built without its eBPF object: run `cargo xtask build-ebpf` and build it again")
        }
        None => Ok(Cow::Borrowed(EMBEDDED)),
    }
}

fn config(options: &LoadOptions) -> Config {
    // The number is the one of the architecture that this was compiled for.
    let connect_nr = u32::try_from(libc::SYS_connect).unwrap_or(u32::MAX);
    Config { defer_connect: 0, connect_nr, wakeup_bytes: options.ring_bytes / 2, debug: u32::from(options.debug) }
}

fn load_object(
    object: &[u8],
    options: &LoadOptions,
    offsets: Offsets,
    config: Config,
    btf: &Btf,
) -> anyhow::Result<Ebpf> {
    let (offsets, config) = (Wire(offsets), Wire(config));
    let ebpf = EbpfLoader::new()
        .btf(Some(btf))
        .override_global("OFFSETS", &offsets, true)
        .override_global("CONFIG", &config, true)
        // Written with what it has: all that counts is that it exists.
        .override_global(WIRE_SYMBOL, &twtrace_common::WIRE_VERSION, true)
        .map_max_entries("SOCKETS", options.max_sockets)
        .map_max_entries("RING", options.ring_bytes)
        .load(object)
        .map_err(|error| match &error {
            aya::EbpfError::ParseError(_) => {
                anyhow!(error).context("the eBPF object is damaged, or belongs to another version of twtrace")
            }
            _ => anyhow!(error).context("cannot load the eBPF object"),
        })?;
    match ebpf.map("SOCKETS") {
        Some(aya::maps::Map::HashMap(map)) if map.info()?.value_size() as usize == size_of::<ConnRecord>() => Ok(ebpf),
        _ => bail!("the eBPF object belongs to another version of twtrace: its records have another size"),
    }
}

fn take_map(ebpf: &mut Ebpf, name: &str) -> anyhow::Result<aya::maps::Map> {
    ebpf.take_map(name).with_context(|| format!("the eBPF object has no map {name}"))
}

fn attach_btf(ebpf: &mut Ebpf, program: &str, tracepoint: &str, btf: &Btf) -> anyhow::Result<()> {
    let program: &mut BtfTracePoint =
        ebpf.program_mut(program).with_context(|| format!("the eBPF object has no program {program}"))?.try_into()?;
    program.load(tracepoint, btf).with_context(|| format!("tp_btf/{tracepoint} does not load"))?;
    program.attach().with_context(|| format!("tp_btf/{tracepoint} does not attach"))?;
    Ok(())
}

fn attach_exit(ebpf: &mut Ebpf, program: &str, event: &str, tracefs: &Result<tracefs::TracefsState, String>) -> Hook {
    let attached = tracefs
        .as_ref()
        .map_err(Clone::clone)
        .and_then(|_| try_exit(ebpf, program, event).map_err(|error| explain::explain(&error)));
    hook(&format!("syscalls:{event}"), "tracepoint", attached)
}

fn try_exit(ebpf: &mut Ebpf, program: &str, event: &str) -> anyhow::Result<()> {
    let program: &mut TracePoint =
        ebpf.program_mut(program).with_context(|| format!("the eBPF object has no program {program}"))?.try_into()?;
    program.load().with_context(|| format!("tracepoint/{event} does not load"))?;
    program.attach("syscalls", event).with_context(|| format!("tracepoint/{event} does not attach"))?;
    Ok(())
}

fn hook(name: &str, kind: &str, attached: Result<(), String>) -> Hook {
    Hook { name: name.to_owned(), kind: kind.to_owned(), attached: attached.is_ok(), reason: attached.err() }
}

/// Writes log records to standard error, one line each.
struct StderrLog;

impl Log for StderrLog {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        use std::io::Write as _;
        // A log that cannot be written is no reason to stop tracing.
        let _ = writeln!(std::io::stderr(), "kernel: {}", record.args());
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misses_are_read_from_fdinfo() {
        let text = "pos:\t0\nprog_type:\t26\nrecursion_misses:\t812\nverified_insns:\t900\n";
        assert_eq!(recursion_misses(text), 812);
        assert_eq!(recursion_misses("prog_type:\t26\n"), 0);
    }

    #[test]
    fn a_damaged_object_is_one_clear_error() {
        for bytes in [b"".as_slice(), b"\x7fELF", &[0xff; 4096]] {
            let offsets = Offsets::NONE;
            let Ok(btf) = Btf::from_sys_fs() else { return };
            let error = load_object(bytes, &LoadOptions::default(), offsets, Config::default(), &btf)
                .err()
                .map(|error| error.to_string());
            assert_eq!(error.as_deref(), Some("the eBPF object is damaged, or belongs to another version of twtrace"));
        }
    }
}
