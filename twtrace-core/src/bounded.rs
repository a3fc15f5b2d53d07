//! Bounds for what is read from an image, which anyone may have written.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// A number of at most `MOST`.
pub(crate) fn number<'de, const MOST: u8, D: Deserializer<'de>>(from: D) -> Result<u8, D::Error> {
    let number = u8::deserialize(from)?;
    if number <= MOST { Ok(number) } else { Err(D::Error::custom("a number out of its range")) }
}

/// A list of at most `MOST` entries.
pub(crate) fn list<'de, const MOST: usize, T, D>(from: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let list = Vec::deserialize(from)?;
    if list.len() <= MOST { Ok(list) } else { Err(D::Error::custom("a list that is too long")) }
}
