//! JSON that nothing on a terminal acts on.

use crate::view::text;
use std::io::{self, Write};

/// Passes JSON on with every character that is not plain text written as an escape. Outside of strings JSON has none
/// of those but line ends, which stay.
pub struct PlainJson<W> {
    out: W,
    /// The beginning of a character whose end is yet to come.
    partial: Vec<u8>,
}

impl<W: Write> PlainJson<W> {
    /// Around an output.
    pub fn new(out: W) -> Self {
        Self { out, partial: Vec::new() }
    }

    /// The output again. Nothing is kept back of JSON that is whole.
    pub fn into_inner(self) -> W {
        self.out
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        let is_fine = |letter: char| letter == '\n' || text::is_plain(letter);
        let mut rest = text;
        while let Some(at) = rest.find(|letter| !is_fine(letter)) {
            let (fine, other) = rest.split_at(at);
            self.out.write_all(fine.as_bytes())?;
            let mut letters = other.chars();
            for unit in letters.next().unwrap_or_default().encode_utf16(&mut [0; 2]) {
                write!(self.out, "\\u{unit:04x}")?;
            }
            rest = letters.as_str();
        }
        self.out.write_all(rest.as_bytes())
    }
}

impl<W: Write> Write for PlainJson<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut joined = std::mem::take(&mut self.partial);
        let all = if joined.is_empty() {
            bytes
        } else {
            joined.extend_from_slice(bytes);
            &joined
        };
        match std::str::from_utf8(all) {
            Ok(text) => self.text(text)?,
            Err(error) if error.error_len().is_none() => {
                let (whole, partial) = all.split_at(error.valid_up_to());
                self.partial = partial.to_vec();
                self.text(std::str::from_utf8(whole).unwrap_or_default())?;
            }
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn what_is_written_is_plain_and_means_the_same() {
        let json = "{\"a\":\"\u{202e}b\u{9b}31m\u{7f}ü日\u{e0001}\\n\"}\n{\"c\":1}\n";
        for piece in 1..json.len() {
            let mut plain = PlainJson::new(Vec::new());
            for bytes in json.as_bytes().chunks(piece) {
                plain.write_all(bytes).unwrap();
            }
            let written = String::from_utf8(plain.out).unwrap();
            assert!(written.chars().all(|letter| letter == '\n' || text::is_plain(letter)), "{written}");
            for (one, other) in written.lines().zip(json.lines()) {
                let read = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
                assert_eq!(read(one), read(other));
            }
            assert_eq!(written.lines().count(), 2);
        }
        assert!(PlainJson::new(Vec::new()).write_all(b"\xff").is_err());
    }
}
