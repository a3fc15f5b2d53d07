//! Loads the eBPF object, attaches its programs and reads their counters.
//!
//! What works on this kernel is found by trying: feature probes have said yes where the kernel then said no.

use super::attach::{self, Attacher, Exits, Ways};
use super::counting::Misses;
use super::execs::Execs;
use super::explain;
use super::hooks::{self, Attach, HOOKS, HookSpec, SET_STATE};
use super::log::{self, KernelLog, LogFilter};
use super::offsets;
use super::plain;
use super::room::Room;
use super::situation::kernel_version;
use super::sweep::Sweeper;
use super::tracefs;
use anyhow::{Context as _, anyhow, bail};
use aya::maps::{HashMap, MapData, PerCpuArray, RingBuf};
use aya::{Btf, Ebpf, EbpfLoader, Pod};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use twtrace_common::{Config, ConnFlags, ConnRecord, Counters, Offsets};
use twtrace_core::doctor::ProgramSize;
use twtrace_core::event::{Hook, KernelCounters, Tier, TracingFacts};
use zerocopy::{FromBytes, IntoBytes};

/// The object that was committed with these sources, or with the feature `build-ebpf` the one built from them.
static EMBEDDED: &[u8] = aya::include_bytes_aligned!(env!("TWTRACE_EMBEDDED_OBJECT"));

/// Environment variable with the path of another object, for tests.
pub const OBJECT_VARIABLE: &str = "TWTRACE_BPF_OBJECT";

/// Environment variable with the best tier to try, for tests.
pub const TIER_VARIABLE: &str = "TWTRACE_TIER";

/// Environment variable that hides the kernel's BTF when it is `none`, for tests.
pub const BTF_VARIABLE: &str = "TWTRACE_BTF";

/// Environment variable with the only way to try for hooking functions, `fentry` or `kprobe`, for tests. Without it,
/// each function that cannot be hooked by the first is tried by the second.
pub const FUNCTIONS_VARIABLE: &str = "TWTRACE_FUNCTIONS";

/// Environment variable with the only way to try for the exits of system calls, `single` or `all`, for tests. Without it, one
/// program sees all of them where tracefs cannot be read.
pub const EXITS_VARIABLE: &str = "TWTRACE_EXITS";

/// Environment variable with the kind of hook for the twin, `tracepoint` or `tp_btf`, for tests. Without it, the kernel's
/// version decides.
pub const TWIN_VARIABLE: &str = "TWTRACE_TWIN";

/// Symbol in objects with this layout of records. It changes with [`twtrace_common::WIRE_VERSION`].
const WIRE_SYMBOL: &str = "WIRE_VERSION_12";
const _: () = assert!(twtrace_common::WIRE_VERSION == 12);

/// The hook that reports the errno of connect(2).
const CONNECT: &str = "syscalls:sys_exit_connect";

/// A wire type as maps return it.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct Wire<T>(pub(super) T);

// SAFETY: any bytes are valid for it, and it has no implicit padding: zerocopy has derived both.
unsafe impl<T: FromBytes + IntoBytes + Copy + 'static> Pod for Wire<T> {}

/// How to load.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Another object than the embedded one.
    pub object: Option<PathBuf>,
    /// Maximum number of sockets followed at a time; `None` for what suits the host.
    pub max_sockets: Option<u32>,
    /// Size of the ring buffer in bytes: a power of two and a multiple of the page size. `None` for what suits the host.
    pub ring_bytes: Option<u32>,
    /// Write to standard error what the kernel side does with these sockets.
    pub log: Option<LogFilter>,
    /// The best tier to try; `None` for the best available.
    pub tier: Option<Tier>,
}

impl LoadOptions {
    fn room(&self) -> Room {
        if let (Some(max_sockets), Some(ring_bytes)) = (self.max_sockets, self.ring_bytes) {
            return Room { max_sockets, ring_bytes };
        }
        let suits = Room::of_this_host();
        Room {
            max_sockets: self.max_sockets.unwrap_or(suits.max_sockets),
            ring_bytes: self.ring_bytes.unwrap_or(suits.ring_bytes),
        }
    }

