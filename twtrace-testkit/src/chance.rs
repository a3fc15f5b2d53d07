//! Pseudo-random numbers that are the same on every run. There are three generators, because results that were measured
//! or are shown with one of them must not change.

/// A fraction from 0 up to 1, from the upper 53 bits.
fn share(number: u64) -> f64 {
    (number >> 11) as f64 / (1_u64 << 53) as f64
}

/// For benchmarks (xorshift64*).
#[derive(Debug)]
pub struct Chance(u64);

impl Default for Chance {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl Chance {
    /// Any number.
    #[expect(clippy::should_implement_trait, reason = "there is no end")]
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number from 0 to `limit` - 1.
    pub fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit.max(1)
    }

    /// An exponentially distributed number with this mean, like the time between independent events.
    pub fn exponential(&mut self, mean: f64) -> u64 {
        (-(1.0 - share(self.next())).ln() * mean) as u64
    }
}

/// For [`crate::churn`], and for changes to a recording of it (xorshift).
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Different numbers for each odd seed.
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// Any number.
    #[expect(clippy::should_implement_trait, reason = "there is no end")]
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number from 0 to `limit` - 1.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Nanoseconds in whole microseconds, exponential with this mean.
    pub fn exponential_ns(&mut self, mean_us: f64) -> u64 {
        (-mean_us * (1.0 - share(self.next())).ln()) as u64 * 1000
    }
}

/// For [`crate::shop`]: fractions (a linear congruential generator).
#[derive(Debug)]
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    /// From 0 up to 1.
    pub(crate) fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / (1_u64 << 31) as f64
    }
}
