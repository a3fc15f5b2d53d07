//! Types that every reader of Parquet has: Spark has no unsigned numbers, and some readers show dictionaries as such.

use anyhow::Context as _;
use arrow_array::cast::AsArray as _;
use arrow_array::types::{ArrowPrimitiveType, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use arrow_select::take::take;
use std::sync::Arc;

/// The same columns, with numbers as signed ones of 64 bits and words as text.
pub(super) fn schema(of: &Schema) -> SchemaRef {
    let field = |field: &Arc<Field>| {
        let wide = match field.data_type() {
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => DataType::Int64,
            DataType::Dictionary(_, words) => words.as_ref().clone(),
            other => other.clone(),
        };
        Arc::new(Field::new(field.name(), wide, field.is_nullable()))
    };
    Arc::new(Schema::new(of.fields().iter().map(field).collect::<Vec<_>>()))
}

/// The rows with the columns of [`schema`]. A number beyond 2^63 - 1, which no kernel reaches, becomes that.
pub(super) fn batch(schema: &SchemaRef, batch: &RecordBatch) -> anyhow::Result<RecordBatch> {
    let columns = batch.columns().iter().map(column).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

fn column(array: &ArrayRef) -> anyhow::Result<ArrayRef> {
    Ok(match array.data_type() {
        DataType::UInt8 => number::<UInt8Type>(array),
        DataType::UInt16 => number::<UInt16Type>(array),
        DataType::UInt32 => number::<UInt32Type>(array),
        DataType::UInt64 => number::<UInt64Type>(array),
        DataType::Dictionary(..) => {
            let words = array.as_dictionary_opt::<Int32Type>().context("a dictionary has another kind of keys")?;
            take(words.values(), words.keys(), None)?
        }
        _ => Arc::clone(array),
    })
}

fn number<T: ArrowPrimitiveType<Native: Into<u64>>>(array: &ArrayRef) -> ArrayRef {
    let wide = |value: T::Native| i64::try_from(value.into()).unwrap_or(i64::MAX);
    let numbers: Int64Array = array.as_primitive::<T>().unary::<_, Int64Type>(wide);
    Arc::new(numbers)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use arrow_array::{DictionaryArray, StringArray, UInt8Array, UInt64Array};

    #[test]
    fn numbers_are_signed_and_words_are_text() {
        let columns: [(&str, ArrayRef); 3] = [
            ("cookie", Arc::new(UInt64Array::from(vec![Some(7), None, Some(u64::MAX)]))),
            ("reuse", Arc::new(UInt8Array::from(vec![Some(2), None, Some(0)]))),
            ("kind", Arc::new(DictionaryArray::<Int32Type>::from_iter([Some("a"), None, Some("a")]))),
        ];
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let plain = batch(&schema(&rows.schema()), &rows).unwrap();
        assert_eq!(plain["cookie"].as_ref(), &Int64Array::from(vec![Some(7), None, Some(i64::MAX)]) as &dyn Array);
        assert_eq!(plain["reuse"].as_ref(), &Int64Array::from(vec![Some(2), None, Some(0)]) as &dyn Array);
        assert_eq!(plain["kind"].as_ref(), &StringArray::from(vec![Some("a"), None, Some("a")]) as &dyn Array);
    }
}
