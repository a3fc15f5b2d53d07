//! Rows as text: CSV and JSON lines.

use anyhow::{Context as _, bail};
use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    ArrowPrimitiveType, Int32Type, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, BinaryArray, BooleanArray, DictionaryArray, PrimitiveArray, RecordBatch, StringArray};
use arrow_schema::{DataType, TimeUnit};
use jiff::Timestamp;
use std::fmt;
use std::io::{self, Write};
use twtrace_core::plain::guarded;

/// One value.
enum Cell<'a> {
    Null,
    Bool(bool),
    Number(u64),
    Time(Timestamp),
    Text(&'a str),
    /// Written in hexadecimal.
    Bytes(&'a [u8]),
}

/// A column of a batch.
enum Column<'a> {
    Bool(&'a BooleanArray),
    Numbers(&'a dyn Array, Box<dyn Fn(usize) -> u64 + 'a>),
    Times(&'a PrimitiveArray<TimestampMicrosecondType>),
    Text(&'a StringArray),
    Bytes(&'a BinaryArray),
    Words(&'a DictionaryArray<Int32Type>, &'a StringArray),
}

impl<'a> Column<'a> {
    fn of(array: &'a dyn Array) -> anyhow::Result<Self> {
        fn numbers<T: ArrowPrimitiveType<Native: Into<u64>>>(array: &dyn Array) -> Column<'_> {
            let values = array.as_primitive::<T>();
            Column::Numbers(array, Box::new(|row| values.value(row).into()))
        }
        Ok(match array.data_type() {
            DataType::Boolean => Self::Bool(array.as_boolean()),
            DataType::UInt8 => numbers::<UInt8Type>(array),
            DataType::UInt16 => numbers::<UInt16Type>(array),
            DataType::UInt32 => numbers::<UInt32Type>(array),
            DataType::UInt64 => numbers::<UInt64Type>(array),
            DataType::Timestamp(TimeUnit::Microsecond, _) => Self::Times(array.as_primitive()),
            DataType::Utf8 => Self::Text(array.as_string()),
            DataType::Binary => Self::Bytes(array.as_binary()),
            DataType::Dictionary(..) => {
                let words = array.as_dictionary_opt::<Int32Type>().context("a dictionary has another kind of keys")?;
                Self::Words(words, words.values().as_string_opt().context("a dictionary is not of text")?)
            }
            other => bail!("there is no text form of {other}"),
        })
    }

    fn cell(&self, row: usize) -> anyhow::Result<Cell<'a>> {
        let is_null = match self {
            Self::Bool(values) => values.is_null(row),
            Self::Numbers(values, _) => values.is_null(row),
            Self::Times(values) => values.is_null(row),
            Self::Text(values) => values.is_null(row),
            Self::Bytes(values) => values.is_null(row),
            Self::Words(words, values) => words.key(row).is_none_or(|key| values.is_null(key)),
        };
        if is_null {
            return Ok(Cell::Null);
        }
        Ok(match self {
            Self::Bool(values) => Cell::Bool(values.value(row)),
            Self::Numbers(_, value) => Cell::Number(value(row)),
            Self::Times(values) => {
                Cell::Time(Timestamp::from_microsecond(values.value(row)).context("a time is out of range")?)
            }
            Self::Text(values) => Cell::Text(values.value(row)),
            Self::Bytes(values) => Cell::Bytes(values.value(row)),
            Self::Words(words, values) => Cell::Text(values.value(words.key(row).unwrap_or_default())),
        })
    }
}

fn columns(batch: &RecordBatch) -> anyhow::Result<Vec<Column<'_>>> {
    batch.columns().iter().map(|array| Column::of(array)).collect()
}

/// RFC 3339 in UTC, always with microseconds: as text it sorts as it does as a time.
fn time(timestamp: Timestamp) -> jiff::fmt::strtime::Display<'static> {
    timestamp.strftime("%Y-%m-%dT%H:%M:%S.%6fZ")
}

/// Two digits a byte.
fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = fmt::Write::write_fmt(&mut text, format_args!("{byte:02x}"));
        text
    })
}

/// The error of the output itself, by which a closed pipe is recognized.
pub(super) fn of_output(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        kind => io::Error::other(format!("cannot write CSV: {kind:?}")),
    }
}

