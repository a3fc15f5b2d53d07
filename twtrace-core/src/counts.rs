//! The figures of a row, in one table: [`Counts`], how two rows merge, and [`FIELDS`], from which JSON, CSV and the
//! documentation of the columns come. A new figure needs a line here and a place that counts it.

use crate::sketch::Sketch;
use std::collections::BTreeMap;

/// Failed calls by errno.
pub type Errors = BTreeMap<u16, u64>;

/// A figure that every row has.
#[derive(Debug)]
pub struct Field {
    /// Its name in JSON and CSV, and for `--sort`.
    pub name: &'static str,
    /// A short name that `--sort` accepts as well.
    pub short: &'static str,
    /// Heading of its column.
    pub heading: &'static str,
    /// Width of its column in live tables, in cells; 0 when it is not shown there.
    pub width: u16,
    /// When there is no room, the columns with the highest rank are dropped first.
    pub rank: u8,
    /// It counts events, so it grows with the length of a trace. False for live counts, peaks, rates and durations.
    pub is_total: bool,
    /// Its meaning, with its unit.
    pub doc: &'static str,
    /// Its value.
    pub get: fn(&Counts) -> Figure<'_>,
    /// Adds another row's to the first one's.
    pub merge: fn(&mut Counts, &Counts),
}

impl Field {
    /// The field of a full or a short name.
    pub fn of(name: &str) -> Option<&'static Self> {
        FIELDS.iter().find(|field| field.name == name || field.short == name)
    }
}

/// The value of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Figure<'a> {
    /// A count.
    Count(u64),
    /// A count of what is alive now: exact as of the last census, inferred since.
    Live(u64),
    /// A rate per second.
    Rate(f64),
    /// Durations, in microseconds.
    Times(&'a Sketch),
    /// Failed calls by errno.
    Errors(&'a Errors),
}

impl Figure<'_> {
    /// The number by which rows are sorted; for durations, the median.
    pub fn size(&self) -> f64 {
        match self {
            Self::Count(number) | Self::Live(number) => *number as f64,
            Self::Rate(per_s) => *per_s,
            Self::Times(times) => times.quantile(0.5).unwrap_or(0) as f64,
            Self::Errors(errors) => errors.values().fold(0_u64, |sum, count| sum.saturating_add(*count)) as f64,
        }
    }
}

/// How the figures of two rows merge.
mod merge {
    use super::Errors;
    use crate::sketch::Sketch;

    pub(super) fn sum(own: &mut u64, other: &u64) {
        *own = own.saturating_add(*other);
    }

    /// It is unknown whether both were at the same time: a lower bound.
    pub(super) fn at_least(own: &mut u64, other: &u64) {
        *own = (*own).max(*other);
    }

    /// All rates are over the same period.
    pub(super) fn rates(own: &mut f64, other: &f64) {
        *own += other;
    }

    pub(super) fn times(own: &mut Sketch, other: &Sketch) {
        own.merge(other);
    }

    pub(super) fn errors(own: &mut Errors, other: &Errors) {
        for (errno, count) in other {
            sum(own.entry(*errno).or_default(), count);
        }
    }
}

macro_rules! figure {
    (Count, $value:expr) => {
        Figure::Count($value)
    };
    (Live, $value:expr) => {
        Figure::Live($value)
    };
    (Rate, $value:expr) => {
        Figure::Rate($value)
    };
    (Times, $value:expr) => {
        Figure::Times(&$value)
    };
    (Errors, $value:expr) => {
        Figure::Errors(&$value)
    };
}

macro_rules! is_total {
    (Count, sum) => {
        true
    };
    (Errors, errors) => {
        true
    };
    ($figure:ident, $merge:ident) => {
        false
    };
}

