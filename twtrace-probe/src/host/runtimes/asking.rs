//! When to ask which runtime.

use super::runtime::{CONTAINERS, Failure};
use super::sockets::Socket;
use crate::host::cgroup::SHORT_ID;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use twtrace_core::event::ContainerFacts;

/// At least this long from one question to the next.
const PAUSE: Duration = Duration::from_secs(1);

/// A socket that has failed is left alone for twice as long each time, up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How often an id is looked for that no runtime knows: a runtime lists a container a moment after its first process
/// runs.
const TRIES: u32 = 4;

/// What is asked, what is known, and when to ask again.
pub(super) struct Asking {
    sockets: Vec<(Socket, BackOff)>,
    /// Containers that a runtime listed, by short id; they may be gone by now.
    known: HashMap<String, ContainerFacts>,
    /// Ids that nothing is known of, with how often and when they are looked for next.
    waiting: HashMap<String, (u32, Instant)>,
    /// No question before this.
    next: Instant,
}

#[derive(Default)]
struct BackOff {
    failures: u32,
    until: Option<Instant>,
}

impl BackOff {
    fn failed(&mut self, now: Instant) {
        let pause = PAUSE.saturating_mul(1 << self.failures.min(6)).min(LONGEST_PAUSE);
        (self.failures, self.until) = (self.failures + 1, Some(now + pause));
    }
}

/// What became known of an id. Without facts, it is known that no runtime has it so far.
pub(super) type Found = (String, Option<ContainerFacts>);

impl Asking {
    pub(super) fn new(sockets: Vec<Socket>, now: Instant) -> Self {
        let sockets = sockets.into_iter().map(|socket| (socket, BackOff::default())).collect();
        Self { sockets, known: HashMap::new(), waiting: HashMap::new(), next: now }
    }

    /// Looks for an id from now on, if what is known does not have it.
    pub(super) fn add(&mut self, id: String, now: Instant) -> Option<Found> {
        if let Some(facts) = self.known.get(&id) {
            return Some((id, Some(facts.clone())));
        }
        if self.waiting.len() < CONTAINERS {
            self.waiting.insert(id, (0, now));
        }
        None
    }

    /// When there is something to ask; `None` if there is not.
    pub(super) fn due(&self) -> Option<Instant> {
        self.waiting.values().map(|(_, at)| *at).min().map(|at| at.max(self.next))
    }

    /// Asks one runtime after the other until all ids are known that are due. A runtime may start when its socket is
    /// connected to, so none is asked without need.
    pub(super) fn ask(&mut self) -> Vec<Found> {
        let now = Instant::now();
        let due: Vec<String> =
            self.waiting.iter().filter(|(_, (_, at))| *at <= now).map(|(id, _)| id.clone()).collect();
        let mut any_failed = false;
        for at in 0..self.sockets.len() {
            let wanted: Vec<&str> = due.iter().map(String::as_str).filter(|id| !self.known.contains_key(*id)).collect();
            if wanted.is_empty() {
                break;
            }
            let (socket, back_off) = &mut self.sockets[at];
            if back_off.until.is_some_and(|until| now < until) {
                any_failed = true;
                continue;
            }
            match socket.list(&wanted) {
                Ok(listed) => {
                    *back_off = BackOff::default();
                    if self.known.len() + listed.len() > CONTAINERS {
                        self.known.clear();
                    }
                    let listed = listed.into_iter().filter(|one| one.id.len() >= SHORT_ID && one.id.is_ascii());
                    self.known.extend(listed.map(|one| (one.id[..SHORT_ID].to_owned(), one.facts)));
                }
                Err(Failure::Absent) => {}
                Err(_) => {
                    any_failed = true;
                    back_off.failed(Instant::now());
                }
            }
        }
        // It has passed: a runtime that takes its time is not asked more often for that.
        let now = Instant::now();
        self.next = now + PAUSE;
        due.into_iter().filter_map(|id| self.settle(id, any_failed, now)).collect()
    }

    /// An id is found, or looked for again later, or given up.
    fn settle(&mut self, id: String, any_failed: bool, now: Instant) -> Option<Found> {
        if let Some(facts) = self.known.get(&id) {
            self.waiting.remove(&id);
            return Some((id, Some(facts.clone())));
        }
        let (tries, at) = self.waiting.get_mut(&id)?;
        *at = now + PAUSE.saturating_mul(1 << (*tries).min(6)).min(LONGEST_PAUSE);
        *tries += 1;
        let is_first = *tries == 1;
        // A runtime that does not answer may do so later.
        if *tries == TRIES && !any_failed {
            self.waiting.remove(&id);
        }
        is_first.then_some((id, None))
    }
}
