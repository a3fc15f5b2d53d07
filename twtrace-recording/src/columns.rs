//! Columns: converts values to Arrow arrays, and back.

use anyhow::{Context as _, bail};
use arrow_array::builder::{BinaryBuilder, BooleanBuilder, PrimitiveBuilder, StringBuilder};
use arrow_array::types::{ArrowPrimitiveType, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, BinaryArray, BooleanArray, PrimitiveArray, StringArray};
use arrow_schema::{DataType, TimeUnit};
use std::sync::Arc;

/// A column of one kind: a builder that can be turned into an array, and the reader of such an array.
pub(super) trait Column: Default {
    /// Its reader.
    type Reader;
    /// Whether it may be null, and so may be missing from a file of a version that did not have it.
    const NULLABLE: bool;
    /// Whether it is read back.
    const IS_READ: bool = true;
    /// Arrow type.
    fn data_type() -> DataType;
    /// Takes what was appended.
    fn finish(&mut self) -> anyhow::Result<ArrayRef>;
    /// The reader of an array. `None` when the file has no such column.
    fn reader(array: Option<&ArrayRef>) -> anyhow::Result<Self::Reader>;
}

/// The columns of a table that is being written.
pub(super) trait Columns {
    /// Rows so far.
    fn rows(&self) -> usize;
    /// Takes the rows.
    fn finish(&mut self) -> anyhow::Result<Vec<ArrayRef>>;
}

/// The array as its type, if it exists.
pub(super) fn typed<T: Clone + 'static>(array: Option<&ArrayRef>) -> anyhow::Result<Option<T>> {
    array.map(|array| array.as_any().downcast_ref::<T>().cloned().context("is of another type")).transpose()
}

/// The array as its type, which must exist and have no nulls.
fn required<T: Array + Clone + 'static>(array: Option<&ArrayRef>) -> anyhow::Result<T> {
    let array: T = typed(array)?.context("is missing")?;
    if array.null_count() > 0 {
        bail!("has values missing");
    }
    Ok(array)
}

/// Numbers, one in each row.
pub(super) struct Num<T: ArrowPrimitiveType>(Vec<T::Native>);