/// Writes the rows as records of CSV. A missing value is empty, and text is harmless in a terminal and a spreadsheet.
///
/// # Errors
/// The output cannot be written to, or a time is beyond the year 9999.
pub(super) fn csv(batch: &RecordBatch, out: &mut csv::Writer<impl Write>) -> anyhow::Result<()> {
    let columns = columns(batch)?;
    for row in 0..batch.num_rows() {
        for column in &columns {
            match column.cell(row)? {
                Cell::Null => out.write_field(""),
                Cell::Bool(value) => out.write_field(if value { "true" } else { "false" }),
                Cell::Number(value) => out.write_field(value.to_string()),
                Cell::Time(value) => out.write_field(time(value).to_string()),
                Cell::Text(value) => out.write_field(&*guarded(value)),
                Cell::Bytes(value) => out.write_field(hexadecimal(value)),
            }
            .map_err(of_output)?;
        }
        out.write_record(None::<&[u8]>).map_err(of_output)?;
    }
    Ok(())
}

/// Writes each row as a JSON object on a line of its own. Missing values are null: readers that guess the columns from
/// the first lines need all of them there.
///
/// # Errors
/// As [`csv`].
pub(super) fn json_lines(batch: &RecordBatch, out: &mut impl Write) -> anyhow::Result<()> {
    let columns = columns(batch)?;
    let schema = batch.schema();
    let names: Vec<String> =
        schema.fields().iter().map(|field| serde_json::to_string(field.name())).collect::<Result<_, _>>()?;
    let mut line = Vec::new();
    for row in 0..batch.num_rows() {
        line.clear();
        for (before, (name, column)) in
            std::iter::once("{").chain(std::iter::repeat(",")).zip(names.iter().zip(&columns))
        {
            write!(line, "{before}{name}:")?;
            match column.cell(row)? {
                Cell::Null => write!(line, "null")?,
                Cell::Bool(value) => write!(line, "{value}")?,
                Cell::Number(value) => write!(line, "{value}")?,
                Cell::Time(value) => write!(line, "\"{}\"", time(value))?,
                Cell::Text(value) => serde_json::to_writer(&mut line, value)?,
                Cell::Bytes(value) => write!(line, "\"{}\"", hexadecimal(value))?,
            }
        }
        line.extend_from_slice(b"}\n");
        out.write_all(&line)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use arrow_array::ArrayRef;
    use std::sync::Arc;

    fn batch() -> RecordBatch {
        let times =
            PrimitiveArray::<TimestampMicrosecondType>::from(vec![1_700_000_000_000_000, 1_700_000_000_000_001]);
        let columns: [(&str, ArrayRef); 6] = [
            ("seq", Arc::new(PrimitiveArray::<UInt64Type>::from(vec![u64::MAX, 0]))),
            ("time", Arc::new(times.with_timezone("UTC"))),
            ("port", Arc::new(PrimitiveArray::<UInt16Type>::from(vec![None, Some(80)]))),
            ("lost", Arc::new(BooleanArray::from(vec![Some(true), None]))),
            ("raw", Arc::new(BinaryArray::from_opt_vec(vec![None, Some(b"\x0a\xff")]))),
            ("comm", Arc::new(DictionaryArray::<Int32Type>::from_iter([Some("=a,\"b\"\n"), None]))),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    #[test]
    fn rows_are_records_of_csv() {
        let mut out = csv::Writer::from_writer(Vec::new());
        csv(&batch(), &mut out).unwrap();
        let text = String::from_utf8(out.into_inner().unwrap()).unwrap();
        assert_eq!(
            text,
            "18446744073709551615,2023-11-14T22:13:20.000000Z,,true,,\"'=a,\"\"b\"\"\\n\"\n\
             0,2023-11-14T22:13:20.000001Z,80,,0aff,\n"
        );
    }

    /// The reader has gone, as `head` does when it has its lines.
    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_broken_pipe_is_reported_as_one() {
        let mut out = csv::WriterBuilder::new().buffer_capacity(1).from_writer(Gone);
        let errors = [csv(&batch(), &mut out).unwrap_err(), json_lines(&batch(), &mut Gone).unwrap_err()];
        for error in errors {
            let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
            assert_eq!(kind, Some(io::ErrorKind::BrokenPipe), "{error:#}");
        }
    }

    #[test]
    fn rows_are_json_objects() {
        let mut out = Vec::new();
        json_lines(&batch(), &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"seq\":18446744073709551615,\"time\":\"2023-11-14T22:13:20.000000Z\",\"port\":null,\"lost\":true,\"raw\":null,\
             \"comm\":\"=a,\\\"b\\\"\\n\"}\n\
             {\"seq\":0,\"time\":\"2023-11-14T22:13:20.000001Z\",\"port\":80,\"lost\":null,\"raw\":\"0aff\",\"comm\":null}\n"
        );
    }

    #[test]
    fn time_out_of_range_is_an_error() {
        let times: ArrayRef = Arc::new(PrimitiveArray::<TimestampMicrosecondType>::from(vec![i64::MAX]));
        let batch = RecordBatch::try_from_iter([("time", times)]).unwrap();
        let error = json_lines(&batch, &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "a time is out of range");
    }
}
