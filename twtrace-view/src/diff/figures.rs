//! Figures of both recordings in JSON, by the names of [`FIELDS`]: a new figure appears here automatically.

use crate::json::rows::{CountsJson, Quantiles, rounded};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use twtrace_core::compare::Counted;
use twtrace_core::counts::{FIELDS, Field, Figure};

/// Name of a total per second.
pub(crate) fn per_s(field: &Field) -> String {
    format!("{}_per_s", field.name)
}

/// What was counted, and totals per second of the recording.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct CountedJson<'a> {
    #[serde(flatten)]
    counts: CountsJson<'a>,
    #[serde(flatten)]
    rates: RatesJson<'a>,
}

impl<'a> CountedJson<'a> {
    pub(super) fn of(side: &'a Counted) -> Self {
        Self { counts: CountsJson(&side.counts), rates: RatesJson(side) }
    }
}

/// Totals per second.
pub(crate) struct RatesJson<'a>(&'a Counted);

impl Serialize for RatesJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let totals = FIELDS.iter().filter(|field| field.is_total);
        serializer.collect_map(totals.map(|field| (per_s(field), rounded(self.0.measure(field)))))
    }
}

/// What was counted after less what was counted before: of totals per second, of other figures their values.
pub(crate) struct DifferenceJson<'a> {
    pub(super) before: &'a Counted,
    pub(super) after: &'a Counted,
}

impl Serialize for DifferenceJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(FIELDS.len()))?;
        for field in FIELDS {
            let name = if field.is_total { per_s(field) } else { field.name.to_owned() };
            match [self.before, self.after].map(|side| (field.get)(&side.counts)) {
                [Figure::Times(before), Figure::Times(after)] => {
                    map.serialize_entry(&name, &Quantiles::of(after).minus(&Quantiles::of(before)))?;
                }
                _ => map.serialize_entry(&name, &rounded(self.after.measure(field) - self.before.measure(field)))?,
            }
        }
        map.end()
    }
}