    fn tier(&self) -> anyhow::Result<Tier> {
        if let Some(tier) = self.tier {
            return Ok(tier);
        }
        match env::var(TIER_VARIABLE).as_deref() {
            Ok("exact") | Err(env::VarError::NotPresent) => Ok(Tier::Exact),
            Ok("cookie") => Ok(Tier::Cookie),
            Ok("tuple") => Ok(Tier::Tuple),
            _ => bail!("{TIER_VARIABLE} is exact, cookie or tuple"),
        }
    }
}

/// The ways to hook functions that the environment allows.
fn ways() -> anyhow::Result<Ways> {
    match env::var(FUNCTIONS_VARIABLE).as_deref() {
        Err(env::VarError::NotPresent) => Ok(Ways::Any),
        Ok("fentry") => Ok(Ways::Fentry),
        Ok("kprobe") => Ok(Ways::Kprobe),
        _ => bail!("{FUNCTIONS_VARIABLE} is fentry or kprobe"),
    }
}

/// The ways to see the exits of system calls that the environment allows.
fn exits() -> anyhow::Result<Exits> {
    match env::var(EXITS_VARIABLE).as_deref() {
        Err(env::VarError::NotPresent) => Ok(Exits::Any),
        Ok("single") => Ok(Exits::Single),
        Ok("all") => Ok(Exits::All),
        _ => bail!("{EXITS_VARIABLE} is single or all"),
    }
}

/// Programs that are loaded and attached. Dropping it detaches them.
pub struct Loaded {
    /// Tier in force, and every hook with its result.
    pub tracing: TracingFacts,
    /// Sizes of the maps.
    pub room: Room,
    /// Size of each program that the kernel accepted, by name.
    pub programs: Vec<ProgramSize>,
    /// Where records arrive.
    pub ring: RingBuf<MapData>,
    counters: PerCpuArray<MapData, Wire<Counters>>,
    sockets: HashMap<MapData, u64, Wire<ConnRecord>>,
    /// What processes were started with.
    pub execs: Execs,
    /// The same map, for sweeps.
    swept: OwnedFd,
    misses: Misses,
    log: Option<KernelLog>,
    /// Owns programs and links.
    ebpf: Ebpf,
}

/// Loads the object and attaches as much as possible. Optional hooks that failed are in [`Loaded::tracing`] with their
/// reason.
///
/// Call it from the thread that runs longest, before starting others: tracefs may be mounted for that thread alone.
///
/// # Errors
/// Without `inet_sock_set_state` there is no trace.
pub fn load(options: &LoadOptions) -> anyhow::Result<Loaded> {
    let (wanted, ways, exits) = (options.tier()?, ways()?, exits()?);
    // From here on it is known.
    let Room { max_sockets, ring_bytes } = options.room();
    let options = &LoadOptions { max_sockets: Some(max_sockets), ring_bytes: Some(ring_bytes), ..options.clone() };
    let object = object(options.object.as_deref())?;
    if let Err(reason) = types()? {
        return without_types(&object, options, &reason);
    }
    // BTF that cannot be read, or lacks a member, is as good as none.
    let read = || anyhow::Ok((offsets::of_this_kernel()?, Btf::from_sys_fs().context("cannot read the kernel's BTF")?));
    let (layout, btf) = match read() {
        Ok(read) => read,
        Err(error) => return without_types(&object, options, &format!("{error:#}")),
    };
    let twin = if twin_is_classic()? { plain::with_record(layout.offsets).ok() } else { None };
    let offsets = twin.unwrap_or(layout.offsets);
    let build = |config: Config| load_object(&object, options, offsets, config, Some(&btf));

    let first_try = Config { twin_may_lead: u32::from(twin.is_some()), ..config(options) };
    let (mut ebpf, config) = match with_helpers(wanted, first_try, &build, &btf) {
        Ok(loaded) => loaded,
        // Where the program that needs no types is refused as well, the first reason is the better one.
        Err(error) => {
            let reason = explain::explain(&error);
            return without_types(&object, options, &reason).map_err(|_| error);
        }
    };
    let tracefs = tracefs::ensure_tracefs();
    let attacher = |ebpf: &mut Ebpf, spec: &HookSpec| {
        Attacher { ebpf, btf: &btf, tracefs: &tracefs, ways, exits, accept_arguments: layout.accept_arguments }
            .attach(spec)
    };
    let mut found: BTreeMap<&str, Hook> = BTreeMap::new();
    let connect = hooks::spec(CONNECT).context("the table of hooks has no exit of connect")?;
    let attached = attacher(&mut ebpf, connect);
    if !attached.attached {
        // Programs must not wait for an errno that no program reports: load again, with that switched off for good.
        ebpf = build(Config { defer_connect: 0, ..config })?;
        load_pair(&mut ebpf, &btf)?;
    }
    found.insert(connect.name, attached);
    // Functions first: other hooks replace some of them.
    let is_function = |spec: &&HookSpec| matches!(spec.attach, Attach::Function(..));
    let functions = HOOKS.iter().filter(is_function).filter(|_| wanted == Tier::Exact);
    for spec in functions.chain(HOOKS.iter().filter(|spec| !is_function(spec))) {
        let has = |name: &str| found.get(name).is_some_and(|hook| hook.attached);
        if !found.contains_key(spec.name) && !spec.instead_of.is_some_and(has) {
            found.insert(spec.name, attacher(&mut ebpf, spec));
        }
    }
    let (first, _) = hooks::pair().next().context("the table of hooks has no pair")?;
    // The twin second: it has to run after the first. Neither is useful without the other, because the first leaves it
    // to the twin to free its slots.
    for (program, name) in hooks::pair() {
        let is_twin = program != first;
        if is_twin && twin.is_some() && attach::plain(&mut ebpf, plain::TWIN, plain::CATEGORY, SET_STATE).is_ok() {
            found.entry(name).and_modify(|hook| "tracepoint".clone_into(&mut hook.kind));
            continue;
        }
        attach::loaded(&mut ebpf, program).context("cannot watch the state changes of TCP sockets")?;
    }
    let hooks: Vec<Hook> = HOOKS.iter().filter_map(|spec| found.remove(spec.name)).collect();
    let by_tuple = config.has_cookie == 0;
    let tier = hooks::tier(&hooks, by_tuple).unwrap_or(Tier::Tuple);
    let tracing = TracingFacts { tier, by_tuple, no_btf: false, hooks };
    running(ebpf, tracing, first, options)
}

