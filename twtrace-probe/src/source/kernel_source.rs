//! Events from the running kernel.

use super::EventSource;
use super::census::{Censuses, Dump};
use super::deadline::Deadline;
use super::lookups::LookUps;
use super::meanwhile::Meanwhile;
use super::namespaces::Namespaces;
use super::socket_owners::OwnerSearch;
use crate::host;
use crate::host::ancestors::Ancestors;
use crate::host::clock::{self, Moment};
use crate::host::cookies;
use crate::host::kernel_threads::KernelThreads;
use crate::host::namespaces::Found;
use crate::host::process::ProcessReader;
use crate::host::runtimes::{ContainerNames, Runtimes};
use crate::host::users::UserNames;
use crate::kernel::cost::CostSampler;
use crate::kernel::load::{self, LoadOptions, Loaded};
use crate::kernel::sweep::{Question, Sweeper, SweptSocket};
use anyhow::Context as _;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};
use twtrace_core::cost::CostReading;
use twtrace_core::decode::{Closing, DecodeError, Decoder};
use twtrace_core::event::{Event, Hook, HostFacts, Owner, ProcessFacts, Tier};
use twtrace_core::netns::NetnsIds;
use twtrace_core::source::Source;

const SECOND_NS: u64 = 1_000_000_000;

/// How often counters and kernel figures are read, in nanoseconds.
const FIGURES_NS: u64 = SECOND_NS;

/// A census may take at most one part in this many of the time.
const CENSUS_SHARE: u64 = 50;

/// Maximum number of records read at once, so that a flood leaves time for the rest. Several times the capacity of the
/// ring buffer: the reader must be able to catch up.
const MAX_DRAIN: usize = 100_000;

/// What look-ups may cost at once, about 5 ms of work: 64 processes with some file reads each, or many more that are gone.
const LOOK_UPS: usize = 64 * READS;

/// What a process costs that is read from `/proc`, as a multiple of one that is gone.
const READS: usize = 16;

/// Interval of the search for sockets whose end was not seen.
const SWEEP_NS: u64 = 5 * SECOND_NS;

/// Longest time from the creation of a TIME_WAIT socket, which a census can see, to its record in the ring buffer.
const SETTLE: Duration = Duration::from_millis(20);
const SETTLE_NS: u64 = SETTLE.as_nanos() as u64;

/// How long the last sweep may take.
const LAST_SWEEP: Duration = Duration::from_secs(1);

/// How long the names of the last containers may take.
const LAST_NAMES: Duration = Duration::from_secs(3);

/// How to trace.
#[derive(Clone, Debug, Default)]
pub struct KernelSourceOptions {
    /// How to load the programs.
    pub load: LoadOptions,
    /// Which container runtimes to ask for names.
    pub runtimes: Runtimes,
}

/// The running kernel as a source of events.
pub struct KernelSource {
    intake: Intake,
    host: HostFacts,
    start: Option<Moment>,
    next_figures_ns: u64,
    next_census_ns: u64,
    next_sweep_ns: u64,
    sweeper: Sweeper,
    /// Followed sockets that were found to have ended when the trace did.
    never_seen: u64,
    cost: CostSampler,
    processes: ProcessReader,
    containers: ContainerNames,
    ancestors: Ancestors,
    namespaces: Namespaces,
    censuses: Censuses,
    owners: OwnerSearch,
}

/// What the ring buffer delivers, and the processes that it names.
struct Intake {
    loaded: Loaded,
    ring_bytes: usize,
    decoder: Decoder,
    undecodable: u64,
    unseen_ends: u64,
    look_ups: LookUps,
    users: UserNames,
    /// Where the programs cannot tell them from processes.
    kernel_threads: Option<KernelThreads>,
}

/// Gives memory that is no longer in use back to the kernel: parsing its types takes tens of megabytes, which the allocator
/// would keep.
fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it has no precondition.
    unsafe {
        libc::malloc_trim(0);
    }
}

impl KernelSource {
    /// Loads and attaches. From here on, the kernel side follows every connection.
    ///
    /// # Errors
    /// This host cannot be traced; see [`crate::kernel::explain`].
    pub fn start(options: &KernelSourceOptions) -> anyhow::Result<Self> {
        Self::start_until(options, Deadline::default())
    }

