//! Escapes text that a process chose itself: for a terminal, a spreadsheet, and JSON.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};
use unicode_width::UnicodeWidthChar as _;

/// Whether a character is displayed as itself and moves the cursor by its own width: no control characters, nothing
/// that changes the text direction, nothing invisible.
pub fn is_plain(letter: char) -> bool {
    if letter.is_ascii() {
        return !letter.is_ascii_control();
    }
    let invisible = matches!(letter,
        '\u{00ad}' | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}');
    !invisible && letter.width().is_some_and(|width| width > 0)
}

/// Text on one line in which every character is visible: others are written as escapes, such as `\x1b` or `\u{202e}`.
pub fn clean(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut cleaned = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        escape_into(letter, &mut cleaned);
    }
    Cow::Owned(cleaned)
}

/// Like [`clean`], for bytes that may not be UTF-8: invalid bytes are written as `\xff`.
pub fn clean_bytes(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return clean(text);
    }
    let mut cleaned = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|letter| escape_into(letter, &mut cleaned));
        chunk.invalid().iter().for_each(|byte| byte_into(*byte, &mut cleaned));
    }
    Cow::Owned(cleaned)
}

/// Bytes as text for programs: unchanged, except that invalid UTF-8 is written as `\xff`.
pub fn lossless(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| byte_into(*byte, &mut text));
    }
    Cow::Owned(text)
}

fn byte_into(byte: u8, text: &mut String) {
    // Writing to a String does not fail.
    let _ = write!(text, "\\x{byte:02x}");
}

fn escape_into(letter: char, text: &mut String) {
    match letter {
        letter if is_plain(letter) => text.push(letter),
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        letter if letter.is_ascii() => byte_into(letter as u8, text),
        letter => text.extend(letter.escape_unicode()),
    }
}

/// A cell that has no effect when it is displayed or opened.
pub fn guarded(cell: &str) -> Cow<'_, str> {
    let cleaned = clean(cell);
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{cleaned}").into() } else { cleaned }
}

/// Passes JSON on and escapes every character that is not plain text. Outside strings, JSON has none of those except
/// line ends, which stay.
pub struct PlainJson<W> {
    out: W,
    /// The first bytes of a character whose last bytes have not arrived yet.
    partial: Vec<u8>,
}

impl<W: Write> PlainJson<W> {
    /// Wraps an output.
    pub fn new(out: W) -> Self {
        Self { out, partial: Vec::new() }
    }

    /// Returns the output. After complete JSON, nothing is left unwritten.
    pub fn into_inner(self) -> W {
        self.out
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        let is_fine = |letter: char| letter == '\n' || is_plain(letter);
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
            assert!(written.chars().all(|letter| letter == '\n' || is_plain(letter)), "{written}");
            for (one, other) in written.lines().zip(json.lines()) {
                let read = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
                assert_eq!(read(one), read(other));
            }
            assert_eq!(written.lines().count(), 2);
        }
        assert!(PlainJson::new(Vec::new()).write_all(b"\xff").is_err());
    }
}