/// Whether the kernel exposes its types; if not, why.
///
/// # Errors
/// The environment variable has another value.
pub(super) fn types() -> anyhow::Result<Result<(), String>> {
    match env::var(BTF_VARIABLE).as_deref() {
        Ok("none") => return Ok(Err(format!("it was hidden by {BTF_VARIABLE}"))),
        Err(env::VarError::NotPresent) => {}
        _ => bail!("{BTF_VARIABLE} can only be none"),
    }
    Ok(match fs::metadata(offsets::VMLINUX) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(format!("there is no {}: CONFIG_DEBUG_INFO_BTF is off", offsets::VMLINUX))
        }
        // Anything else that is wrong with it shows when it is read.
        _ => Ok(()),
    })
}

/// Only the classic tracepoint.
fn without_types(object: &[u8], options: &LoadOptions, reason: &str) -> anyhow::Result<Loaded> {
    let cannot = "cannot watch the state changes of TCP sockets without BTF";
    let offsets = plain::offsets().map_err(|reason| anyhow!(reason)).context(cannot)?;
    let mut ebpf = load_object(object, options, offsets, config(options), None)?;
    attach::plain(&mut ebpf, plain::PROGRAM, plain::CATEGORY, SET_STATE).context(cannot)?;
    let mut hooks = vec![attach::hook(SET_STATE, "tracepoint", Ok(()))];
    let refusal = format!("it needs the kernel's BTF, and {reason}");
    let others = HOOKS.iter().filter(|spec| !matches!(spec.attach, Attach::Pair(_)));
    hooks.extend(others.map(|spec| attach::hook(spec.name, spec.attach.kind(), Err(refusal.clone()))));
    let tracing = TracingFacts { tier: Tier::Tuple, by_tuple: true, no_btf: true, hooks };
    running(ebpf, tracing, plain::PROGRAM, options)
}

