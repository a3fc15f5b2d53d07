//! Columns of words that repeat, and what the words mean.

use super::columns::{Column, typed};
use anyhow::{Context as _, bail};
use arrow_array::builder::{PrimitiveBuilder, StringBuilder};
use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef, DictionaryArray, Int32Array, StringArray};
use arrow_schema::DataType;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;

/// Words that repeat: a dictionary for each batch. The word of each value is cached, so that it is formatted only once.
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
            // Every row has its own word.
            let words: StringArray = typed(Some(texts))?.context("is missing")?;
            let rows = Int32Array::new((0..words.len() as i32).collect(), words.nulls().cloned());
            return Ok(Some((rows, words)));
        }
        let array: Option<DictionaryArray<Int32Type>> = typed(array)?;
        array.map(|array| Ok((array.keys().clone(), typed(Some(array.values()))?.context("is missing")?))).transpose()
    }
}

/// Rows as indexes of words, and the words. `None` when the file has no such column.
pub(super) type WordsReader = Option<(Int32Array, StringArray)>;

/// What each word of a column means, computed once for all batches that share a dictionary.
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
    /// The meanings of a column's rows. A word for which `mean` returns `None` has no meaning.
    pub(super) fn of(&mut self, reader: WordsReader, mean: impl Fn(&str) -> Option<T>) -> DecodedDict<T> {
        let Some((rows, words)) = reader else {
            return DecodedDict { rows: None, words: None, meanings: Arc::clone(&self.meanings) };
        };
        if !self.words.as_ref().is_some_and(|old| is_same(old, &words)) {
            self.meanings = words.iter().map(|word| word.and_then(&mean)).collect();
            self.words = Some(words);
        }
        DecodedDict { rows: Some(rows), words: self.words.clone(), meanings: Arc::clone(&self.meanings) }
    }
}

/// Whether two live arrays are the same memory.
fn is_same(one: &StringArray, other: &StringArray) -> bool {
    one.len() == other.len() && one.offsets().as_ptr() == other.offsets().as_ptr()
}

/// A word that this version does not know: a later version wrote it.
#[derive(Debug, thiserror::Error)]
#[error("the word {0:?} is not known")]
pub(super) struct Unknown(pub(super) String);

/// Rows of a column of words.
pub(super) struct DecodedDict<T> {
    rows: Option<Int32Array>,
    words: Option<StringArray>,
    meanings: Arc<[Option<T>]>,
}

impl<T> DecodedDict<T> {
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