    /// The same, with an end that can be set later: long work is then cut short.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_until(options: &KernelSourceOptions, deadline: Deadline) -> anyhow::Result<Self> {
        let host = host::facts();
        // Its thread stays in the mount namespace that this one may leave next.
        let namespaces = Namespaces::start(host.netns).context("cannot start a thread")?;
        let owners = OwnerSearch::start().context("cannot start a thread")?;
        let containers = ContainerNames::start(&options.runtimes).context("cannot start a thread")?;
        let loaded = load::load(&options.load)?;
        give_back();
        let sweeper = loaded.sweeper()?;
        let users = UserNames::start().context("cannot start a thread")?;
        let mut decoder = Decoder::default();
        decoder.netns().id(host.netns, cookies::netns_cookie().unwrap_or(0));
        // Now, not before: earlier closes were not seen.
        let start = Some(clock::now()?);
        Ok(Self {
            intake: Intake {
                kernel_threads: loaded.tracing.no_btf.then(KernelThreads::default),
                ring_bytes: loaded.room.ring_bytes as usize,
                loaded,
                decoder,
                undecodable: 0,
                unseen_ends: 0,
                look_ups: LookUps::default(),
                users,
            },
            host,
            start,
            next_figures_ns: 0,
            next_census_ns: 0,
            next_sweep_ns: 0,
            sweeper,
            never_seen: 0,
            cost: CostSampler::new(clock::monotonic_ns()?),
            processes: ProcessReader::new(),
            containers,
            ancestors: Ancestors::new(),
            namespaces,
            censuses: Censuses::until(deadline),
            owners,
        })
    }

    /// Hooks with their results.
    pub fn hooks(&self) -> &[Hook] {
        &self.intake.loaded.tracing.hooks
    }

    /// The id that a namespace has in events.
    pub fn netns_id(&mut self, found: &Found) -> u32 {
        self.intake.decoder.netns().id(found.inode, found.cookie.unwrap_or(0))
    }

    /// Tier in force.
    pub fn tier(&self) -> Tier {
        self.intake.loaded.tracing.tier
    }

    fn begin(&mut self, sink: &mut dyn FnMut(Event)) {
        if let Some(start) = self.start.take() {
            sink(Event::Start {
                at_ns: start.monotonic_ns,
                unix_ns: start.unix_ns,
                host: self.host.clone(),
                tracing: self.intake.loaded.tracing.clone(),
            });
        }
    }

    fn look_up(&mut self, sink: &mut dyn FnMut(Event)) {
        let mut spent = 0;
        while spent < LOOK_UPS {
            let Some(Owner { key, cgroup, .. }) = self.intake.look_ups.next() else { break };
            let execs = &self.intake.loaded.execs;
            let kept = || execs.facts(key, cgroup);
            let read = self.processes.read(key);
            spent += if read.is_some() { READS } else { 1 };
            let facts = match read {
                // One that has exited and is not reaped has no command line any more.
                Some(facts) if facts.cmdline.is_none() => {
                    let cmdline = kept().and_then(|kept| kept.cmdline);
                    Some(ProcessFacts { cmdline, ..facts })
                }
                Some(facts) => Some(facts),
                // One that is gone is known from its start.
                None => kept(),
            };
            // When a parent ends, another one takes its place: the one at the start says more.
            let parent = execs.parent(key).or_else(|| self.ancestors.parent(key));
            let ancestor =
                parent.and_then(|parent| self.ancestors.of(parent, |gone| execs.parent(gone), &mut self.processes));
            if let Some(container) = facts.as_ref().and_then(|facts| facts.container.as_deref()) {
                self.containers.ask(container);
            }
            if facts.is_some() || ancestor.is_some() {
                sink(Event::Process { key, facts: ProcessFacts { ancestor, ..facts.unwrap_or_default() } });
            }
        }
        for (uid, name) in self.intake.users.answers() {
            sink(Event::User { uid, name });
        }
        for (id, facts) in self.containers.answers() {
            sink(Event::Container { id, facts });
        }
    }

    fn figures(&mut self, sink: &mut dyn FnMut(Event)) -> anyhow::Result<()> {
        let mut counters = self.intake.loaded.counters()?;
        counters.undecodable = self.intake.undecodable;
        counters.unseen_ends = self.intake.unseen_ends;
        counters.stale += self.never_seen;
        sink(Event::Counters(counters));
        let at_ns = clock::monotonic_ns()?;
        sink(Event::Cost(CostReading {
            at_ns,
            process_ns: clock::process_ns()?,
            kernel: self.cost.go_on(&self.intake.loaded, at_ns, counters.connections_ended),
            kernel_refused: self.cost.is_refused(),
        }));
        let facts = host::kernel_facts().context("cannot read the kernel's TCP figures")?;
        self.censuses.open_sockets.know_ports(self.host.netns, facts.port_range);
        sink(Event::Kernel { netns: self.host.netns, facts });
        Ok(())
    }

    /// The kernel's list of the tracer's own namespace.
    fn census(&mut self, sink: &mut dyn FnMut(Event)) -> anyhow::Result<()> {
        let before = clock::process_ns()?;
        let intake = &mut self.intake;
        // A dump takes long enough to fill the ring buffer on a busy host.
        let ended = self.censuses.take(self.host.netns, sink, Dump::here, intake)?;
        let spent = clock::process_ns()?.saturating_sub(before);
        self.next_census_ns = ended.saturating_add(spent.saturating_mul(CENSUS_SHARE).max(SECOND_NS));
        self.intake.drain(sink);
        Ok(())
    }
}

