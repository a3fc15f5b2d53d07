//! The port budget of a destination: how many ports there are, what uses them, how long they last.
//!
//! A port is in use for one (source address, destination address, destination port), so each destination has the whole
//! range of `net.ipv4.ip_local_port_range` to itself, except for the ports that bind(2) took: those are in use for all
//! destinations (`__inet_hash_connect`).

use crate::event::KernelFacts;
use std::net::IpAddr;

/// How long a TIME_WAIT socket keeps its port on nearly all kernels: `TCP_TIMEWAIT_LEN`, for which upstream has no sysctl.
pub const TIME_WAIT_SECONDS: f64 = 60.0;

/// After how long a connect may take over a TIME_WAIT socket, where the kernel has no `tcp_tw_reuse_delay`: it compares
/// whole seconds (`tcp_twsk_unique`), so after a second at the latest.
pub const REUSE_SECONDS: f64 = 1.0;

/// How late the kernel's one-minute timer may fire, in seconds: the timer wheel's steps are that coarse
/// (`kernel/time/timer.c`, an eighth at most).
pub const LATE_SECONDS: f64 = TIME_WAIT_SECONDS / 8.0;

/// Length of a forecast's profile of expiries, seconds.
pub const PROFILE: usize = 64;

/// The local ports of a network namespace that connect(2) chooses from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usable {
    low: u16,
    high: u16,
    /// Reserved ports inside the range, sorted and without overlap, both bounds inclusive.
    reserved: Vec<(u16, u16)>,
}

impl Usable {
    /// The range, both bounds inclusive, without `reserved` (`net.ipv4.ip_local_reserved_ports`: `8080,9000-9100`;
    /// parts that cannot be parsed are left out). `None` while the range is not known.
    pub fn new((low, high): (u16, u16), reserved: &str) -> Option<Self> {
        if low == 0 || high < low {
            return None;
        }
        let part = |part: &str| {
            let part = part.trim();
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
            let (first, last) = (first.max(low), last.min(high));
            (first <= last).then_some((first, last))
        };
        let mut parts: Vec<(u16, u16)> = reserved.split(',').filter_map(part).collect();
        parts.sort_unstable();
        let mut reserved: Vec<(u16, u16)> = Vec::new();
        for (first, last) in parts {
            match reserved.last_mut() {
                Some(before) if first <= before.1 => before.1 = before.1.max(last),
                _ => reserved.push((first, last)),
            }
        }
        Some(Self { low, high, reserved })
    }

    /// The usable ports of a namespace.
    pub fn of(kernel: &KernelFacts) -> Option<Self> {
        Self::new(kernel.port_range, &kernel.reserved_ports)
    }

    /// Whether connect(2) may choose a port.
    pub fn has(&self, port: u16) -> bool {
        (self.low..=self.high).contains(&port)
            && !self.reserved.iter().any(|(first, last)| (*first..=*last).contains(&port))
    }

    /// The range, both bounds inclusive.
    pub fn range(&self) -> (u16, u16) {
        (self.low, self.high)
    }

    /// How many there are.
    pub fn total(&self) -> u32 {
        u32::from(self.high - self.low) + 1 - self.reserved()
    }

    /// How many of the range are reserved.
    pub fn reserved(&self) -> u32 {
        self.reserved.iter().map(|(first, last)| u32::from(last - first) + 1).sum()
    }
}

/// Whether `tcp_tw_reuse` = 2 applies to a connection (`tcp_twsk_unique`): loopback on either side. The kernel also
/// counts sockets that are bound to a loopback interface; they are not seen here.
pub fn is_loopback(local: IpAddr, remote: IpAddr) -> bool {
    let is = |address: IpAddr| match address {
        IpAddr::V4(address) => address.is_loopback(),
        IpAddr::V6(address) => {
            address.is_loopback() || address.to_ipv4_mapped().is_some_and(|mapped| mapped.is_loopback())
        }
    };
    is(local) || is(remote)
}

