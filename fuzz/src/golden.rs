//! Golden recordings in memory. They can be edited, and their checksums computed again.

use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::writer::{IpcWriteOptions, StreamEncoder};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::file::properties::WriterProperties;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const MANIFEST: &str = "recording.json";

/// Bytes of an entry in a file of sums, and bytes of it that its own sum covers.
const ENTRY: usize = 40;
const SUMMED: usize = 36;

/// Files of a recording.
#[derive(Clone)]
pub struct Golden(BTreeMap<String, Vec<u8>>);

/// All golden recordings as they are, and without compression, so that edits change values as well.
pub fn all() -> Vec<Golden> {
    let mut found = Vec::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let entries = |path: &Path| {
        let mut paths: Vec<_> =
            fs::read_dir(path).expect("no folder").map(|entry| entry.expect("no entry").path()).collect();
        paths.sort();
        paths
    };
    for version in entries(&golden).iter().filter(|path| path.is_dir()) {
        for path in entries(version).iter().filter(|path| path.extension().is_some_and(|is| is == "twt")) {
            let file = |path: &std::path::PathBuf| {
                (path.file_name().expect("a name").to_string_lossy().into_owned(), fs::read(path).expect("a file"))
            };
            let golden = Golden(entries(path).iter().map(file).collect());
            found.push(golden.plain());
            found.push(golden);
        }
    }
    found
}

impl Golden {
    /// Writes it.
    pub fn write(&self, path: &Path) {
        for (name, bytes) in &self.0 {
            fs::write(path.join(name), bytes).expect("a temporary file");
        }
    }

    /// Edits one file. The bytes are a list of edits, each an offset of three bytes, a length and up to 32 bytes, which
    /// are written at the offset. A length above 32 first cuts the file at the offset; one above 64 removes the file.
    pub fn edit(&mut self, file: usize, edits: &[u8], updates_sums: bool, has_no_manifest: bool) {
        let name = self.0.keys().nth(file % self.0.len()).cloned().unwrap_or_default();
        let Some(content) = self.0.get_mut(&name) else { return };
        let mut rest = edits;
        while let [one, two, three, length, after @ ..] = rest {
            let place = u32::from_le_bytes([*one, *two, *three, 0]) as usize % content.len().max(1);
            let length = usize::from(*length);
            let new = &after[..length.min(32).min(after.len())];
            match length {
                0..=32 => {
                    let end = (place + new.len()).min(content.len());
                    content[place..end].copy_from_slice(&new[..end - place]);
                }
                33..=64 => {
                    content.truncate(place);
                    content.extend_from_slice(new);
                }
                _ => {
                    self.0.remove(&name);
                    return;
                }
            }
            rest = &after[new.len()..];
        }
        if updates_sums {
            self.update_sums(&name);
        }
        if has_no_manifest {
            self.0.remove(MANIFEST);
        }
    }

    /// Computes the sums of a file again.
    fn update_sums(&mut self, name: &str) {
        match name.rsplit_once('.') {
            Some((stem, "arrows")) => {
                let stem = format!("{stem}.sums");
                if let (Some(stream), Some(sums)) = (self.0.get(name), self.0.get(&stem)) {
                    let sums = resum(sums, Some(stream));
                    self.0.insert(stem, sums);
                }
            }
            Some((_, "sums")) => {
                if let Some(sums) = self.0.get_mut(name) {
                    *sums = resum(sums, None);
                }
            }
            Some((stem, "parquet")) => self.update_manifest(stem, name),
            _ => {
                let Some(manifest) = self.0.get_mut(name) else { return };
                if let Some((own, _)) = String::from_utf8_lossy(manifest).rsplit_once(",\"crc32\":") {
                    *manifest = with_sum(own.strip_prefix(START).unwrap_or(own));
                }
            }
        }
    }

    /// Puts the size and the sum of a sealed file into the manifest.
    fn update_manifest(&mut self, stem: &str, name: &str) {
        let (Some(content), Some(manifest)) = (self.0.get(name), self.0.get(MANIFEST)) else { return };
        let Ok(mut envelope) = serde_json::from_slice::<Value>(manifest) else { return };
        let Some((table, number)) = stem.split_once('-') else { return };
        let segments = envelope["recording"]["segments"].as_array_mut();
        for segment in segments.into_iter().flatten() {
            if Some(segment["number"].to_string()) != number.parse().ok().map(|number: u32| number.to_string()) {
                continue;
            }
            for file in segment["files"].as_array_mut().into_iter().flatten() {
                if file["table"] == table {
                    file["bytes"] = content.len().into();
                    file["crc32"] = crc32fast::hash(content).into();
                }
            }
        }
        self.0.insert(MANIFEST.to_owned(), with_sum(&envelope["recording"].to_string()));
    }