impl<T: ArrowPrimitiveType> Num<T> {
    pub(super) fn push(&mut self, value: T::Native) {
        self.0.push(value);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl<T: ArrowPrimitiveType> Default for Num<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: ArrowPrimitiveType> Column for Num<T> {
    type Reader = PrimitiveArray<T>;
    const NULLABLE: bool = false;

    fn data_type() -> DataType {
        T::DATA_TYPE
    }

    fn finish(&mut self) -> anyhow::Result<ArrayRef> {
        Ok(Arc::new(PrimitiveArray::<T>::new(std::mem::take(&mut self.0).into(), None)))
    }

    fn reader(array: Option<&ArrayRef>) -> anyhow::Result<Self::Reader> {
        required(array)
    }
}

/// Microseconds since the Unix epoch, one in each row.
#[derive(Default)]
pub(super) struct Time(Vec<i64>);

impl Time {
    pub(super) fn push(&mut self, unix_us: i64) {
        self.0.push(unix_us);
    }
}

impl Column for Time {
    type Reader = PrimitiveArray<TimestampMicrosecondType>;
    const NULLABLE: bool = false;

    fn data_type() -> DataType {
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
    }

    fn finish(&mut self) -> anyhow::Result<ArrayRef> {
        let times = std::mem::take(&mut self.0);
        Ok(Arc::new(Self::Reader::new(times.into(), None).with_timezone("UTC")))
    }

    fn reader(array: Option<&ArrayRef>) -> anyhow::Result<Self::Reader> {
        required(array)
    }
}

/// Numbers, some of them missing.
pub(super) struct Opt<T: ArrowPrimitiveType>(PrimitiveBuilder<T>);

impl<T: ArrowPrimitiveType> Opt<T> {
    pub(super) fn push(&mut self, value: Option<T::Native>) {
        self.0.append_option(value);
    }
}

impl<T: ArrowPrimitiveType> Default for Opt<T> {
    fn default() -> Self {
        Self(PrimitiveBuilder::new())
    }
}

impl<T: ArrowPrimitiveType> Column for Opt<T> {
    type Reader = OptReader<PrimitiveArray<T>>;
    const NULLABLE: bool = true;

    fn data_type() -> DataType {
        T::DATA_TYPE
    }

    fn finish(&mut self) -> anyhow::Result<ArrayRef> {
        Ok(Arc::new(self.0.finish()))
    }

    fn reader(array: Option<&ArrayRef>) -> anyhow::Result<Self::Reader> {
        typed(array).map(OptReader)
    }
}

/// An array that may be missing as a whole.
pub(super) struct OptReader<A>(Option<A>);

impl<A> OptReader<A> {
    /// Takes it out of the rows that contain it.
    pub(super) fn take(&mut self) -> Self {
        Self(self.0.take())
    }
}

impl<A: Array> OptReader<A> {
    fn there(&self, row: usize) -> Option<&A> {
        self.0.as_ref().filter(|array| !array.is_null(row))
    }
}

impl<T: ArrowPrimitiveType> OptReader<PrimitiveArray<T>> {
    pub(super) fn get(&self, row: usize) -> Option<T::Native> {
        self.there(row).map(|array| array.value(row))
    }
}

impl OptReader<BooleanArray> {
    pub(super) fn get(&self, row: usize) -> Option<bool> {
        self.there(row).map(|array| array.value(row))
    }
}

impl OptReader<StringArray> {
    pub(super) fn get(&self, row: usize) -> Option<&str> {
        self.there(row).map(|array| array.value(row))
    }

    pub(super) fn owned(&self, row: usize) -> Option<String> {
        self.get(row).map(str::to_owned)
    }
}

impl OptReader<BinaryArray> {
    pub(super) fn get(&self, row: usize) -> Option<&[u8]> {
        self.there(row).map(|array| array.value(row))
    }
}

/// Yes or no, one in each row.
#[derive(Default)]
pub(super) struct Bool(BooleanBuilder);

impl Bool {
    pub(super) fn push(&mut self, value: bool) {
        self.0.append_value(value);
    }
}

impl Column for Bool {
    type Reader = BooleanArray;
    const NULLABLE: bool = false;

    fn data_type() -> DataType {
        DataType::Boolean
    }

    fn finish(&mut self) -> anyhow::Result<ArrayRef> {
        Ok(Arc::new(self.0.finish()))
    }

    fn reader(array: Option<&ArrayRef>) -> anyhow::Result<Self::Reader> {
        required(array)
    }
}

/// Yes or no, or missing.
#[derive(Default)]
pub(super) struct Flag(BooleanBuilder);

impl Flag {
    pub(super) fn push(&mut self, value: Option<bool>) {
        self.0.append_option(value);
    }
}

impl Column for Flag {
    type Reader = OptReader<BooleanArray>;
    const NULLABLE: bool = true;

    fn data_type() -> DataType {
        DataType::Boolean
    }

    fn finish(&mut self) -> anyhow::Result<ArrayRef> {
        Ok(Arc::new(self.0.finish()))
    }

    fn reader(array: Option<&ArrayRef>) -> anyhow::Result<Self::Reader> {
        typed(array).map(OptReader)
    }
}

/// Text that hardly repeats.
#[derive(Default)]
pub(super) struct Text(StringBuilder);

impl Text {
    pub(super) fn push(&mut self, value: Option<impl AsRef<str>>) {
        self.0.append_option(value);
    }
}

impl Column for Text {
    type Reader = OptReader<StringArray>;
    const NULLABLE: bool = true;

    fn data_type() -> DataType {
        DataType::Utf8
    }

    fn finish(&mut self) -> anyhow::Result<ArrayRef> {
        Ok(Arc::new(self.0.finish()))
    }

    fn reader(array: Option<&ArrayRef>) -> anyhow::Result<Self::Reader> {
        typed(array).map(OptReader)
    }
}

/// Bytes.
#[derive(Default)]
pub(super) struct Bytes(BinaryBuilder);

impl Bytes {
    pub(super) fn push(&mut self, value: Option<impl AsRef<[u8]>>) {
        self.0.append_option(value);
    }
}

impl Column for Bytes {
    type Reader = OptReader<BinaryArray>;
    const NULLABLE: bool = true;

    fn data_type() -> DataType {
        DataType::Binary
    }

    fn finish(&mut self) -> anyhow::Result<ArrayRef> {
        Ok(Arc::new(self.0.finish()))
    }

    fn reader(array: Option<&ArrayRef>) -> anyhow::Result<Self::Reader> {
        typed(array).map(OptReader)
    }
}

/// A column only for people. It is derived from others, so it is not read back.
#[derive(Default)]
pub(super) struct Shown<C>(pub(super) C);

impl<C: Column> Column for Shown<C> {
    type Reader = ();
    const NULLABLE: bool = true;
    const IS_READ: bool = false;

    fn data_type() -> DataType {
        C::data_type()
    }

    fn finish(&mut self) -> anyhow::Result<ArrayRef> {
        self.0.finish()
    }

    fn reader(_array: Option<&ArrayRef>) -> anyhow::Result<()> {
        Ok(())
    }
}

/// A table: a list of columns with their kinds, as a builder of batches and as a reader of them. One of them is `seq`.
macro_rules! table {
    ($(#[$doc:meta])* $table:ident, $rows:ident { $($(#[$about:meta])* $name:ident: $kind:ty,)* }) => {
        $(#[$doc])*
        #[derive(Default)]
        pub(crate) struct $table { $($(#[$about])* $name: $kind,)* }

        impl $table {
            /// Names and types.
            pub(crate) fn fields() -> Vec<arrow_schema::Field> {
                use crate::columns::Column;
                vec![$(arrow_schema::Field::new(
                    stringify!($name), <$kind as Column>::data_type(), <$kind as Column>::NULLABLE
                )),*]
            }

            /// Whether a column is read back.
            pub(crate) fn reads(name: &str) -> bool {
                use crate::columns::Column;
                $((name == stringify!($name) && <$kind as Column>::IS_READ))||*
            }
        }

        impl crate::columns::Columns for $table {
            fn rows(&self) -> usize {
                self.seq.len()
            }

            fn finish(&mut self) -> anyhow::Result<Vec<arrow_array::ArrayRef>> {
                use crate::columns::Column;
                Ok(vec![$(self.$name.finish()?),*])
            }
        }

        /// Rows of a batch.
        #[allow(dead_code, reason = "columns that are shown alone have no reader, and `seq` is read for all tables")]
        pub(crate) struct $rows { $($name: <$kind as crate::columns::Column>::Reader,)* }

        impl $rows {
            /// Of a batch, whose columns may be in any order.
            pub(crate) fn of(batch: &arrow_array::RecordBatch) -> anyhow::Result<Self> {
                use crate::columns::Column;
                use anyhow::Context as _;
                Ok(Self { $($name: <$kind as Column>::reader(batch.column_by_name(stringify!($name)))
                    .context(concat!("the column ", stringify!($name)))?,)* })
            }
        }
    };
}

pub(super) use table;
