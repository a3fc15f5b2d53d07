//! Checks the headers of Parquet pages before the pages are read: the decoder allocates the sizes that they claim.
//!
//! The decoder trusts the size in a page header, up to 2 GiB for each column. A header is a struct in Thrift's compact
//! protocol; only its two size fields matter here.

use anyhow::{Context as _, bail};
use std::fs::File;
use std::io::{BufReader, Read, Seek as _, SeekFrom};
use std::ops::Range;

/// Larger than any page, in decompressed bytes.
const LARGEST: u64 = 256 << 20;

/// Room for a header.
const HEADER: usize = 256;

/// Maximum nesting depth of the structs of a header.
const DEEPEST: u32 = 8;

/// Types of the compact protocol.
const BYTE: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const STRUCT: u8 = 12;

/// Checks all pages of a column, given its place in the file.
pub(super) fn check(file: &File, place: Range<u64>) -> anyhow::Result<()> {
    let mut file = BufReader::with_capacity(HEADER, file);
    let mut at = place.start;
    while at < place.end {
        file.seek(SeekFrom::Start(at))?;
        let page = Page::read((&mut file).take(place.end - at))?;
        if page.spread > LARGEST {
            bail!("has a page that claims to contain more than is possible");
        }
        at = at.saturating_add(page.header).saturating_add(page.compressed);
    }
    Ok(())
}

/// What a page header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Page {
    /// Size of its header, bytes.
    header: u64,
    /// Size of the data after the header, bytes.
    compressed: u64,
    /// Size of that data when decompressed, bytes.
    spread: u64,
}

impl Page {
    /// Reads a header, and nothing after it.
    fn read(from: impl Read) -> anyhow::Result<Self> {
        let mut header = Header { from, bytes: 0 };
        let (mut spread, mut compressed) = (None, None);
        header.fields(|header, id, kind| {
            match (id, kind) {
                (2, I32) => spread = Some(header.number()?),
                (3, I32) => compressed = Some(header.number()?),
                _ => header.skip(kind, DEEPEST)?,
            }
            Ok(())
        })?;
        let size = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
        let sizes = size(compressed).zip(size(spread));
        let (compressed, spread) = sizes.context("has a page without a size")?;
        Ok(Self { header: header.bytes, compressed, spread })
    }
}

struct Header<R> {
    from: R,
    /// Number of bytes read.
    bytes: u64,
}

impl<R: Read> Header<R> {
    fn byte(&mut self) -> anyhow::Result<u8> {
        let mut byte = [0];
        self.from.read_exact(&mut byte).context("has a damaged page")?;
        self.bytes += 1;
        Ok(byte[0])
    }

    fn unsigned(&mut self) -> anyhow::Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        bail!("has a damaged page")
    }

    /// The sign is in the lowest bit.
    fn number(&mut self) -> anyhow::Result<i64> {
        let number = self.unsigned()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    /// All fields of a struct, by number and type.
    fn fields(&mut self, mut field: impl FnMut(&mut Self, i64, u8) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut id = 0_i64;
        loop {
            let byte = self.byte()?;
            if byte == 0 {
                return Ok(());
            }
            id = match byte >> 4 {
                0 => self.number()?,
                step => id.saturating_add(i64::from(step)),
            };
            field(self, id, byte & 15)?;
        }
    }

    fn skip(&mut self, kind: u8, depth: u32) -> anyhow::Result<()> {
        let Some(depth) = depth.checked_sub(1) else { bail!("has a damaged page") };
        match kind {
            // True and false are types.
            1 | 2 => {}
            BYTE => drop(self.byte()?),
            I16 | I32 | I64 => drop(self.unsigned()?),
            DOUBLE => self.leave_out(8)?,
            BINARY => {
                let length = self.unsigned()?;
                self.leave_out(length)?;
            }
            LIST | SET => {
                let head = self.byte()?;
                let length = if head >> 4 == 15 { self.unsigned()? } else { u64::from(head >> 4) };
                for _ in 0..length {
                    match head & 15 {
                        // In a list they have one byte each.
                        1 | 2 => drop(self.byte()?),
                        kind => self.skip(kind, depth)?,
                    }
                }
            }
            STRUCT => self.fields(|header, _, kind| header.skip(kind, depth))?,
            _ => bail!("has a damaged page"),
        }
        Ok(())
    }

    fn leave_out(&mut self, length: u64) -> anyhow::Result<()> {
        let left_out = std::io::copy(&mut self.from.by_ref().take(length), &mut std::io::sink())?;
        if left_out != length {
            bail!("has a damaged page");
        }
        self.bytes = self.bytes.saturating_add(length);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use std::io::Write as _;

    /// A data page of 300 bytes, 1000 decompressed, with a handwritten header that has statistics.
    const WHOLE: &[u8] = &[
        0x15, 0x00, 0x15, 0xd0, 0x0f, 0x15, 0xd8, 0x04, // type, sizes
        0x2c, 0x15, 0x08, 0x15, 0x00, 0x15, 0x06, 0x15, 0x06, // values, encodings
        0x1c, 0x18, 0x02, b'a', b'b', 0x00, 0x00, // statistics
        0x00,
    ];

    #[test]
    fn sizes_are_found() {
        let page = Page::read(WHOLE).unwrap();
        assert_eq!(page, Page { header: WHOLE.len() as u64, compressed: 300, spread: 1000 });
        // What follows is not read.
        assert_eq!(Page::read([WHOLE, b"rest"].concat().as_slice()).unwrap(), page);
    }

    #[test]
    fn no_page_is_larger_than_it_can_be() {
        // A second page after the first, with nothing but its sizes.
        let second = |spread: &[u8]| [WHOLE, &[0; 300], &[0x25], spread, &[0x15, 0x00, 0x00]].concat();
        for (spread, is_well) in [(&[0x10_u8][..], true), (&[0x80, 0x80, 0x80, 0x80, 0x0e], false)] {
            let bytes = second(spread);
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            let checked = check(&file, 0..bytes.len() as u64);
            assert_eq!(checked.is_ok(), is_well, "{checked:?}");
            // Bytes outside of the column may claim anything.
            assert!(check(&file, 0..WHOLE.len() as u64 + 300).is_ok());
        }
    }

    #[test]
    fn damage_is_an_error() {
        for length in 0..WHOLE.len() {
            assert!(Page::read(&WHOLE[..length]).is_err(), "{length}");
        }
        // A negative size, a missing one, endless numbers, endlessly nested structs.
        assert!(Page::read(&[0x25, 0x01, 0x15, 0x02, 0x00][..]).is_err());
        assert!(Page::read(&[0x25, 0x02, 0x00][..]).is_err());
        assert!(Page::read(&[0x25; 1][..]).is_err());
        assert!(Page::read(&[0xff; 64][..]).is_err());
        assert!(Page::read(&[0x1c; 1 << 20][..]).is_err());
        // A list of lists, and bytes that do not exist.
        assert!(Page::read(&[0x19, 0xf9, 0xff, 0xff, 0x7f, 0xf9][..]).is_err());
        assert!(Page::read(&[0x18, 0xff, 0xff, 0xff, 0x7f][..]).is_err());
    }
}
