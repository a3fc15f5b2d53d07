//! The part of a recording that is being written: an Arrow IPC stream for each table, and checksums that show how far
//! the stream is intact.
//!
//! The checksums of a table begin with a [`Header`], followed by an [`Entry`] for each hand-over, in little-endian
//! order. Each entry's own checksum continues the previous one, so that no entry can be changed, left out or copied
//! from elsewhere.

use super::dir::RecordingDir;
use super::disk::OutFile;
use super::schema::{Form, LABEL, Label};
use super::tables::Table;
use anyhow::{Context as _, bail};
use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::writer::{IpcWriteOptions, StreamEncoder};
use arrow_ipc::{CompressionType, MessageHeader};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};

/// Magic number of every checksum file.
const MAGIC: [u8; 8] = *b"twt-sums";

/// Bytes of an entry.
const ENTRY: usize = 40;

/// Larger than any hand-over, in bytes, compressed or decompressed.
const LARGEST: u64 = 1 << 28;

/// Longest label.
const LARGEST_LABEL: u64 = 4096;

/// One hand-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Bytes in the stream.
    length: u64,
    /// From here on, the stream has all Events below this number.
    pub(super) next_seq: u64,
    pub(super) rows: u64,
    /// The latest reported time, microseconds since the Unix epoch.
    pub(super) last_us: i64,
    /// Checksum of the bytes in the stream.
    crc: u32,
}

impl Entry {
    /// Number of bytes that it adds to both files.
    pub(super) fn bytes(&self) -> u64 {
        self.length + ENTRY as u64
    }

    fn to_bytes(self, chain: &mut u32) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        bytes[..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.next_seq.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.rows.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.last_us.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.crc.to_le_bytes());
        *chain = extend(*chain, &bytes[..36]);
        bytes[36..].copy_from_slice(&chain.to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8; ENTRY], chain: &mut u32) -> Option<Self> {
        let long = |at: usize| bytes[at..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        let short = |at: usize| bytes[at..].first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
        *chain = extend(*chain, &bytes[..36]);
        let entry = Self {
            length: long(0)?,
            next_seq: long(8)?,
            rows: long(16)?,
            last_us: long(24)?.cast_signed(),
            crc: short(32)?,
        };
        (short(36)? == *chain && entry.length <= LARGEST).then_some(entry)
    }
}

fn extend(crc: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(crc);
    hasher.update(bytes);
    hasher.finalize()
}

/// The stream of one table that is being written.
pub(super) struct OpenSegmentWriter {
    name: String,
    stream: OutFile,
    sums: OutFile,
    encoder: StreamEncoder,
    chain: u32,
}

impl OpenSegmentWriter {
    /// Creates both files.
    pub(super) fn create(place: &RecordingDir, label: &Label) -> anyhow::Result<Self> {
        let (table, segment) = (label.table, label.segment);
        let name = table.file(segment, Form::Arrows);
        let attempt = || {
            let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD))?;
            let text = serde_json::to_string(label)?;
            let mut header = MAGIC.to_vec();
            header.extend((text.len() as u32).to_le_bytes());
            header.extend(text.as_bytes());
            let chain = extend(0, &header);
            header.extend(chain.to_le_bytes());
            let stream = place.make(&name)?;
            let mut sums = place.make(&table.file(segment, Form::Sums))?;
            sums.write_all(&header)?;
            let encoder = StreamEncoder::try_new_with_options(&*label.schema()?, options)?;
            anyhow::Ok((stream, sums, encoder, chain))
        };
        let (stream, sums, encoder, chain) = attempt().with_context(|| format!("cannot write {name}"))?;
        Ok(Self { name, stream, sums, encoder, chain })
    }

    /// Appends a batch, without its checksum yet, and returns the bytes that it took.
    pub(super) fn append(&mut self, batch: Option<&RecordBatch>, next_seq: u64, last_us: i64) -> anyhow::Result<Entry> {
        let mut entry = Entry { length: 0, next_seq, rows: 0, last_us, crc: 0 };
        let mut attempt = || {
            let Some(batch) = batch else { return Ok(()) };
            let mut bytes = Vec::new();
            for buffer in self.encoder.encode(batch)? {
                bytes.extend_from_slice(&buffer);
            }
            self.stream.write_all(&bytes)?;
            self.stream.is_linked()?;
            entry =
                Entry { length: bytes.len() as u64, rows: batch.num_rows() as u64, crc: extend(0, &bytes), ..entry };
            anyhow::Ok(())
        };
        attempt().with_context(|| format!("cannot write {}", self.name))?;
        Ok(entry)
    }

    /// Writes the checksum of what was appended. Once this is written, the batch is part of the recording.
    pub(super) fn confirm(&mut self, entry: Entry) -> anyhow::Result<()> {
        let bytes = entry.to_bytes(&mut self.chain);
        self.sums.write_all(&bytes).with_context(|| format!("cannot write the sums of {}", self.name))
    }
}