/// After how many seconds a connect may take over a TIME_WAIT socket in substate TIME_WAIT; `None` when it may not.
///
/// `peer_timestamps`: whether the socket has a timestamp of its peer. Without, the kernel cannot distinguish old
/// segments from new ones, and never takes the socket over. What counts is the socket: later changes of
/// `net.ipv4.tcp_timestamps` change nothing for it. Where it is not known, the sysctl decides.
pub fn reuse_seconds(kernel: &KernelFacts, loopback: bool, peer_timestamps: Option<bool>) -> Option<f64> {
    let allowed = kernel.tw_reuse == 1 || kernel.tw_reuse == 2 && loopback;
    let delay = kernel.tw_reuse_delay_ms.map_or(REUSE_SECONDS, |ms| f64::from(ms) / 1e3);
    (allowed && peer_timestamps.unwrap_or(kernel.timestamps != Some(0))).then_some(delay)
}

/// How long a connection that this host closed first keeps its port, in seconds.
pub fn hold_seconds(kernel: &KernelFacts, loopback: bool, peer_timestamps: Option<bool>) -> f64 {
    reuse_seconds(kernel, loopback, peer_timestamps).unwrap_or(kernel.time_wait_seconds())
}

/// Ports for one (source address, destination address, destination port) and how long they last.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Budget {
    /// Ports of the range, without reserved ones.
    pub total: u32,
    /// Reserved ports of the range, which `total` does not include.
    pub reserved: u32,
    /// Bound ports, which no connect chooses for any destination, except those with a connection to this destination.
    pub bound: u32,
    /// Connections in ESTABLISHED, by the last census.
    pub established: u32,
    /// Connections in other states, except TIME_WAIT sockets, by the last census.
    pub other: u32,
    /// Of `other`, those in CLOSE_WAIT: the peer has closed, this host's process has not.
    pub close_wait: u32,
    /// Of `other`, those in SYN_SENT: connect(2) waits for an answer.
    pub syn_sent: u32,
    /// TIME_WAIT sockets of both substates.
    pub time_wait: u32,
    /// Of these, those in FIN_WAIT2.
    pub fin_wait2: u32,
    /// Of `time_wait`, those that a connect may take over now (`tcp_tw_reuse`). *Inferred* from their timers.
    pub reusable: u32,
    /// Of `time_wait`, those whose peer sent no timestamps: `tcp_tw_reuse` changes nothing for them.
    pub without_timestamps: u32,
    /// All of these: `bound + established + other + time_wait`.
    pub used: u32,
    /// Ports that connect can choose: `total - used + reusable`.
    pub available: u32,
    /// Share of ports that it cannot choose: `1 - available / total`.
    pub utilization: f64,
    /// How long a connection that was closed here keeps its port, seconds: 60, or the delay of `tcp_tw_reuse`.
    pub hold_seconds: f64,
    /// Ports taken per second recently, by new TIME_WAIT sockets and by growth of open connections.
    pub rate_per_s: f64,
    /// Of these, by growth of open connections: those do not come back.
    pub growth_per_s: f64,
    /// Connections per second that the range sustains indefinitely, with what else uses ports now.
    pub max_rate_per_s: f64,
    /// Seconds until half of the ports are in use at the present rate, 0 if they are; `None` when that never happens. From
    /// then on connect gets slower: it looks at all ports of one parity before it looks at the others
    /// (`__inet_hash_connect`). *Inferred.*
    pub seconds_to_slow: Option<f64>,
    /// Seconds until no port is left at the present rate; `None` when that never happens. *Inferred.*
    pub seconds_to_exhaustion: Option<f64>,
    /// The soonest that can be, within the error of the rate and of the kernel's timers; `None` when it never happens.
    pub soonest_seconds: Option<f64>,
    /// The latest that can be; `None` when it may never happen.
    pub latest_seconds: Option<f64>,
}