/// What is attached, with access to what it reports.
fn running(mut ebpf: Ebpf, tracing: TracingFacts, first: &str, options: &LoadOptions) -> anyhow::Result<Loaded> {
    let programs = sizes(&ebpf);
    let log = options.log.map(|_| KernelLog::of(&mut ebpf)).transpose()?;
    let sockets = take_map(&mut ebpf, "SOCKETS")?;
    let aya::maps::Map::HashMap(data) = &sockets else { bail!("the socket map is no hash map") };
    let swept = data.fd().as_fd().try_clone_to_owned().context("cannot duplicate a descriptor")?;
    Ok(Loaded {
        tracing,
        room: options.room(),
        programs,
        ring: RingBuf::try_from(take_map(&mut ebpf, "RING")?)?,
        counters: PerCpuArray::try_from(take_map(&mut ebpf, "COUNTERS")?)?,
        sockets: HashMap::try_from(sockets)?,
        execs: Execs::new(
            HashMap::try_from(take_map(&mut ebpf, "EXECS")?)?,
            HashMap::try_from(take_map(&mut ebpf, "CGROUPS")?)?,
        ),
        swept,
        misses: Misses::of(&ebpf, first)?,
        log,
        ebpf,
    })
}

/// The object with the pair on `inet_sock_set_state` loaded, with the newest helpers that the kernel accepts. This is
/// tried, not looked up: which helpers a program may call depends on more than the kernel's version.
fn with_helpers(
    wanted: Tier,
    base: Config,
    build: &dyn Fn(Config) -> anyhow::Result<Ebpf>,
    btf: &Btf,
) -> anyhow::Result<(Ebpf, Config)> {
    let has_cookie = u32::from(wanted != Tier::Tuple);
    let mut first_error = None;
    for (has_cookie, has_task_btf, has_pt_regs) in [(has_cookie, 1, 1), (0, 1, 0), (0, 0, 0)] {
        let config = Config { has_cookie, has_task_btf, has_pt_regs, defer_connect: 1, ..base };
        let mut ebpf = build(config)?;
        match load_pair(&mut ebpf, btf) {
            Ok(()) => return Ok((ebpf, config)),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    Err(first_error.unwrap_or_else(|| anyhow!("no program was tried")))
}

fn load_pair(ebpf: &mut Ebpf, btf: &Btf) -> anyhow::Result<()> {
    hooks::pair()
        .try_for_each(|(program, _)| attach::load_btf(ebpf, program, SET_STATE, btf))
        .context("cannot watch the state changes of TCP sockets")
}

fn sizes(ebpf: &Ebpf) -> Vec<ProgramSize> {
    let size = |(name, program): (&str, &aya::programs::Program)| {
        let info = program.info().ok()?;
        Some(ProgramSize {
            name: name.to_owned(),
            verified_instructions: info.verified_instruction_count(),
            translated_bytes: info.size_translated(),
            jited_bytes: info.size_jitted(),
        })
    };
    let mut sizes: Vec<ProgramSize> = ebpf.programs().filter_map(size).collect();
    sizes.sort_by(|left, right| left.name.cmp(&right.name));
    sizes
}

/// Tries every hook, then detaches them again.
///
/// # Errors
/// As [`load`].
pub fn try_hooks(object: Option<&Path>) -> anyhow::Result<(TracingFacts, Vec<ProgramSize>)> {
    let object = object.map(Path::to_owned);
    let options = LoadOptions { object, max_sockets: Some(64), ring_bytes: Some(4096), ..LoadOptions::default() };
    load(&options).map(|loaded| (loaded.tracing, loaded.programs))
}

impl Loaded {
    /// What the programs have counted since they were attached.
    ///
    /// # Errors
    /// The map or the program's information cannot be read.
    pub fn counters(&self) -> anyhow::Result<KernelCounters> {
        let mut sum = Counters::default();
        for program in 0..self.counters.len() {
            self.counters.get(&program, 0)?.iter().for_each(|Wire(one)| sum.add(one));
        }
        self.misses.with(&sum)
    }

    /// The programs that were loaded.
    pub(super) fn attached(&self) -> impl Iterator<Item = &aya::programs::Program> {
        self.ebpf.programs().map(|(_, program)| program)
    }

    /// Starts the sweeps of the socket map.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn sweeper(&self) -> anyhow::Result<Sweeper> {
        Sweeper::start(self.swept.try_clone().context("cannot duplicate a descriptor")?)
    }

    /// Whether a socket is in the map and has not been seen to end.
    pub fn is_followed(&self, key: u64, cookie: u64) -> bool {
        let record = self.sockets.get(&key, 0);
        record.is_ok_and(|Wire(record)| record.cookie == cookie && !record.flags.contains(ConnFlags::DONE))
    }

    /// Removes a socket with an unseen end from the map, and returns its record as the ring buffer would have; `None`
    /// when its end has been seen meanwhile.
    pub fn take_unseen(&mut self, key: u64, cookie: u64) -> Option<Vec<u8>> {
        let Wire(mut record) = self.sockets.get(&key, 0).ok()?;
        if record.cookie != cookie || record.flags.contains(ConnFlags::DONE) {
            return None;
        }
        self.sockets.remove(&key).ok()?;
        record.flags |= ConnFlags::END_UNSEEN;
        let last = usize::from(record.transitions).checked_sub(1)?;
        record.end_ns = *record.times_ns.get(last)?;
        Some(record.as_bytes().to_vec())
    }

    /// Writes out what the kernel side has logged.
    pub fn flush_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }
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
    // The number of the architecture that this was compiled for.
    let number = |call: libc::c_long| u32::try_from(call).unwrap_or(u32::MAX);
    Config {
        connect_nr: number(libc::SYS_connect),
        accept_nr: number(libc::SYS_accept),
        accept4_nr: number(libc::SYS_accept4),
        bind_nr: number(libc::SYS_bind),
        wakeup_bytes: options.room().ring_bytes / 2,
        nests: u32::from(nests()),
        ..Config::default()
    }
}

