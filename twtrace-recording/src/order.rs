//! Position of the rows of all tables in the order of events.

use anyhow::{Context as _, bail};
use arrow_array::cast::AsArray as _;
use arrow_array::types::UInt64Type;
use arrow_array::{Array as _, BooleanArray, RecordBatch, UInt64Array};

/// Position of a row: the number of its event. Among rows with the same number, those that a segment repeats come
/// first, because the event with that number may end what they begin.
pub(super) type Order = (u64, bool);

/// Positions of the rows of a batch.
pub(super) struct Orders {
    seqs: UInt64Array,
    restated: Option<BooleanArray>,
}

impl Orders {
    /// Of a batch of any table.
    pub(super) fn of(batch: &RecordBatch) -> anyhow::Result<Self> {
        let seqs = batch.column_by_name("seq").context("has no column seq")?;
        let seqs = seqs.as_primitive_opt::<UInt64Type>().context("has a column seq of another type")?.clone();
        if seqs.null_count() > 0 {
            bail!("has rows without a number");
        }
        // Tables that are never repeated have no such column.
        let restated = batch.column_by_name("restated").and_then(|column| column.as_boolean_opt()).cloned();
        Ok(Self { seqs, restated })
    }

    /// Numbers of the rows' events.
    pub(super) fn seqs(&self) -> &[u64] {
        self.seqs.values()
    }

    /// Position of a row; `None` when there are fewer.
    pub(super) fn get(&self, row: usize) -> Option<Order> {
        let seq = *self.seqs().get(row)?;
        let is_restated = self.restated.as_ref().is_some_and(|restated| restated.is_valid(row) && restated.value(row));
        Some((seq, !is_restated))
    }
}

/// Whether a row repeats what an earlier segment reported.
pub(super) fn is_restated((_, is_new): Order) -> bool {
    !is_new
}