/// What a budget is computed from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Use {
    /// See [`Budget`].
    pub bound: u32,
    /// See [`Budget`].
    pub established: u32,
    /// See [`Budget`].
    pub other: u32,
    /// See [`Budget`].
    pub close_wait: u32,
    /// See [`Budget`].
    pub syn_sent: u32,
    /// See [`Budget`].
    pub time_wait: u32,
    /// See [`Budget`].
    pub fin_wait2: u32,
    /// See [`Budget`].
    pub reusable: u32,
    /// See [`Budget`].
    pub without_timestamps: u32,
    /// Ports taken per second by TIME_WAIT sockets, which come back when those end.
    pub rate_per_s: f64,
    /// Its standard error.
    pub rate_error_per_s: f64,
    /// Ports taken per second by connections that stay.
    pub growth_per_s: f64,
    /// Its standard error.
    pub growth_error_per_s: f64,
    /// TIME_WAIT sockets, except reusable ones, whose port comes back within the first second from now, within the
    /// second one, and so on: by their timers, or by the delay of `tcp_tw_reuse`.
    pub back: Vec<u32>,
}

impl Budget {
    /// The budget of a namespace's range for a destination; `hold_seconds` comes from [`hold_seconds`].
    pub fn of(usable: &Usable, used: &Use, hold_seconds: f64) -> Self {
        let total = usable.total();
        let Use { bound, established, other, time_wait, fin_wait2, reusable, rate_per_s, .. } = *used;
        let sum = [bound, established, other, time_wait].into_iter().fold(0, u32::saturating_add);
        let available = total.saturating_sub(sum.saturating_sub(reusable.min(time_wait)));
        let standing = [bound, established, other].into_iter().fold(0, u32::saturating_add);
        let max_rate_per_s = f64::from(total.saturating_sub(standing)) / hold_seconds.max(f64::MIN_POSITIVE);
        // `left`: ports until then; `errors`: how many standard errors above the expected rates; `late`: how late the
        // kernel's timers may fire.
        let outlook = |left: u32, errors: f64, late: f64| {
            let left = Outlook { available: left.into(), back: &used.back, hold_seconds, late_seconds: late };
            let rate = (rate_per_s + errors * used.rate_error_per_s).max(0.0);
            left.seconds_at(rate, (used.growth_per_s + errors * used.growth_error_per_s).max(0.0))
        };
        // A socket that a connect takes over does not wait for its timer.
        let late = if hold_seconds < TIME_WAIT_SECONDS { 0.0 } else { LATE_SECONDS };
        Self {
            total,
            reserved: usable.reserved(),
            bound,
            established,
            other,
            close_wait: used.close_wait,
            syn_sent: used.syn_sent,
            time_wait,
            fin_wait2,
            reusable: reusable.min(time_wait),
            without_timestamps: used.without_timestamps,
            used: sum,
            available,
            utilization: if total == 0 { 1.0 } else { 1.0 - f64::from(available) / f64::from(total) },
            hold_seconds,
            rate_per_s: rate_per_s + used.growth_per_s,
            growth_per_s: used.growth_per_s,
            max_rate_per_s: max_rate_per_s.min(f64::MAX),
            seconds_to_slow: outlook(available.saturating_sub(total / 2), 0.0, 0.0),
            seconds_to_exhaustion: outlook(available, 0.0, 0.0),
            soonest_seconds: outlook(available, 2.0, late),
            latest_seconds: outlook(available, -2.0, 0.0),
        }
    }

    /// Ports that nothing seen so far uses. Where a connect found no port, they are in use after all: most likely by
    /// open connections that are younger than the last census.
    pub fn not_seen(&self) -> u32 {
        self.total.saturating_sub(self.used)
    }

