//! Columns: how values get into Arrow arrays, and out of them again.

use anyhow::{Context as _, bail};
use arrow_array::builder::{BinaryBuilder, BooleanBuilder, PrimitiveBuilder, StringBuilder};
use arrow_array::types::{ArrowPrimitiveType, Int32Type, TimestampMicrosecondType};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, DictionaryArray, Int32Array, PrimitiveArray, StringArray,
};
use arrow_schema::{DataType, TimeUnit};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;

/// A column of one kind: a builder that can be emptied into an array, and what such an array is read by.
pub(super) trait Column: Default {
    /// What it is read by.
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

/// The array as its type, if it is there.
fn typed<T: Clone + 'static>(array: Option<&ArrayRef>) -> anyhow::Result<Option<T>> {
    array.map(|array| array.as_any().downcast_ref::<T>().cloned().context("is of another type")).transpose()
}

/// The array as its type, which must be there and whole.
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
    /// Takes it away from the rows that it is in.
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

/// Words that repeat: a dictionary for each batch. What a word is written for is remembered, so that it is put into
/// text once.
pub(super) struct Words<K> {
    rows: PrimitiveBuilder<Int32Type>,
    known: HashMap<K, i32, FixedState>,
    words: StringBuilder,
}

impl<K: Hash + Eq> Words<K> {
    pub(super) fn push<Q>(&mut self, key: &Q, text: impl FnOnce(&mut StringBuilder))
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let number = match self.known.get(key) {
            Some(number) => *number,
            None => {
                // A batch has far fewer rows than this can count.
                let number = self.known.len() as i32;
                text(&mut self.words);
                self.known.insert(key.to_owned(), number);
                number
            }
        };
        self.rows.append_value(number);
    }

    pub(super) fn push_null(&mut self) {
        self.rows.append_null();
    }
}

impl Words<&'static str> {
    pub(super) fn push_word(&mut self, word: Option<&'static str>) {
        match word {
            Some(word) => self.push(&word, |words| words.append_value(word)),
            None => self.push_null(),
        }
    }
}

impl<K> Default for Words<K> {
    fn default() -> Self {
        Self { rows: PrimitiveBuilder::new(), known: HashMap::default(), words: StringBuilder::new() }
    }
}

impl<K> Column for Words<K> {
    type Reader = WordsReader;
    const NULLABLE: bool = true;

    fn data_type() -> DataType {
        DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
    }

    fn finish(&mut self) -> anyhow::Result<ArrayRef> {
        self.known.clear();
        Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(self.rows.finish(), Arc::new(self.words.finish()))?))
    }

    fn reader(array: Option<&ArrayRef>) -> anyhow::Result<Self::Reader> {
        if let Some(texts) = array.filter(|array| *array.data_type() == DataType::Utf8) {
            // Every row is a word of its own.
            let words: StringArray = typed(Some(texts))?.context("is missing")?;
            let rows = Int32Array::new((0..words.len() as i32).collect(), words.nulls().cloned());
            return Ok(Some((rows, words)));
        }
        let array: Option<DictionaryArray<Int32Type>> = typed(array)?;
        array.map(|array| Ok((array.keys().clone(), typed(Some(array.values()))?.context("is missing")?))).transpose()
    }
}

/// Rows as numbers of words, and the words. `None` when the file has no such column.
pub(super) type WordsReader = Option<(Int32Array, StringArray)>;

/// What each word of a column means, worked out once for all batches that share a dictionary.
pub(super) struct Meanings<T> {
    words: Option<StringArray>,
    meanings: Arc<[Option<T>]>,
}

impl<T> Default for Meanings<T> {
    fn default() -> Self {
        Self { words: None, meanings: Arc::new([]) }
    }
}

impl<T> Meanings<T> {
    /// The rows of a column as what their words mean. A word for which `mean` gives `None` has no meaning.
    pub(super) fn of(&mut self, reader: WordsReader, mean: impl Fn(&str) -> Option<T>) -> Meant<T> {
        let Some((rows, words)) = reader else {
            return Meant { rows: None, words: None, meanings: Arc::clone(&self.meanings) };
        };
        if !self.words.as_ref().is_some_and(|old| is_same(old, &words)) {
            self.meanings = words.iter().map(|word| word.and_then(&mean)).collect();
            self.words = Some(words);
        }
        Meant { rows: Some(rows), words: self.words.clone(), meanings: Arc::clone(&self.meanings) }
    }
}

/// Whether two arrays are the same memory, both being alive.
fn is_same(one: &StringArray, other: &StringArray) -> bool {
    one.len() == other.len() && one.offsets().as_ptr() == other.offsets().as_ptr()
}

/// A word that this version does not know: who wrote it knew more.
#[derive(Debug, thiserror::Error)]
#[error("the word {0:?} is not known")]
pub(super) struct Unknown(pub(super) String);

/// Rows of a column of words.
pub(super) struct Meant<T> {
    rows: Option<Int32Array>,
    words: Option<StringArray>,
    meanings: Arc<[Option<T>]>,
}

impl<T> Meant<T> {
    /// What a row means; `None` when it has no value. The error is [`Unknown`] when there is a word without a meaning.
    pub(super) fn get(&self, row: usize) -> anyhow::Result<Option<&T>> {
        let Some(rows) = self.rows.as_ref().filter(|rows| !rows.is_null(row)) else { return Ok(None) };
        let number = usize::try_from(rows.value(row)).context("a word is missing")?;
        if let Some(meaning) = self.meanings.get(number).and_then(Option::as_ref) {
            return Ok(Some(meaning));
        }
        let words = self.words.as_ref().filter(|words| number < words.len()).context("a word is missing")?;
        bail!(Unknown(words.value(number).to_owned()))
    }

    /// What a row means, which must have a value.
    pub(super) fn need(&self, row: usize) -> anyhow::Result<&T> {
        self.get(row)?.context("a value is missing")
    }
}

/// A column for people alone. What it says follows from others, so it is not read back.
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