macro_rules! counts {
    ($(
        $(#[doc = $doc:literal])+
        $name:ident $(as $shown:literal)? ($short:literal, $heading:literal $(, $width:literal, $rank:literal)?):
            $type:ty = $figure:ident, $merge:ident;
    )*) => {
        /// What was counted for a row.
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        pub struct Counts {
            $($(#[doc = $doc])+ pub $name: $type,)*
        }

        /// The figures of a row by their names in [`Counts`], for code that needs one of them.
        #[allow(non_upper_case_globals, reason = "they are called what the fields are called")]
        pub mod field {
            use super::{Field, Figure, merge};

            $(
                $(#[doc = $doc])+
                pub const $name: Field = Field {
                    // The name that is shown, if it differs.
                    name: [$($shown,)? stringify!($name)][0],
                    short: $short,
                    heading: $heading,
                    width: [$($width,)? 0][0],
                    rank: [$($rank,)? u8::MAX][0],
                    is_total: is_total!($figure, $merge),
                    doc: concat!($($doc),+),
                    get: |counts| figure!($figure, counts.$name),
                    merge: |own, other| merge::$merge(&mut own.$name, &other.$name),
                };
            )*
        }

        /// The figures of a row, in output order.
        pub const FIELDS: &[Field] = &[$(field::$name),*];

        impl Counts {
            /// Adds another's figures.
            pub(crate) fn absorb(&mut self, other: &Self) {
                $(merge::$merge(&mut self.$name, &other.$name);)*
                self.time_wait_live_peak = self.time_wait_live_peak.max(self.time_wait_live);
            }
        }
    };
}

// Name, short name and heading; where live tables have a column for it, its width in cells and its rank; type, kind and
// how two rows merge.
counts! {
    /// TIME_WAIT sockets created, of both substates.
    time_wait_created("created", "CREATED", 9, 0): u64 = Count, sum;
    /// TIME_WAIT sockets alive now, both substates. Follows the census; between two of them, expiry is inferred.
    time_wait_live("live", "LIVE", 8, 1): u64 = Live, sum;
    /// TIME_WAIT sockets created per second over the last few seconds.
    created_per_s("rate", "CREATED/S", 10, 2): f64 = Rate, rates;
    /// Connections opened by connect (ended ones whose opener is this row). Those that failed are among the errors; those
    /// that were given up before an answer count nowhere.
    opened("opened", "OPENED", 9, 7): u64 = Count, sum;
    /// Connections accepted (ended ones).
    accepted("accepted", "ACCEPTED", 9, 8): u64 = Count, sum;
    /// Connections that ended by a reset, sent or received, or by an abort.
    reset("reset", "RESET", 7, 9): u64 = Count, sum;
    /// Calls of connect and bind that failed, EADDRNOTAVAIL from port exhaustion included. JSON has them by errno.
    errors("errors", "ERRORS", 7, 6): Errors = Errors, errors;
    /// Ended connections in which this row sent its FIN before the peer's (FIN_WAIT1 reached).
    closed_first("first", "1ST FIN", 9, 11): u64 = Count, sum;
    /// Ended connections in which this row sent its FIN after the peer's (LAST_ACK reached).
    closed_last("last", "2ND FIN", 9, 12): u64 = Count, sum;
    /// Lifetimes of established connections, first to last transition; quantiles within 6%.
    lifetimes as "lifetime_ms" ("life", "LIFE", 7, 10): Sketch = Times, times;
    /// TIME_WAIT sockets alive now whose substate was FIN_WAIT2 when last looked at.
    fin_wait2_live("fin_wait2", "FIN_WAIT2"): u64 = Live, sum;
    /// TIME_WAIT sockets whose timer ran out. Exact in the exact tier, else inferred from timers and censuses.
    time_wait_expired("expired", "EXPIRED"): u64 = Count, sum;
    /// TIME_WAIT sockets that a connect took over (`tcp_tw_reuse`; exact tier).
    time_wait_reused("reused", "REUSED"): u64 = Count, sum;
    /// TIME_WAIT sockets that ended before their timer. Exact tier: by a reset, by data, by a new SYN or with their
    /// namespace. Other tiers: a census no longer had them, and the cause is not known; a connect that took them over
    /// counts here too.
    time_wait_ended_early("early", "ENDED EARLY"): u64 = Count, sum;
    /// TIME_WAIT sockets that were due and not created: the bucket limit is reached, or no memory.
    time_wait_overflow("overflow", "OVERFLOW"): u64 = Count, sum;
    /// Most TIME_WAIT sockets alive at one time. Of several processes together inferred from what they created over
    /// time (recordings), else a lower bound.
    time_wait_live_peak("live_peak", "LIVE PEAK"): u64 = Count, at_least;
    /// Most TIME_WAIT sockets created within one second of the monotonic clock. Of several processes together inferred
    /// from what they created over time (recordings), else a lower bound.
    created_peak_per_s("peak", "PEAK/S"): u64 = Count, at_least;
    /// Payload acknowledged by peers, bytes.
    bytes_sent("sent", "SENT"): u64 = Count, sum;
    /// Payload received, bytes.
    bytes_received("received", "RECEIVED"): u64 = Count, sum;
    /// Segments retransmitted.
    retransmits("retransmits", "RETRANS"): u64 = Count, sum;
    /// Ended connections in which at least one segment was retransmitted.
    retransmitted("retransmitted", "RETRANSMITTED"): u64 = Count, sum;
}

impl Counts {
    /// Resets what was counted, and keeps what is alive.
    pub(crate) fn restart(&mut self) {
        let (time_wait_live, fin_wait2_live) = (self.time_wait_live, self.fin_wait2_live);
        *self = Self { time_wait_live, fin_wait2_live, time_wait_live_peak: time_wait_live, ..Self::default() };
    }

    /// Whether nothing was counted.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self { created_per_s: self.created_per_s, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_figure_has_a_name_of_its_own_and_a_text() {
        for (at, field) in FIELDS.iter().enumerate() {
            let names = |field: &Field| [field.name, field.short];
            let others = FIELDS[at + 1..].iter().flat_map(names);
            assert!(others.into_iter().all(|other| !names(field).contains(&other)), "{}", field.name);
            assert!(field.doc.ends_with(['.', '%']) && field.name.is_ascii(), "{}", field.name);
        }
    }

    #[test]
    fn figures_that_add_up_over_time_are_totals() {
        let totals: Vec<&str> = FIELDS.iter().filter(|field| field.is_total).map(|field| field.name).collect();
        assert!(["time_wait_created", "errors", "bytes_sent"].iter().all(|name| totals.contains(name)));
        let others = ["time_wait_live", "created_per_s", "time_wait_live_peak", "lifetime_ms"];
        assert!(others.iter().all(|name| !totals.contains(name)), "{totals:?}");
    }

    #[test]
    fn two_rows_merge_by_the_rule_of_each_figure() {
        let row = |created, peak, live| Counts {
            time_wait_created: created,
            created_peak_per_s: peak,
            time_wait_live: live,
            time_wait_live_peak: live,
            created_per_s: 1.0,
            errors: [(99, created)].into(),
            ..Counts::default()
        };
        let mut both = row(u64::MAX - 1, 3, 5);
        both.absorb(&row(2, 7, 4));
        assert_eq!((both.time_wait_created, both.created_peak_per_s), (u64::MAX, 7));
        // Everything that is alive now is alive at the same time.
        assert_eq!((both.time_wait_live, both.time_wait_live_peak), (9, 9));
        assert_eq!((both.errors[&99], both.created_per_s), (u64::MAX, 2.0));
    }
}