    /// Where a connect found no port, although connections to other destinations use them, `elsewhere` in number: it could
    /// have shared those, unless bind(2) took them. If they are nearly all that was not seen, they count as bound.
    #[must_use]
    pub fn when_exhausted(self, elsewhere: u32) -> Self {
        let not_seen = self.not_seen();
        if 2 * not_seen < self.total || 10 * u64::from(elsewhere) < 9 * u64::from(not_seen) {
            return self;
        }
        let bound = elsewhere.min(not_seen);
        let available = self.available.saturating_sub(bound);
        let utilization = if self.total == 0 { 1.0 } else { 1.0 - f64::from(available) / f64::from(self.total) };
        Self { bound: self.bound + bound, used: self.used + bound, available, utilization, ..self }
    }

    /// Whether `tcp_tw_reuse` is useless here: most TIME_WAIT sockets have peers that sent no timestamps.
    pub fn lacks_timestamps(&self) -> bool {
        2 * self.without_timestamps > self.time_wait
    }

    /// Whether TIME_WAIT sockets are the cause where no port is left: true when they have at least half of all ports,
    /// false when they have hardly any. `None` in between, and where the counts leave ports free that the kernel did
    /// not find.
    pub fn is_time_wait(&self) -> Option<bool> {
        let whole = 10 * u64::from(self.available) <= u64::from(self.total);
        let time_wait = u64::from(self.time_wait);
        match u64::from(self.total) {
            total if 2 * time_wait >= total && total > 0 => Some(true),
            total if whole && 5 * time_wait < total => Some(false),
            _ => None,
        }
    }
}

/// Ports that are free, and those that come back.
struct Outlook<'a> {
    available: f64,
    back: &'a [u32],
    hold_seconds: f64,
    late_seconds: f64,
}

