//! The unchanged rows of one table, for tools other than the engine.

use super::guard::guarded;
use super::reader::Recording;
use super::sealed::Columns;
use super::stream::{Planned, Segment};
use super::tables::Table;
use super::{Loss, loss};
use anyhow::bail;
use arrow_array::{RecordBatch, new_null_array};
use arrow_schema::SchemaRef;
use std::sync::Arc;

/// Rows of one table of one segment, in batches that have all columns of this version.
pub(crate) struct Rows {
    segment: Segment,
    table: Table,
}

impl Recording {
    /// Its segments in the order of time.
    pub(crate) fn segments(&self) -> &[Planned] {
        &self.plan
    }

    /// The rows of a table in a segment.
    ///
    /// # Errors
    /// The segment cannot be opened.
    pub(crate) fn rows(&self, segment: Planned, table: Table) -> Result<Rows, Loss> {
        Ok(Rows { segment: Segment::open(&self.place, &self.info.id, segment, Columns::All, self.options)?, table })
    }
}

impl Rows {
    /// Number of the first Event of the segment, and of the first that is not in it.
    pub(crate) fn seqs(&self) -> (u64, u64) {
        (self.segment.first_seq, self.segment.end_seq)
    }

    /// The next batch; `None` at the end.
    ///
    /// # Errors
    /// The rest cannot be read.
    pub(crate) fn next(&mut self) -> Result<Option<RecordBatch>, Loss> {
        let Self { segment, table } = self;
        let lost = |segment: &Segment, error| loss(table.file(segment.number, segment.form), &error);
        let batch = segment.columns[*table as usize].next(segment.end_seq);
        let batch = batch.and_then(|batch| batch.map(|batch| guarded(|| conform(table.schema(), &batch))).transpose());
        batch.map_err(|error| lost(segment, error))
    }
}

/// The batch with these columns, those that this version has, in their order: earlier versions may have had fewer, later ones
/// may have more.
pub(crate) fn conform(schema: &SchemaRef, batch: &RecordBatch) -> anyhow::Result<RecordBatch> {
    let column = |field: &arrow_schema::FieldRef| match batch.column_by_name(field.name()) {
        Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
        None if field.is_nullable() => Ok(new_null_array(field.data_type(), batch.num_rows())),
        Some(_) => bail!("has a column {} of another type", field.name()),
        None => bail!("has no column {}", field.name()),
    };
    let columns = schema.fields().iter().map(column).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