/// Whether a program can interrupt itself, or be preempted by another one that has the same counters. Kernels from 6.1 on skip
/// a tracing program that interrupts itself (`bpf_prog_enter_recur`); in those from 7.0 on, tracepoints are preemptible.
fn nests() -> bool {
    running_version().is_none_or(|version| !((6, 1)..PREEMPTIBLE).contains(&version))
}

/// Kernels from here on have preemptible tracepoints.
const PREEMPTIBLE: (u32, u32) = (7, 0);

fn running_version() -> Option<(u32, u32)> {
    kernel_version(nix::sys::utsname::uname().ok()?.release().to_str()?)
}

/// Whether the twin belongs on the classic tracepoint: see `hooks/set_state_probed.rs` of the kernel side.
///
/// # Errors
/// The environment variable has another value.
fn twin_is_classic() -> anyhow::Result<bool> {
    match env::var(TWIN_VARIABLE).as_deref() {
        Err(env::VarError::NotPresent) => Ok(running_version() >= Some(PREEMPTIBLE)),
        Ok("tracepoint") => Ok(true),
        Ok("tp_btf") => Ok(false),
        _ => bail!("{TWIN_VARIABLE} is tracepoint or tp_btf"),
    }
}

fn load_object(
    object: &[u8],
    options: &LoadOptions,
    offsets: Offsets,
    config: Config,
    btf: Option<&Btf>,
) -> anyhow::Result<Ebpf> {
    let filter = LogFilter::wire(options.log);
    let room = options.room();
    let mut loader = EbpfLoader::new();
    if options.log.is_some() {
        loader.map_max_entries(log::MAP, log::MAP_BYTES);
    }
    let ebpf = loader
        .btf(btf)
        .override_global("OFFSETS", offsets.as_bytes(), true)
        .override_global("CONFIG", config.as_bytes(), true)
        .override_global("LOG_FILTER", filter.as_bytes(), true)
        // Written with its own value: only its existence matters.
        .override_global(WIRE_SYMBOL, &twtrace_common::WIRE_VERSION, true)
        .map_max_entries("SOCKETS", room.max_sockets)
        .map_max_entries("RING", room.ring_bytes)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_object_is_one_clear_error() {
        for bytes in [b"".as_slice(), b"\x7fELF", &[0xff; 4096]] {
            let Ok(btf) = Btf::from_sys_fs() else { return };
            let error = load_object(bytes, &LoadOptions::default(), Offsets::NONE, Config::default(), Some(&btf))
                .err()
                .map(|error| error.to_string());
            assert_eq!(error.as_deref(), Some("the eBPF object is damaged, or belongs to another version of twtrace"));
        }
    }
}