/// The intact part of one table's stream.
#[derive(Debug)]
pub(super) struct OpenSegment {
    pub(super) table: Table,
    stream: File,
    pub(super) label: Label,
    pub(super) entries: Vec<Entry>,
    /// Bytes after the last whole batch.
    pub(super) left: u64,
    /// Why it stops there, other than that no more was written.
    pub(super) cut: Option<&'static str>,
    /// Every existing byte was read: there may be more by now.
    pub(super) is_at_end: bool,
}

impl OpenSegment {
    /// Opens a stream, and compares its checksums with its bytes.
    pub(super) fn open(place: &RecordingDir, id: Option<&str>, table: Table, segment: u32) -> anyhow::Result<Self> {
        let sums = table.file(segment, Form::Sums);
        let mut sums = place.read(&sums).with_context(|| format!("cannot be used without {sums}"))?;
        let mut stream = place.read(&table.file(segment, Form::Arrows))?;
        let mut start = [0; 12];
        sums.read_exact(&mut start).context("has damaged sums")?;
        let length = start[8..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        if start[..8] != MAGIC || u64::from(length) > LARGEST_LABEL {
            bail!("has damaged sums");
        }
        let mut text = vec![0; length as usize];
        let mut crc = [0; 4];
        sums.read_exact(&mut text).context("has damaged sums")?;
        sums.read_exact(&mut crc).context("has damaged sums")?;
        let mut chain = extend(extend(0, &start), &text);
        if u32::from_le_bytes(crc) != chain {
            bail!("has damaged sums");
        }
        let label = Label::check(str::from_utf8(&text).ok(), id, table, segment)?;
        let mut left = stream.metadata()?.len();
        let mut entries: Vec<Entry> = Vec::new();
        let mut sums = std::io::BufReader::new(sums);
        let mut bytes = [0; ENTRY];
        let mut content = Vec::new();
        let mut cut = None;
        let mut is_at_end = false;
        while sums.read_exact(&mut bytes).is_ok() {
            let Some(entry) = Entry::parse(&bytes, &mut chain) else {
                cut = Some("has damaged sums; what follows is left out");
                break;
            };
            let Some(rest) = left.checked_sub(entry.length) else {
                cut = Some("is shorter than its sums say");
                is_at_end = true;
                break;
            };
            // Never more than the size of the file.
            content.resize(entry.length as usize, 0);
            if stream.read_exact(&mut content).is_err() || extend(0, &content) != entry.crc {
                cut = Some("does not have the sum that it should; what follows is left out");
                break;
            }
            left = rest;
            entries.push(entry);
        }
        stream.rewind()?;
        Ok(Self { table, stream, label, entries, left, cut, is_at_end })
    }

    /// Number of the first Event that is not fully in the stream.
    pub(super) fn next_seq(&self) -> u64 {
        self.entries.last().map_or(self.label.first_seq, |last| last.next_seq)
    }

    /// Rows of the whole hand-overs below an Event's number.
    pub(super) fn rows_below(&self, next_seq: u64) -> u64 {
        let whole = self.entries.iter().filter(|entry| entry.next_seq <= next_seq);
        whole.map(|entry| entry.rows).fold(0, u64::saturating_add)
    }

    /// Its batches.
    pub(super) fn batches(self) -> OpenSegmentBatches {
        OpenSegmentBatches {
            stream: self.stream,
            label: self.label,
            table: self.table,
            entries: self.entries.into(),
            decoder: StreamDecoder::new(),
        }
    }
}

/// Batches of a stream.
pub(super) struct OpenSegmentBatches {
    stream: File,
    label: Label,
    table: Table,
    entries: VecDeque<Entry>,
    decoder: StreamDecoder,
}

impl OpenSegmentBatches {
    /// The next batch; `None` at the end.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<RecordBatch>> {
        loop {
            let Some(entry) = self.entries.pop_front() else { return Ok(None) };
            if entry.length == 0 {
                continue;
            }
            // At most the size of the file: that was checked before.
            let mut bytes = vec![0; entry.length as usize];
            self.stream.read_exact(&mut bytes).context("is shorter than its sums say")?;
            if extend(0, &bytes) != entry.crc {
                bail!("does not have the sum that it should");
            }
            check(&bytes)?;
            let mut buffer = Buffer::from_vec(bytes);
            let batch = self.decoder.decode(&mut buffer)?;
            let label = self.decoder.schema().and_then(|schema| schema.metadata().get(LABEL).cloned());
            let label = Label::check(label.as_deref(), Some(&self.label.id), self.table, self.label.segment)?;
            if label.first_seq != self.label.first_seq {
                bail!("does not belong to its sums");
            }
            let batch = batch.context("has a hand-over without a batch")?;
            if batch.num_rows() as u64 != entry.rows || !buffer.is_empty() {
                bail!("has another number of rows than its sums say");
            }
            return Ok(Some(batch));
        }
    }
}

