//! The kernel's choice of local ports (`__inet_hash_connect`, `inet_csk_find_open_port`).

use crate::ports::Usable;
use crate::table::Map;
use std::hash::Hash;

/// The kernel adds up to seven steps to where the next search begins.
const PERTURB: u64 = 8;

/// A port of one source address and destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// By a connection.
    Open,
    /// By a TIME_WAIT socket that a connect may take over from `reusable_ns` on, if ever.
    TimeWait { ends_ns: u64, reusable_ns: u64, is_shown: bool },
}

/// The ports of one namespace. A source address is a number here.
#[derive(Debug, Default)]
pub(super) struct Ports {
    /// Bound sockets by port: connect(2) passes these ports over, whatever their address (`__inet_hash_connect`).
    bound: Map<u16, u32>,
    /// Sockets of either kind by address and port: bind(2) passes these over (`inet_csk_find_open_port`).
    taken: Map<(u32, u16), u32>,
    /// Where the next search for a port to bind begins.
    next: u64,
    /// How many bound ports have come free.
    freed: u64,
    /// How many sockets of either kind have.
    released: u64,
    /// There was no port to bind at this address when so many had.
    full: Option<(u32, u64)>,
}

/// The ports for one source address and destination.
#[derive(Debug)]
pub(super) struct Space {
    uses: Map<u16, Use>,
    /// How many of them are bound.
    bound: u32,
    /// Where the next search begins.
    next: u64,
    random: u64,
    /// The last search found nothing, and none will before this time, unless a port comes free.
    full_until_ns: u64,
    /// [`Ports::freed`] at that search.
    freed: u64,
}

/// Adds to a count, or subtracts.
fn change<K: Copy + Eq + Hash>(counts: &mut Map<K, u32>, key: K, by: i32) {
    let count = counts.entry(key).or_default();
    *count = count.saturating_add_signed(by);
    if *count == 0 {
        counts.remove(&key);
    }
}

/// Ports in the order of a search: those of one parity from `start` on, then the others.
fn in_order((low, high): (u16, u16), start: u64, odd_first: bool) -> impl Iterator<Item = (u64, u16)> {
    let all = u32::from(high - low) + 1;
    // The kernel leaves out the last one of an odd number.
    let all = u64::from(if all > 1 { all & !1 } else { all });
    let half = (all / 2).max(1);
    let passes = if all > 1 { 2 } else { 1 };
    let start = start % half;
    (0..passes).flat_map(move |pass| {
        let odd = u64::from((pass == 1) != odd_first && all > 1);
        (0..half).map(move |step| (step, low + (((start + step) % half) * 2 + odd).min(all - 1) as u16))
    })
}

impl Ports {
    pub(super) fn bind(&mut self, address: u32, port: u16) {
        change(&mut self.bound, port, 1);
        change(&mut self.taken, (address, port), 1);
    }

    pub(super) fn unbind(&mut self, address: u32, port: u16) {
        change(&mut self.bound, port, -1);
        self.freed += 1;
        self.release(address, port);
    }

    /// A port that connect(2) chose has come free.
    pub(super) fn release(&mut self, address: u32, port: u16) {
        change(&mut self.taken, (address, port), -1);
        self.released += 1;
    }

    /// A port for bind(2) with port 0. It looks at the ports of the other parity first.
    pub(super) fn choose(&mut self, address: u32, usable: &Usable) -> Option<u16> {
        if self.full == Some((address, self.released)) {
            return None;
        }
        let is_free = |port: u16| usable.has(port) && !self.taken.contains_key(&(address, port));
        let Some((step, port)) = in_order(usable.range(), self.next, true).find(|(_, port)| is_free(*port)) else {
            self.full = Some((address, self.released));
            return None;
        };
        self.next = self.next.wrapping_add(step + 1);
        Some(port)
    }
}

impl Space {
    /// `seed` is different for each one: the kernel hashes addresses and ports.
    pub(super) fn new(seed: u64) -> Self {
        let random = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Self { uses: Map::default(), bound: 0, next: random >> 40, random, full_until_ns: 0, freed: 0 }
    }

    /// How many ports no connect finds: its own, and those that are bound for other destinations.
    pub(super) fn used_with(&self, ports: &Ports) -> u32 {
        (self.uses.len() + ports.bound.len()) as u32 - self.bound
    }

    /// The port that connect(2) finds, which is in use from now on, and whether the
    /// TIME_WAIT socket that had it was shown, if one had.
    pub(super) fn connect(
        &mut self,
        now_ns: u64,
        usable: &Usable,
        address: u32,
        ports: &mut Ports,
    ) -> Option<(u16, Option<bool>)> {
        if now_ns < self.full_until_ns && self.freed == ports.freed {
            return None;
        }
        let mut soonest_ns = u64::MAX;
        let found = in_order(usable.range(), self.next, false).find_map(|(step, port)| {
            if !usable.has(port) || ports.bound.contains_key(&port) {
                return None;
            }
            match self.uses.get(&port) {
                None => Some((step, port, None)),
                Some(Use::TimeWait { reusable_ns, is_shown, .. }) if *reusable_ns <= now_ns => {
                    Some((step, port, Some(*is_shown)))
                }
                Some(Use::TimeWait { reusable_ns, .. }) => {
                    soonest_ns = soonest_ns.min(*reusable_ns);
                    None
                }
                Some(Use::Open) => None,
            }
        });
        let Some((step, port, replaced)) = found else {
            (self.full_until_ns, self.freed) = (soonest_ns, ports.freed);
            return None;
        };
        self.next = self.next.wrapping_add(step.max(self.perturb()) + 1);
        self.uses.insert(port, Use::Open);
        if replaced.is_none() {
            change(&mut ports.taken, (address, port), 1);
        }
        Some((port, replaced))
    }

    /// A port that was in use when the trace began.
    pub(super) fn take(&mut self, port: u16) {
        self.uses.insert(port, Use::Open);
    }

    /// A port that bind(2) chose.
    pub(super) fn bind(&mut self, port: u16) {
        self.uses.insert(port, Use::Open);
        self.bound += 1;
    }

    /// Its connection has become a TIME_WAIT socket.
    pub(super) fn wait(&mut self, port: u16, ends_ns: u64, reusable_ns: u64, is_shown: bool) {
        self.uses.insert(port, Use::TimeWait { ends_ns, reusable_ns, is_shown });
        self.full_until_ns = self.full_until_ns.min(reusable_ns);
    }

    /// One of those is free again.
    pub(super) fn unbind(&mut self) {
        self.bound = self.bound.saturating_sub(1);
    }

    /// The TIME_WAIT socket of a port ends at that time. Whether it was shown; `None` when it had been taken over.
    pub(super) fn expire(&mut self, port: u16, ends_ns: u64) -> Option<bool> {
        match self.uses.get(&port) {
            Some(Use::TimeWait { ends_ns: at, is_shown, .. }) if *at == ends_ns => {
                let is_shown = *is_shown;
                self.free(port);
                Some(is_shown)
            }
            _ => None,
        }
    }

    /// A port is free again.
    pub(super) fn free(&mut self, port: u16) {
        self.uses.remove(&port);
        self.full_until_ns = 0;
    }

    /// A number below [`PERTURB`] (xorshift: the same for each run).
    fn perturb(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 32) % PERTURB
    }
}
