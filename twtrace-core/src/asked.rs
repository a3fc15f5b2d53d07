//! What was asked of a destination's ports in the last minute, by second. That is enough to say what other ports would have
//! done, bursts included, without a pass over each connection: [`crate::what_if`] takes those one by one, and its test
//! compares the two.

use crate::recent::Recent;

/// Number of seconds: as long as a TIME_WAIT socket lasts.
pub const SECONDS: usize = 60;

/// More source addresses than this are no advice.
const ADDRESSES: u32 = 64;

/// Ports that connects took, and those that they did not get, by age in seconds: the present second first.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Asked {
    /// Taken: by what is in TIME_WAIT since.
    #[serde(with = "seconds")]
    pub taken: [u32; SECONDS],
    /// Refused: no port was free.
    #[serde(with = "seconds")]
    pub refused: [u32; SECONDS],
    /// Ports that are in use for good: bound, and those of open connections.
    pub standing: u32,
    /// Ports of the range.
    pub total: u32,
}

impl Asked {
    /// Over how many seconds it was asked, the present one included.
    fn seconds(&self) -> usize {
        let last = (0..SECONDS).rev().find(|age| self.taken[*age] > 0 || self.refused[*age] > 0);
        last.map_or(1, |age| age + 1)
    }

    /// Connects per second that found no port.
    pub fn refused_per_s(&self) -> f64 {
        self.refused.iter().map(|refused| f64::from(*refused)).sum::<f64>() / self.seconds() as f64
    }

    /// Connects per second that would find no port if it went on like this with `total` ports, each of which a connect may
    /// take again after `hold_s` seconds.
    pub fn refused_with(&self, total: u32, hold_s: f64) -> f64 {
        let room = total.saturating_sub(self.standing);
        self.go_on(room, hold_s).0 as f64 / SECONDS as f64
    }

    /// How many times the ports would be enough; `None` for very many.
    pub fn addresses(&self, hold_s: f64) -> Option<u32> {
        let most = self.go_on(u32::MAX, hold_s).1;
        let room = self.total.saturating_sub(self.standing).max(1);
        // The first and the present second are not whole: a tenth more.
        Some((most + most / 10).div_ceil(room.into()).max(1) as u32).filter(|addresses| *addresses <= ADDRESSES)
    }

    /// Repeats what was asked for two minutes. What was refused in the second one, and the most ports in use at a time.
    fn go_on(&self, room: u32, hold_s: f64) -> (u64, u64) {
        let (period, hold) = (self.seconds(), (hold_s.ceil() as usize).max(1));
        let (mut taken, mut in_use) = (Vec::with_capacity(2 * SECONDS), 0_u64);
        let (mut refused, mut most) = (0, 0);
        for second in 0..2 * SECONDS {
            // Those that were taken so long ago are free again.
            in_use -= second.checked_sub(hold).map_or(0, |back| taken[back]);
            let age = period - 1 - second % period;
            let asked = u64::from(self.taken[age]) + u64::from(self.refused[age]);
            let gets = asked.min(u64::from(room).saturating_sub(in_use));
            in_use += gets;
            taken.push(gets);
            most = most.max(in_use);
            if second >= SECONDS {
                refused += asked - gets;
            }
        }
        (refused, most)
    }
}

/// serde has no form for arrays of this length.
mod seconds {
    use super::SECONDS;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(values: &[u32; SECONDS], to: S) -> Result<S::Ok, S::Error> {
        values.as_slice().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u32; SECONDS], D::Error> {
        let values = Vec::deserialize(from)?;
        values.try_into().map_err(|_| D::Error::custom("not a minute"))
    }
}

/// Connects to one destination that found no port, in each of the last seconds.
pub(crate) type Refusals = Recent<SECONDS>;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    /// As many per second, for so many seconds, of which so many got a port.
    fn steady(per_s: u32, seconds: usize, got: u32) -> Asked {
        let mut asked = Asked { taken: [0; SECONDS], refused: [0; SECONDS], standing: 0, total: got };
        let mut left = got;
        for age in (0..seconds).rev() {
            asked.taken[age] = per_s.min(left);
            asked.refused[age] = per_s - asked.taken[age];
            left -= asked.taken[age];
        }
        asked
    }

    #[test]
    fn what_other_ports_would_have_done() {
        // 200/s for five seconds, and 500 ports.
        let asked = steady(200, 5, 500);
        assert!((asked.refused_per_s() - 100.0).abs() < 1e-9);
        // If it goes on: all but 500 in a minute.
        assert!((asked.refused_with(500, 60.0) - (200.0 - 500.0 / 60.0)).abs() < 1e-9);
        assert_eq!(asked.refused_with(500, 1.0), 0.0);
        assert_eq!(asked.refused_with(12_000, 60.0), 0.0);
        assert!(asked.refused_with(11_999, 60.0) > 0.0);
        assert_eq!(asked.addresses(60.0), Some(27));
        assert_eq!(Asked { total: 20, ..asked.clone() }.addresses(60.0), None);
        // Ports that are in use for good are no room.
        assert!(Asked { standing: 1, ..asked }.refused_with(12_000, 60.0) > 0.0);
    }

    #[test]
    fn a_burst_is_no_mean() {
        // 3,000 at once every ten seconds are 300/s, and yet 1,000 ports that come back in a second are too few.
        let mut asked = steady(0, 1, 1000);
        for age in (0..SECONDS).step_by(10) {
            asked.refused[age] = 3000;
        }
        asked.refused[SECONDS - 1] = 1;
        assert!(asked.refused_with(1000, 1.0) > 199.0);
        assert_eq!(asked.refused_with(3001, 1.0), 0.0);
    }

    #[test]
    fn refusals_by_age() {
        let mut refusals = Refusals::default();
        assert_eq!(refusals.by_age(100 * SECOND_NS), [0; SECONDS]);
        for second in [100, 100, 103, 101] {
            refusals.add(second * SECOND_NS);
        }
        let by_age = refusals.by_age(104 * SECOND_NS);
        // The last one came late.
        assert_eq!((by_age[0], by_age[1], by_age[3], by_age[4]), (0, 2, 0, 2));
        refusals.add(170 * SECOND_NS);
        assert_eq!(refusals.by_age(170 * SECOND_NS).iter().sum::<u32>(), 1);
        assert_eq!(refusals.by_age(300 * SECOND_NS), [0; SECONDS]);
    }
}
