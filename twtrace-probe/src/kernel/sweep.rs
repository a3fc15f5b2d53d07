//! Sweeps of the socket map: which sockets have been closing for a while. Some kernels run no tracing program in a softirq
//! that interrupts a process they protect, so the end of a socket may never be seen.
//!
//! Entry by entry, two system calls for each. `BPF_MAP_LOOKUP_BATCH` is faster, but walks the whole table with
//! `bpf_prog_active` set: on that processor the kernel then skips classic tracepoints and kprobes, on a preemptible kernel
//! for other processes as well.

use super::load::Wire;
use crate::confine::{self, Part};
use anyhow::Context as _;
use aya::maps::{HashMap, Map, MapData};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};
use twtrace_common::{ConnFlags, ConnRecord, tcp_state};
use twtrace_core::decode::Closing;
use twtrace_core::netns::NetnsIds;

/// Most closing sockets that one sweep reports. When full, further ones are reported by a later sweep.
const MOST: usize = 65_536;

/// Most sockets of any state that the last sweep reports. When full, nothing is said of further ones.
const MOST_OF_ALL: usize = 1 << 20;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Only sockets without a transition since then.
    pub before_ns: u64,
    /// Not only closing ones.
    pub all: bool,
}

/// However little time is left, the last sweep gets this much. It takes some milliseconds.
const LEAST: Duration = Duration::from_millis(50);

/// A socket in the map that has not been seen to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweptSocket {
    /// Low 48 bits of the cookie of its network namespace; 0 when not known.
    pub netns_cookie: u64,
    /// It has sent its FIN.
    pub is_closing: bool,
    /// The rest; the namespace by its inode number.
    pub closing: Closing,
}

impl SweptSocket {
    /// The rest, with the namespace by its id.
    pub fn with_id(&self, ids: &mut NetnsIds) -> Closing {
        Closing { netns: ids.id(self.closing.netns, self.netns_cookie), ..self.closing }
    }
}

/// What a slot says of such a socket, if it is one.
fn swept(key: u64, record: &ConnRecord) -> Option<SweptSocket> {
    use tcp_state::{CLOSING, FIN_WAIT1, FIN_WAIT2, LAST_ACK};
    let last = usize::from(record.transitions).checked_sub(1)?;
    let state = *record.new_states.get(last)?;
    let over = record.flags.intersects(ConnFlags::DONE | ConnFlags::PENDING);
    let since_ns = *record.times_ns.get(last)?;
    // Without cookies no census can say what became of it.
    (record.cookie != 0 && !over).then_some(SweptSocket {
        netns_cookie: record.tuple.netns_cookie(),
        is_closing: [FIN_WAIT1, FIN_WAIT2, CLOSING, LAST_ACK].contains(&state),
        closing: Closing {
            sk: key,
            cookie: record.cookie,
            netns: record.tuple.netns,
            ports: (record.tuple.local_port, record.tuple.remote_port),
            is_last_ack: state == LAST_ACK,
            since_ns,
        },
    })
}

/// The result of a sweep.
pub struct Sweep {
    question: Question,
    /// Those that were asked for.
    pub found: Vec<SweptSocket>,
    /// How long it took.
    pub took: Duration,
}

/// Sweeps in a thread of its own: there may be a million sockets, and the tracer thread has the ring buffer to read.
pub struct Sweeper {
    /// Dropped to end the thread.
    ask: SyncSender<Question>,
    results: Receiver<Sweep>,
}

impl Sweeper {
    /// Starts the thread. `map` is the socket map.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start(map: OwnedFd) -> anyhow::Result<Self> {
        let (ask, questions) = sync_channel::<Question>(1);
        let (sender, results) = sync_channel(1);
        let data = MapData::from_fd(map).context("cannot open the socket map again")?;
        let map: HashMap<MapData, u64, Wire<ConnRecord>> = HashMap::try_from(Map::HashMap(data))?;
        let sweep = move || {
            confine::enter(Part::Sweep);
            for question in questions {
                let began = Instant::now();
                // The iteration continues while the map changes; what it misses is found the next time.
                let entries = map.iter().filter_map(Result::ok);
                let sockets = entries.filter_map(|(key, Wire(record))| swept(key, &record));
                let Question { before_ns, all } = question;
                let wanted = sockets.filter(|one| one.closing.since_ns < before_ns && (all || one.is_closing));
                let found = wanted.take(if all { MOST_OF_ALL } else { MOST }).collect();
                if sender.send(Sweep { question, found, took: began.elapsed() }).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("sweep".to_owned()).spawn(sweep).context("cannot start a thread")?;
        Ok(Self { ask, results })
    }

    /// Asks. One sweep runs at a time.
    pub fn ask(&self, question: Question) {
        // Full: one is being made.
        let _ = self.ask.try_send(question);
    }

    /// The result of the last sweep, if one has ended since the last call.
    pub fn latest(&self) -> Option<Sweep> {
        self.results.try_iter().last()
    }

    /// Asks, and waits for the answer, at least for a moment.
    pub fn fresh(&self, question: Question, patience: Duration) -> Option<Sweep> {
        let until = Instant::now() + patience.max(LEAST);
        let mut latest = self.latest();
        let mut is_asked = false;
        loop {
            // Full: a sweep is running, and another is waiting.
            is_asked = is_asked || self.ask.try_send(question).is_ok();
            let Ok(sweep) = self.results.recv_timeout(until.saturating_duration_since(Instant::now())) else {
                return latest;
            };
            let is_it = is_asked && sweep.question == question;
            latest = Some(sweep);
            if is_it {
                return latest;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twtrace_common::Tuple;

    fn record(state: u8) -> ConnRecord {
        let mut record =
            ConnRecord { transitions: 1, cookie: 7, tuple: Tuple { netns: 3, ..Tuple::NONE }, ..ConnRecord::EMPTY };
        record.new_states[0] = state;
        record.times_ns[0] = 100;
        record
    }

    #[test]
    fn only_sockets_that_have_sent_their_fin_are_closing() {
        use tcp_state::{CLOSE_WAIT, ESTABLISHED, FIN_WAIT1, LAST_ACK};
        let of = |record: &ConnRecord| swept(1, record).filter(|swept| swept.is_closing).map(|swept| swept.closing);
        let expected = Closing { sk: 1, cookie: 7, netns: 3, ports: (0, 0), is_last_ack: false, since_ns: 100 };
        assert_eq!(of(&record(FIN_WAIT1)), Some(expected));
        assert_eq!(of(&record(LAST_ACK)), Some(Closing { is_last_ack: true, ..expected }));
        assert_eq!((of(&record(ESTABLISHED)), of(&record(CLOSE_WAIT))), (None, None));
        assert_eq!(of(&ConnRecord { flags: ConnFlags::DONE, ..record(FIN_WAIT1) }), None);
        assert_eq!(of(&ConnRecord { transitions: 0, ..record(FIN_WAIT1) }), None);
        assert_eq!(of(&ConnRecord { transitions: 200, ..record(FIN_WAIT1) }), None);
        assert_eq!(of(&ConnRecord { cookie: 0, ..record(FIN_WAIT1) }), None);
    }
}