impl KernelSource {
    /// Asks for sockets that have been closing for a while, and passes on the answer to the last question.
    fn sweep(&mut self, now_ns: u64) {
        if let Some(sweep) = self.sweeper.latest() {
            // A sweep of a million sockets takes a second.
            let pause_ns = u64::try_from(sweep.took.as_nanos()).unwrap_or(u64::MAX).saturating_mul(CENSUS_SHARE);
            self.next_sweep_ns = self.next_sweep_ns.max(now_ns.saturating_add(pause_ns));
            self.watch(&sweep.found);
        }
        if now_ns >= self.next_sweep_ns {
            self.next_sweep_ns = now_ns + SWEEP_NS;
            self.sweeper.ask(Question { before_ns: now_ns.saturating_sub(SETTLE_NS), all: false });
        }
    }

    fn watch(&mut self, swept: &[SweptSocket]) {
        let ids = self.intake.decoder.netns();
        let closing = swept.iter().filter(|socket| socket.is_closing);
        let mut closing: Vec<Closing> = closing.map(|socket| socket.with_id(ids)).collect();
        let before_ns = clock::monotonic_ns().unwrap_or(0).saturating_sub(SETTLE_NS);
        closing.extend(self.intake.decoder.closing(before_ns));
        closing.iter().for_each(|one| self.namespaces.need(one.netns));
        self.censuses.watch(closing);
    }

    /// Reports connections whose end no hook saw and a census found: some kernels run no tracing program in a softirq
    /// that interrupts a process they protect.
    fn report_unseen(&mut self, sink: &mut dyn FnMut(Event)) {
        for (key, cookie) in self.censuses.unseen.drain(..) {
            if let Some(record) = self.intake.loaded.take_unseen(key, cookie) {
                self.intake.unseen_ends += 1;
                let decoded = self.intake.decoder.decode(&record);
                self.intake.hand_over(decoded, sink);
            } else if let Some(connection) = self.intake.decoder.take_unseen(key, cookie) {
                self.intake.unseen_ends += 1;
                self.intake.hand_over(Ok(Some(Event::Connection(Box::new(connection)))), sink);
            }
        }
    }
}

impl Meanwhile for Intake {
    fn drain(&mut self, sink: &mut dyn FnMut(Event)) {
        for _ in 0..MAX_DRAIN {
            let Some(item) = self.loaded.ring.next() else { return };
            let decoded = self.decoder.decode(&item);
            // Gives the space back to the ring buffer.
            drop(item);
            self.hand_over(decoded, sink);
        }
    }

    fn ids(&mut self) -> &mut NetnsIds {
        self.decoder.netns()
    }
}

impl Intake {
    /// Passes on what is in the ring buffer now, which is at most its capacity. While connections arrive faster than
    /// they are read, it would never be empty, and the trace would not end.
    fn drain_all(&mut self, sink: &mut dyn FnMut(Event)) {
        let mut left = self.ring_bytes;
        while left > 0 {
            let Some(item) = self.loaded.ring.next() else { return };
            left = left.saturating_sub(item.len());
            let decoded = self.decoder.decode(&item);
            drop(item);
            self.hand_over(decoded, sink);
        }
    }

    /// Passes on one record.
    fn hand_over(&mut self, decoded: Result<Option<Event>, DecodeError>, sink: &mut dyn FnMut(Event)) {
        self.decoder.netns().news().for_each(&mut *sink);
        // Hardly ever any: an empty list takes no memory.
        for event in self.decoder.superseded().collect::<Vec<_>>() {
            self.unseen_ends += 1;
            self.pass_on(event, sink);
        }
        match decoded {
            Ok(None) => {}
            Ok(Some(event)) => self.pass_on(event, sink),
            Err(_) => self.undecodable += 1,
        }
    }