    /// The same without compression.
    fn plain(&self) -> Self {
        let mut plain = self.clone();
        for (name, content) in &self.0 {
            let stem = name.rsplit_once('.').map_or("", |(stem, _)| stem);
            if name.ends_with(".parquet") {
                plain.0.insert(name.clone(), plain_parquet(content));
                plain.update_sums(name);
            } else if let (true, Some(sums)) = (name.ends_with(".arrows"), self.0.get(&format!("{stem}.sums"))) {
                let (stream, sums) = plain_stream(content, sums);
                plain.0.insert(name.clone(), stream);
                plain.0.insert(format!("{stem}.sums"), sums);
                plain.update_sums(name);
            }
        }
        plain
    }
}

const START: &str = "{\"recording\":";

fn with_sum(recording: &str) -> Vec<u8> {
    format!("{START}{recording},\"crc32\":{}}}\n", crc32fast::hash(recording.as_bytes())).into_bytes()
}

fn extend(crc: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(crc);
    hasher.update(bytes);
    hasher.finalize()
}

/// Length of the part before the entries, without its sum.
fn header(sums: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes(*sums.get(8..)?.first_chunk()?) as usize;
    Some(12 + length).filter(|header| header + 4 <= sums.len())
}

/// Computes the sums in a file of sums again, and those of its stream if it is given. All that is left of the stream
/// counts as part of the last entry.
fn resum(sums: &[u8], stream: Option<&Vec<u8>>) -> Vec<u8> {
    let mut sums = sums.to_vec();
    let Some(header) = header(&sums) else { return sums };
    let (head, entries) = sums.split_at_mut(header + 4);
    let mut chain = extend(0, &head[..header]);
    head[header..].copy_from_slice(&chain.to_le_bytes());
    let mut rest = stream.map(Vec::as_slice);
    let count = entries.len() / ENTRY;
    for (index, entry) in entries.chunks_exact_mut(ENTRY).enumerate() {
        if let (Some(left), Some(length)) = (rest, entry.first_chunk()) {
            let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX).min(left.len());
            let (own, after) = left.split_at(if index + 1 == count { left.len() } else { length });
            entry[..8].copy_from_slice(&(own.len() as u64).to_le_bytes());
            entry[32..SUMMED].copy_from_slice(&crc32fast::hash(own).to_le_bytes());
            rest = Some(after);
        }
        chain = extend(chain, &entry[..SUMMED]);
        entry[SUMMED..].copy_from_slice(&chain.to_le_bytes());
    }
    sums
}

fn plain_parquet(content: &[u8]) -> Vec<u8> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let content = Bytes::copy_from_slice(content);
    let reader = ParquetRecordBatchReaderBuilder::try_new_with_options(content, options).expect("a golden file");
    let label = reader.metadata().file_metadata().key_value_metadata().cloned();
    let properties = WriterProperties::builder().set_key_value_metadata(label).build();
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), reader.schema().clone(), options).expect("a writer");
    for batch in reader.build().expect("a golden file") {
        writer.write(&batch.expect("a golden batch")).expect("a batch in memory");
    }
    writer.into_inner().expect("a file in memory")
}

fn plain_stream(stream: &[u8], sums: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let header = header(sums).expect("golden sums");
    let mut plain = Vec::new();
    let mut whole = sums[..header + 4].to_vec();
    let mut rest = stream;
    let mut decoder = StreamDecoder::new();
    let mut encoder: Option<StreamEncoder> = None;
    for entry in sums[header + 4..].chunks_exact(ENTRY) {
        let length = entry.first_chunk().map_or(0, |length| u64::from_le_bytes(*length)) as usize;
        let (own, after) = rest.split_at(length);
        rest = after;
        let batch = decoder.decode(&mut Buffer::from(own)).expect("a golden batch");
        let before = plain.len();
        if let Some(batch) = batch {
            let encoder = encoder.get_or_insert_with(|| {
                StreamEncoder::try_new_with_options(&batch.schema(), IpcWriteOptions::default()).expect("an encoder")
            });
            for buffer in encoder.encode(&batch).expect("a batch in memory") {
                plain.extend_from_slice(&buffer);
            }
        }
        whole.extend_from_slice(&((plain.len() - before) as u64).to_le_bytes());
        whole.extend_from_slice(&entry[8..]);
    }
    (plain, whole)
}
