//! Sweeps of the socket map: which sockets have been closing for a while. Some kernels run no tracing program in a softirq
//! that interrupts a process they protect, so the end of a socket may never be seen.

use anyhow::Context as _;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};
use twtrace_common::{ConnFlags, ConnRecord, tcp_state};
use twtrace_core::decode::Closing;
use zerocopy::IntoBytes as _;

/// `BPF_MAP_LOOKUP_BATCH` (`include/uapi/linux/bpf.h`, 5.6).
const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;

/// Entries read at a time: 1.4 MiB. More than any bucket has.
const PIECE: usize = 4096;

/// Most sockets that one sweep reports. When full, further ones are reported by a later sweep.
const MOST: usize = 65_536;

/// However little time is left, the last sweep gets this much. It takes some milliseconds.
const LEAST: Duration = Duration::from_millis(50);

/// What a slot says, if its socket has sent its FIN and has not been seen to end.
fn closing_of(key: u64, record: &ConnRecord) -> Option<Closing> {
    use tcp_state::{CLOSING, FIN_WAIT1, FIN_WAIT2, LAST_ACK};
    let last = usize::from(record.transitions).checked_sub(1)?;
    let state = *record.new_states.get(last)?;
    let over = record.flags.intersects(ConnFlags::DONE | ConnFlags::PENDING);
    // Without cookies no census can say what became of it.
    let waits = [FIN_WAIT1, FIN_WAIT2, CLOSING, LAST_ACK].contains(&state) && record.cookie != 0;
    (waits && !over).then_some(Closing {
        sk: key,
        cookie: record.cookie,
        netns: record.tuple.netns,
        is_last_ack: state == LAST_ACK,
        since_ns: *record.times_ns.get(last)?,
    })
}

/// Sweeps in a thread of its own: there may be a million sockets, and the tracer thread has the ring buffer to read.
pub struct Sweeper {
    /// Dropped to end the thread.
    ask: SyncSender<u64>,
    /// With the question.
    results: Receiver<(u64, Vec<Closing>)>,
}

impl Sweeper {
    /// Starts the thread. `map` is the socket map.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start(map: OwnedFd) -> anyhow::Result<Self> {
        let (ask, questions) = sync_channel::<u64>(1);
        let (sender, results) = sync_channel(1);
        let sweep = move || {
            for before_ns in questions {
                let mut found = Vec::new();
                // A sweep that fails is repeated later; until then the rows that it would repair are missing.
                let _ = closing(&map, before_ns, &mut found);
                if sender.send((before_ns, found)).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("sweep".to_owned()).spawn(sweep).context("cannot start a thread")?;
        Ok(Self { ask, results })
    }

    /// Asks for those that have been closing since before that time. One sweep runs at a time.
    pub fn ask(&self, before_ns: u64) {
        // Full: one is being made.
        let _ = self.ask.try_send(before_ns);
    }

    /// The result of the last sweep, if one has ended since the last call.
    pub fn latest(&self) -> Option<Vec<Closing>> {
        self.results.try_iter().last().map(|(_, found)| found)
    }

    /// Asks, and waits for the answer, at least for a moment.
    pub fn fresh(&self, before_ns: u64, patience: Duration) -> Option<Vec<Closing>> {
        let until = Instant::now() + patience.max(LEAST);
        let mut latest = self.latest();
        let mut is_asked = false;
        loop {
            // Full: a sweep is running, and another is waiting.
            is_asked = is_asked || self.ask.try_send(before_ns).is_ok();
            let Ok((asked, found)) = self.results.recv_timeout(until.saturating_duration_since(Instant::now())) else {
                return latest;
            };
            latest = Some(found);
            if is_asked && asked == before_ns {
                return latest;
            }
        }
    }
}

/// The arguments of the batch commands of bpf(2).
#[repr(C)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

fn closing(map: &OwnedFd, before_ns: u64, found: &mut Vec<Closing>) -> io::Result<()> {
    let mut keys = vec![0_u64; PIECE];
    let mut values = vec![ConnRecord::EMPTY; PIECE];
    // The kernel's place in the table: the number of a bucket.
    let (mut from, mut next) = (0_u64, 0_u64);
    let mut is_first = true;
    while found.len() < MOST {
        let mut batch = Batch {
            in_batch: if is_first { 0 } else { (&raw const from) as u64 },
            out_batch: (&raw mut next) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_slice().as_mut_bytes().as_mut_ptr() as u64,
            count: PIECE as u32,
            map_fd: map.as_raw_fd() as u32,
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: the buffers have room for `count` entries of the map's key and value sizes, which `load_object` has
        // checked; the kernel writes no more than that, and to the number behind `out_batch`.
        let result = unsafe {
            libc::syscall(libc::SYS_bpf, BPF_MAP_LOOKUP_BATCH, &raw mut batch, size_of::<Batch>() as libc::c_uint)
        };
        let error = (result < 0).then(io::Error::last_os_error);
        let is_last = match &error {
            None => false,
            // The end of the table; what was found before it counts.
            Some(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            Some(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Some(_) => return Err(error.unwrap_or_else(io::Error::last_os_error)),
        };
        let count = (batch.count as usize).min(PIECE);
        let entries = keys.iter().zip(&values).take(count);
        found.extend(
            entries.filter_map(|(key, record)| closing_of(*key, record)).filter(|one| one.since_ns < before_ns),
        );
        if is_last {
            break;
        }
        (from, is_first) = (next, false);
    }
    Ok(())
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
        let of = |record: &ConnRecord| closing_of(1, record);
        let expected = Closing { sk: 1, cookie: 7, netns: 3, is_last_ack: false, since_ns: 100 };
        assert_eq!(of(&record(FIN_WAIT1)), Some(expected));
        assert_eq!(of(&record(LAST_ACK)), Some(Closing { is_last_ack: true, ..expected }));
        assert_eq!((of(&record(ESTABLISHED)), of(&record(CLOSE_WAIT))), (None, None));
        assert_eq!(of(&ConnRecord { flags: ConnFlags::DONE, ..record(FIN_WAIT1) }), None);
        assert_eq!(of(&ConnRecord { transitions: 0, ..record(FIN_WAIT1) }), None);
        assert_eq!(of(&ConnRecord { transitions: 200, ..record(FIN_WAIT1) }), None);
        assert_eq!(of(&ConnRecord { cookie: 0, ..record(FIN_WAIT1) }), None);
    }
}
