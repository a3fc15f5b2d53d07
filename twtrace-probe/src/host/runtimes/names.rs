//! The thread that asks.

use super::asking::{Asking, Found};
use super::runtime::CONTAINERS;
use super::sockets::Runtimes;
use crate::confine::{self, Part};
use crate::host::cgroup::SHORT_ID;
use std::collections::HashSet;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};
use twtrace_core::event::ContainerFacts;

/// Names of containers by their short ids, asked for in a thread of its own: a runtime may hang, and tracing must not wait
/// for it.
pub struct ContainerNames {
    /// `None` where no runtime is to be asked.
    thread: Option<(SyncSender<String>, Receiver<Found>)>,
    asked: HashSet<String>,
    /// Of these, those that no answer of any kind has come for.
    unanswered: HashSet<String>,
}

impl ContainerNames {
    /// Starts the thread. It ends when this is dropped, after a running call has returned, which takes a few seconds at
    /// most.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start(runtimes: &Runtimes) -> io::Result<Self> {
        let sockets = runtimes.sockets();
        let thread = if sockets.is_empty() {
            None
        } else {
            let (ask, questions) = sync_channel(CONTAINERS);
            let (sender, answers) = sync_channel(CONTAINERS);
            let run = move || {
                confine::enter(Part::Runtimes);
                answer(Asking::new(sockets, Instant::now()), &questions, &sender);
            };
            thread::Builder::new().name("runtimes".to_owned()).stack_size(512 * 1024).spawn(run)?;
            Some((ask, answers))
        };
        Ok(Self { thread, asked: HashSet::new(), unanswered: HashSet::new() })
    }

    /// Asks for the container that processes show, once. Names that are no ids are left alone. Does not wait.
    pub fn ask(&mut self, container: &str) {
        let Some((ask, _)) = &self.thread else { return };
        let is_id = container.len() == SHORT_ID && container.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_id || self.asked.contains(container) {
            return;
        }
        if self.asked.len() == CONTAINERS {
            self.asked.clear();
            self.unanswered.clear();
        }
        // When there is no room, the next process of this container asks again.
        if ask.try_send(container.to_owned()).is_ok() {
            self.asked.insert(container.to_owned());
            self.unanswered.insert(container.to_owned());
        }
    }

    /// What has arrived.
    pub fn answers(&mut self) -> Vec<(String, ContainerFacts)> {
        let Some((_, answers)) = &self.thread else { return Vec::new() };
        let found: Vec<Found> = answers.try_iter().take(CONTAINERS).collect();
        found.into_iter().filter_map(|found| self.take(found)).collect()
    }

    /// Waits for the answers to what was asked, the first ones, for at most so long.
    pub fn last_answers(&mut self, patience: Duration) -> Vec<(String, ContainerFacts)> {
        let end = Instant::now() + patience;
        let mut last = self.answers();
        while !self.unanswered.is_empty() {
            let Some((_, answers)) = &self.thread else { break };
            let left = end.saturating_duration_since(Instant::now());
            let Ok(found) = answers.recv_timeout(left) else { break };
            last.extend(self.take(found));
        }
        last
    }

    fn take(&mut self, (id, facts): Found) -> Option<(String, ContainerFacts)> {
        self.unanswered.remove(&id);
        facts.map(|facts| (id, facts))
    }
}

fn answer(mut asking: Asking, questions: &Receiver<String>, answers: &SyncSender<Found>) {
    loop {
        let first = match asking.due() {
            None => questions.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(due) => questions.recv_timeout(due.saturating_duration_since(Instant::now())),
        };
        let now = Instant::now();
        let mut found = Vec::new();
        match first {
            Ok(id) => {
                let all = std::iter::once(id).chain(questions.try_iter().take(CONTAINERS));
                found.extend(all.filter_map(|id| asking.add(id, now)));
            }
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if asking.due().is_some_and(|due| due <= Instant::now()) {
            found.extend(asking.ask());
        }
        for found in found {
            if answers.send(found).is_err() {
                return;
            }
        }
    }
}