    fn pass_on(&mut self, mut event: Event, sink: &mut dyn FnMut(Event)) {
        match &mut event {
            Event::Connection(connection) => {
                if let Some(threads) = &mut self.kernel_threads {
                    for owner in [&mut connection.opener, &mut connection.closer].into_iter().flatten() {
                        owner.kthread = threads.has(owner.key.tgid, Instant::now());
                    }
                }
                self.note(connection.opener.as_ref());
                self.note(connection.closer.as_ref());
            }
            Event::ConnectFailed(failed) => self.note(Some(&failed.opener)),
            Event::BindFailed(failed) => self.note(Some(&failed.owner)),
            _ => {}
        }
        sink(event);
    }

    /// Queues a process for look-up if it was not seen before.
    fn note(&mut self, owner: Option<&Owner>) {
        if let Some(owner) = owner.filter(|owner| self.look_ups.add(owner)) {
            self.users.ask(owner.uid);
        }
    }
}

impl Source for KernelSource {
    type Error = anyhow::Error;

    fn pump(&mut self, sink: &mut dyn FnMut(Event)) -> anyhow::Result<()> {
        self.begin(sink);
        self.intake.drain(sink);
        let now = clock::monotonic_ns()?;
        if now >= self.next_figures_ns {
            self.figures(sink)?;
            self.next_figures_ns = now + FIGURES_NS;
        }
        self.sweep(now);
        if now >= self.next_census_ns {
            self.census(sink)?;
        }
        self.namespaces.go_on(&mut self.censuses, sink, &mut self.intake)?;
        self.report_unseen(sink);
        self.owners.report(sink);
        self.owners.go_on(&self.censuses.open_sockets, now);
        self.look_up(sink);
        self.intake.loaded.flush_log();
        sink(Event::Tick { at_ns: clock::monotonic_ns()? });
        Ok(())
    }

    fn final_pump(&mut self, sink: &mut dyn FnMut(Event)) -> anyhow::Result<()> {
        self.begin(sink);
        self.intake.drain_all(sink);
        // A socket that closed just now is still on its way to TIME_WAIT.
        thread::sleep(SETTLE);
        let question = Question { before_ns: clock::monotonic_ns()?.saturating_sub(SETTLE_NS), all: true };
        if let Some(sweep) = self.sweeper.fresh(question, LAST_SWEEP.min(self.censuses.deadline.left())) {
            self.watch(&sweep.found);
            let ids = self.intake.decoder.netns();
            self.censuses.account_for(sweep.found.iter().map(|socket| socket.with_id(ids)));
        }
        self.census(sink)?;
        if self.censuses.with_unlisted().contains(&0) {
            self.namespaces.need_all();
        }
        let everywhere = self.namespaces.last_round(&mut self.censuses, sink, &mut self.intake)?;
        for netns in self.censuses.with_unlisted() {
            if [0, self.host.netns].contains(&netns) {
                self.census(sink)?;
            } else {
                self.namespaces.again(netns, &mut self.censuses, sink, &mut self.intake)?;
            }
        }
        self.owners.last(&self.censuses, sink, &mut self.intake)?;
        self.report_unseen(sink);
        thread::sleep(SETTLE);
        self.intake.drain_all(sink);
        // What is neither listed nor reported has ended, and nothing can be said of it.
        let never_listed = self.censuses.never_listed(everywhere).into_iter();
        let loaded = &self.intake.loaded;
        self.never_seen = never_listed.filter(|(key, cookie)| loaded.is_followed(*key, *cookie)).count() as u64;
        self.figures(sink)?;
        self.look_up(sink);
        for (id, facts) in self.containers.last_answers(LAST_NAMES.min(self.censuses.deadline.left())) {
            sink(Event::Container { id, facts });
        }
        self.intake.loaded.flush_log();
        sink(Event::Tick { at_ns: clock::monotonic_ns()? });
        Ok(())
    }
}

impl EventSource for KernelSource {
    /// Readable when much of the ring buffer is filled, so that a reader that polls on a timer wakes early.
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.intake.loaded.ring.as_fd())
    }

    /// At the next census of each namespace.
    fn restate(&mut self) {
        self.censuses.changes.restate();
        self.namespaces.need_all();
    }
}