/// Checks the messages of a stream before memory is allocated for the sizes that they claim.
fn check(bytes: &[u8]) -> anyhow::Result<()> {
    let mut rest = bytes;
    let mut spread = 0_u64;
    while !rest.is_empty() {
        let (frame, after) = rest.split_first_chunk::<8>().context("has a message cut short")?;
        let (mark, length) = frame.split_at(4);
        let length = u32::from_le_bytes(length.try_into()?) as usize;
        if mark != [0xff; 4] {
            bail!("has no message where one should be");
        }
        let (message, body) = after.split_at_checked(length).context("has a message cut short")?;
        let message = arrow_ipc::root_as_message(message).ok().context("has a damaged message")?;
        let body_length = usize::try_from(message.bodyLength()).context("has a damaged message")?;
        let (body, after) = body.split_at_checked(body_length).context("has a message cut short")?;
        let batch = match message.header_type() {
            MessageHeader::Schema => None,
            MessageHeader::RecordBatch => message.header_as_record_batch(),
            MessageHeader::DictionaryBatch => message.header_as_dictionary_batch().and_then(|batch| batch.data()),
            _ => bail!("has a message of an unknown kind"),
        };
        if let Some(batch) = batch {
            if u64::try_from(batch.length()).is_ok_and(|rows| rows > LARGEST) {
                bail!("claims to contain more than is possible");
            }
            for buffer in batch.buffers().into_iter().flatten() {
                let place = (usize::try_from(buffer.offset()).ok()).zip(usize::try_from(buffer.length()).ok());
                let data = place.and_then(|(offset, length)| body.get(offset..)?.get(..length));
                let data = data.context("has a buffer outside of its message")?;
                // A compressed buffer begins with its decompressed length.
                let size = data.first_chunk().map_or(0, |bytes| i64::from_le_bytes(*bytes));
                if batch.compression().is_some() && size > 0 {
                    spread = spread.saturating_add(size.unsigned_abs());
                }
            }
        }
        if spread > LARGEST {
            bail!("claims to contain more than is possible");
        }
        rest = after;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;
    use crate::encoder::Encoder;
    use crate::guard::guarded;
    use proptest::prelude::*;
    use twtrace_core::event::Event;

    /// A stream with correct checksums, whatever is in it.
    fn stream(place: &RecordingDir, change: impl FnOnce(&mut Vec<u8>)) {
        let label = Label::new("me", Table::Host, 1, (0, 0));
        let mut writer = OpenSegmentWriter::create(place, &label).unwrap();
        let mut encoder = Encoder::default();
        for netns in 0..50 {
            encoder.push(&Event::Namespace { netns, inode: netns, name: "name".to_owned(), refused: None }).unwrap();
            encoder.push(&Event::NamespaceGone { netns }).unwrap();
        }
        let [host, ..] = encoder.take().unwrap();
        let mut entry = writer.append(host.as_ref(), encoder.seq(), 0).unwrap();
        let name = Table::Host.file(1, Form::Arrows);
        let mut bytes = place.read_small(&name, 1 << 20).unwrap();
        change(&mut bytes);
        place.remove(&name).unwrap();
        place.make(&name).unwrap().write_all(&bytes).unwrap();
        (entry.length, entry.crc) = (bytes.len() as u64, extend(0, &bytes));
        writer.confirm(entry).unwrap();
    }

    fn read(place: &RecordingDir) -> anyhow::Result<Option<RecordBatch>> {
        guarded(|| OpenSegment::open(place, Some("me"), Table::Host, 1)?.batches().next())
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let place = RecordingDir::open(folder.path()).unwrap();
        stream(&place, |_| {});
        assert_eq!(read(&place).unwrap().unwrap().num_rows(), 100);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// As an attacker would write it.
        #[test]
        fn no_stream_ends_the_program(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
            let folder = tempfile::tempdir().unwrap();
            let place = RecordingDir::open(folder.path()).unwrap();
            stream(&place, |bytes| {
                for (place, value) in changes {
                    let place = place.index(bytes.len());
                    bytes[place] = value;
                }
            });
            // Some bytes are padding.
            let _ = read(&place);
        }
    }

    #[test]
    fn claims_are_looked_at_before_memory_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let place = RecordingDir::open(folder.path()).unwrap();
        // Each eight bytes in turn as the length of a buffer.
        let length = {
            let mut length = 0;
            stream(&place, |bytes| length = bytes.len());
            length
        };
        let bytes = place.read_small(&Table::Host.file(1, Form::Arrows), 1 << 20).unwrap();
        for at in (0..length - 8).step_by(8) {
            let mut claims = bytes.clone();
            claims[at..at + 8].copy_from_slice(&(i64::MAX / 2).to_le_bytes());
            let _ = guarded(|| {
                check(&claims)?;
                StreamDecoder::new().decode(&mut Buffer::from_vec(claims))?;
                Ok(())
            });
        }
    }
}