impl Outlook<'_> {
    /// Seconds until no port is left, when `rate_per_s` are taken and come back, and `growth_per_s` are taken for good.
    fn seconds_at(&self, rate_per_s: f64, growth_per_s: f64) -> Option<f64> {
        let taken_per_s = rate_per_s + growth_per_s;
        if self.available <= 0.0 {
            return Some(0.0);
        }
        if taken_per_s.is_nan() || taken_per_s <= 0.0 {
            return None;
        }
        let end = self.hold_seconds + self.late_seconds;
        let mut left = self.available;
        let mut at = 0.0;
        let mut next = 0;
        // Steps from one return of ports to the next. From `end` on, ports taken at `rate_per_s` come back as fast.
        loop {
            let until = (next as f64 + 1.0 + self.late_seconds).min(end);
            let lasts = left / taken_per_s;
            if at + lasts <= until {
                return Some(at + lasts);
            }
            left -= taken_per_s * (until - at);
            at = until;
            if at >= end {
                return (growth_per_s > 0.0).then(|| at + left / growth_per_s);
            }
            left += f64::from(self.back.get(next).copied().unwrap_or(0));
            next += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use proptest::prelude::*;

    fn usable(low: u16, high: u16, reserved: &str) -> Usable {
        Usable::new((low, high), reserved).unwrap()
    }

    fn default_range() -> Usable {
        usable(32_768, 60_999, "")
    }

    #[test]
    fn the_default_range_sustains_470_a_second() {
        let used = Use { time_wait: 14_116, rate_per_s: 100.0, ..Use::default() };
        let budget = Budget::of(&default_range(), &used, TIME_WAIT_SECONDS);
        assert_eq!((budget.total, budget.used, budget.available), (28_232, 14_116, 14_116));
        assert_eq!(budget.max_rate_per_s.floor(), 470.0);
        assert_eq!(budget.utilization, 0.5);
        assert_eq!(budget.seconds_to_exhaustion, None);
        let fast = Use { time_wait: 14_116, rate_per_s: 14_116.0, ..Use::default() };
        let budget = Budget::of(&default_range(), &fast, TIME_WAIT_SECONDS);
        assert_eq!(budget.seconds_to_exhaustion, Some(1.0));
    }

    #[test]
    fn what_comes_back_in_time_is_counted() {
        // 1,000 ports, all but 100 taken; 50 a second are taken, and 50 a second come back from the third second on.
        let mut back = vec![0, 0];
        back.extend([50; 58]);
        let used = Use { time_wait: 900, rate_per_s: 50.0, back, ..Use::default() };
        let budget = Budget::of(&usable(1, 1000, ""), &used, TIME_WAIT_SECONDS);
        assert_eq!(budget.seconds_to_exhaustion, Some(2.0), "the ports of the third second come back at its end");
        let slower = Use { rate_per_s: 16.0, ..used };
        assert_eq!(Budget::of(&usable(1, 1000, ""), &slower, TIME_WAIT_SECONDS).seconds_to_exhaustion, None);
    }

    #[test]
    fn a_rate_that_the_range_sustains_is_no_danger() {
        let used = |rate_per_s| Use { rate_per_s, ..Use::default() };
        let at = |rate| Budget::of(&usable(1, 600, ""), &used(rate), TIME_WAIT_SECONDS).seconds_to_exhaustion;
        assert_eq!(at(9.9), None);
        assert_eq!(at(10.1).map(f64::floor), Some(59.0));
        // With tcp_tw_reuse the same range sustains sixty times as much.
        let at = |rate| Budget::of(&usable(1, 600, ""), &used(rate), 1.0).seconds_to_exhaustion;
        assert_eq!(at(599.0), None);
        assert!(at(601.0).is_some());
    }

    #[test]
    fn connect_is_slow_from_half_of_the_ports_on() {
        let of = |time_wait, rate_per_s| {
            let used = Use { time_wait, rate_per_s, ..Use::default() };
            let budget = Budget::of(&usable(1, 1000, ""), &used, TIME_WAIT_SECONDS);
            (budget.seconds_to_slow, budget.seconds_to_exhaustion)
        };
        assert_eq!(of(100, 20.0), (Some(20.0), Some(45.0)));
        assert_eq!(of(500, 20.0), (Some(0.0), Some(25.0)));
        assert_eq!(of(0, 10.0), (Some(50.0), None), "600 ports at a time are more than half of them");
        assert_eq!(of(0, 5.0), (None, None));
    }

    #[test]
    fn connections_that_stay_do_not_come_back() {
        // Of a thousand ports, nine a second are lost for good.
        let used = Use { growth_per_s: 9.0, growth_error_per_s: 1.0, ..Use::default() };
        let budget = Budget::of(&usable(1, 1000, ""), &used, TIME_WAIT_SECONDS);
        assert_eq!(budget.seconds_to_exhaustion.map(f64::round), Some(111.0));
        assert_eq!(budget.latest_seconds.map(f64::round), Some(143.0));
        assert_eq!((budget.rate_per_s, budget.growth_per_s), (9.0, 9.0));
        // Ten more a second are taken and come back: in the end those use 600.
        let both = Use { rate_per_s: 10.0, growth_per_s: 1.0, ..Use::default() };
        let budget = Budget::of(&usable(1, 1000, ""), &both, TIME_WAIT_SECONDS);
        assert_eq!(budget.seconds_to_exhaustion.map(f64::round), Some(400.0));
    }

    #[test]
    fn what_is_in_the_way() {
        let of = |time_wait, established| {
            let used = Use { time_wait, established, ..Use::default() };
            Budget::of(&usable(1, 1000, ""), &used, TIME_WAIT_SECONDS).is_time_wait()
        };
        assert_eq!(of(1000, 0), Some(true));
        assert_eq!(of(500, 500), Some(true));
        assert_eq!(of(300, 700), None, "both");
        assert_eq!(of(100, 900), Some(false));
        assert_eq!(of(100, 200), None, "ports are free, so the cause was something else");
    }

    #[test]
    fn the_band_contains_the_forecast() {
        let used = Use { time_wait: 100, rate_per_s: 30.0, rate_error_per_s: 3.0, ..Use::default() };
        let budget = Budget::of(&usable(1, 1000, ""), &used, TIME_WAIT_SECONDS);
        assert_eq!(budget.seconds_to_exhaustion, Some(30.0));
        assert_eq!((budget.soonest_seconds, budget.latest_seconds), (Some(25.0), Some(37.5)));
        let uncertain = Use { rate_error_per_s: 9.0, ..used };
        let budget = Budget::of(&usable(1, 1000, ""), &uncertain, TIME_WAIT_SECONDS);
        assert_eq!(budget.latest_seconds, None);
    }

    #[test]
    fn reserved_ports_are_taken_off_once() {
        let range = usable(100, 199, "90-104,103-109,150,500,rubbish,180-170");
        assert_eq!((range.total(), range.reserved()), (89, 11));
        assert!(!range.has(104) && !range.has(150) && !range.has(99) && !range.has(200));
        assert!(range.has(110) && range.has(175) && range.has(199));
        assert_eq!(Usable::new((0, 0), ""), None);
        assert_eq!(Usable::new((9, 8), ""), None);
    }

    #[test]
    fn reuse_follows_the_sysctls() {
        let kernel = |tw_reuse, timestamps, delay| KernelFacts {
            tw_reuse,
            timestamps,
            tw_reuse_delay_ms: delay,
            ..KernelFacts::default()
        };
        assert_eq!(hold_seconds(&kernel(0, None, None), true, None), 60.0);
        let other = KernelFacts { time_wait_s: Some(5), ..kernel(0, None, None) };
        assert_eq!(hold_seconds(&other, true, None), 5.0, "a kernel with another length");
        assert_eq!(hold_seconds(&kernel(2, Some(1), None), false, None), 60.0);
        assert_eq!(hold_seconds(&kernel(2, Some(1), None), true, None), 1.0);
        assert_eq!(hold_seconds(&kernel(1, Some(1), Some(250)), false, None), 0.25);
        assert_eq!(hold_seconds(&kernel(1, Some(0), None), true, None), 60.0, "without timestamps nothing is reused");
        assert_eq!(hold_seconds(&kernel(1, Some(0), None), true, Some(true)), 1.0, "the socket has one");
        assert_eq!(hold_seconds(&kernel(1, Some(1), None), true, Some(false)), 60.0, "the socket has none");
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(is_loopback(address("127.0.0.2"), address("10.0.0.1")));
        assert!(is_loopback(address("::1"), address("::1")));
        assert!(is_loopback(address("::ffff:127.0.0.1"), address("::2")));
        assert!(!is_loopback(address("10.0.0.1"), address("10.0.0.2")));
    }

    proptest! {
        #[test]
        fn never_negative_and_never_nan(
            low in 1_u16..,
            high: u16,
            numbers: [u32; 6],
            [rate, error, growth, growth_error] in prop::array::uniform4(0.0..1e9_f64),
            back in prop::collection::vec(any::<u32>(), 0..70),
            keeps_s in 0.0..100.0_f64,
        ) {
            let [bound, established, other, time_wait, fin_wait2, reusable] = numbers;
            let used = Use {
                bound, established, other, time_wait, fin_wait2, reusable, without_timestamps: fin_wait2, back, close_wait: 0, syn_sent: 0,
                rate_per_s: rate, rate_error_per_s: error,
                growth_per_s: growth, growth_error_per_s: growth_error,
            };
            if let Some(usable) = Usable::new((low, high), "") {
                let budget = Budget::of(&usable, &used, keeps_s);
                prop_assert!((0.0..=1.0).contains(&budget.utilization) && budget.max_rate_per_s >= 0.0);
                prop_assert!(budget.available <= budget.total);
                let [soonest, seconds, latest] =
                    [budget.soonest_seconds, budget.seconds_to_exhaustion, budget.latest_seconds]
                        .map(|seconds| seconds.unwrap_or(f64::INFINITY));
                let about = |seconds: f64| seconds * (1.0 + 1e-9) + 1e-6;
                prop_assert!(soonest >= 0.0 && soonest <= about(seconds) && seconds <= about(latest));
            }
        }
    }
}
