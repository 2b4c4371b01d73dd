//! Opening a bundle: from the file's last bytes to a checked list of entries, without touching the model's data.
//!
//! The file is untrusted. The seal (a SHA-256 in the zip comment) covers everything from the central directory to the end
//! of the file, including the manifest's SHA-256, so corruption there is detected on opening; zip's CRC-32 does not cover
//! the directory. Against crafted files, every record is re-encoded from its parsed fields and must give the same bytes,
//! and entries must lie inside the file, in order, without overlap.

use std::borrow::Cow;
use std::io::{Cursor, Read, Seek, SeekFrom};

use crate::directory::{self, Method, Record, TAIL_BYTES};
use crate::{
    ALIGNMENT_BYTES, DIRECTORY_MAX_BYTES, Digest, ENTRIES_MAX, EntryKind, Error, FORMAT, MANIFEST_MAX_BYTES,
    MANIFEST_NAME, Manifest, program,
};

/// An opened bundle: its manifest and the location of its entries.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The manifest.
    pub manifest: Manifest,
    /// Length of the program, which starts at offset 0.
    pub program_bytes: u64,
    /// SHA-256 of the program as packed; [`Bundle::open`] does not verify it.
    pub program_sha256: Digest,
    /// SHA-256 of the manifest, and so of the whole payload. Verified by [`Bundle::open`].
    pub payload_sha256: Digest,
    /// Whether it lies in a Mach-O segment, so that the program continues after it.
    pub in_segment: bool,
    /// The entry of `manifest.json` itself.
    pub manifest_entry: Entry,
    entries: Vec<Entry>,
    models: usize,
}

/// An entry of an opened bundle. Its range is known to lie inside the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name in the zip directory.
    pub name: String,
    /// What it is for.
    pub kind: EntryKind,
    /// Offset of its data from the start of the file.
    pub offset: u64,
    /// Bytes in the file; the same as `size` unless deflated.
    pub stored_bytes: u64,
    /// Uncompressed size in bytes.
    pub size: u64,
    /// How the bytes are stored; a model is never compressed.
    pub method: Method,
    /// SHA-256 of the uncompressed bytes, from the manifest.
    pub sha256: Digest,
}

/// Deflate's maximum compression ratio; a larger claimed size is refused.
const DEFLATE_MAX_RATIO: u64 = 1032;

impl Bundle {
    /// Opens the bundle in a file's bytes. `Ok(None)`: the file has no bundle.
    ///
    /// # Errors
    /// [`Error::Damaged`] and [`Error::Newer`] when there is a bundle that cannot be used.
    pub fn open(bytes: &[u8]) -> Result<Option<Self>, Error> {
        Self::open_from(&mut Cursor::new(bytes))
    }

    /// The same for a file that is not mapped.
    ///
    /// # Errors
    /// As [`Bundle::open`], and [`Error::Io`].
    pub fn open_from<R: Read + Seek>(file: &mut R) -> Result<Option<Self>, Error> {
        let file_bytes = file.seek(SeekFrom::End(0))?;
        Self::open_within(file, file_bytes)
    }

    /// The same for a bundle that ends at `file_bytes`, whatever follows it in the file.
    ///
    /// # Errors
    /// As [`Bundle::open_from`].
    pub fn open_within<R: Read + Seek>(file: &mut R, file_bytes: u64) -> Result<Option<Self>, Error> {
        let in_segment = program::segment_end(file).filter(|end| *end <= file_bytes);
        let Some(end) = read_end(file, in_segment.unwrap_or(file_bytes))? else {
            return match program::cut_short(file, file_bytes)? {
                true => Err(Error::damaged(
                    "a bundle begins after the program but its end is missing; the file is truncated",
                )),
                false => Ok(None),
            };
        };
        let seal = end.checked_seal()?;
        let records = end.checked_records(file, seal.program_bytes)?;
        let (manifest_entry, manifest) = read_manifest(file, records.last(), seal.payload)?;
        let entries = matched(&manifest, &records)?;
        let models = entries.iter().take_while(|entry| entry.kind == EntryKind::Model).count();
        Ok(Some(Self {
            manifest,
            program_bytes: seal.program_bytes,
            program_sha256: seal.program,
            payload_sha256: seal.payload,
            in_segment: in_segment.is_some(),
            manifest_entry,
            entries,
            models,
        }))
    }

    /// Every entry but the manifest, in file order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The model's parts, in order. Empty for a bundle without a model.
    pub fn model_entries(&self) -> &[Entry] {
        &self.entries[..self.models]
    }

    /// The adapters, each with its scale.
    pub fn adapter_entries(&self) -> impl Iterator<Item = (&Entry, f32)> {
        let listed = self.entries.iter().zip(&self.manifest.entries);
        let adapters = listed.filter(|(entry, _)| entry.kind == EntryKind::Adapter);
        adapters.map(|(entry, listed)| (entry, listed.scale.unwrap_or(1.0)))
    }

    /// What was computed in advance.
    pub fn state_entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.kind == EntryKind::State)
    }

    /// The programs for other platforms.
    pub fn runtime_entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.kind == EntryKind::Runtime)
    }

    /// The entry of this name.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// The content of an entry other than the model, decompressed and checked against its hash. `bytes` is the whole file.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the content is not what was packed.
    pub fn read<'a>(&self, bytes: &'a [u8], entry: &Entry) -> Result<Cow<'a, [u8]>, Error> {
        let stored = entry.stored_in(bytes).ok_or_else(|| entry.damaged("lies outside the file"))?;
        entry.decode(stored)
    }
}

impl Entry {
    fn new(record: &Record, kind: EntryKind, sha256: Digest) -> Self {
        Self {
            name: record.name.clone(),
            kind,
            offset: record.data_offset(),
            stored_bytes: record.stored_bytes,
            size: record.size,
            method: record.method,
            sha256,
        }
    }

    /// The entry's bytes as stored in the file. `None` when `bytes` is not the whole file.
    pub fn stored_in<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let begin = usize::try_from(self.offset).ok()?;
        let end = begin.checked_add(usize::try_from(self.stored_bytes).ok()?)?;
        bytes.get(begin..end)
    }

    /// Decompresses the entry's `stored` bytes and checks the content against its hash.
    ///
    /// # Errors
    /// [`Error::Damaged`] when it is not what was packed.
    pub fn decode<'a>(&self, stored: &'a [u8]) -> Result<Cow<'a, [u8]>, Error> {
        let content = match self.method {
            Method::Stored => Cow::Borrowed(stored),
            Method::Deflated => Cow::Owned(self.inflated(stored)?),
        };
        if content.len() as u64 != self.size || Digest::of(&content) != self.sha256 {
            return Err(self.damaged("does not match its SHA-256"));
        }
        Ok(content)
    }

    fn inflated(&self, stored: &[u8]) -> Result<Vec<u8>, Error> {
        let mut content = Vec::new();
        // One byte past the declared size is enough for the caller to see the mismatch.
        let mut limited = flate2::read::DeflateDecoder::new(stored).take(self.size.saturating_add(1));
        limited.read_to_end(&mut content).map_err(|_| self.damaged("cannot be inflated"))?;
        if limited.get_ref().total_in() != stored.len() as u64 {
            return Err(self.damaged("does not end where it should"));
        }
        Ok(content)
    }

    fn damaged(&self, what: &str) -> Error {
        Error::Damaged(format!("entry {} {what}", self.name))
    }
}

/// Central directory and tail as read from the file.
struct End {
    directory: Vec<u8>,
    directory_offset: u64,
    entries: u64,
    tail: Vec<u8>,
}

/// Reads directory and tail. `None` when none of the tail's signatures is in place.
fn read_end<R: Read + Seek>(file: &mut R, file_bytes: u64) -> Result<Option<End>, Error> {
    let Some(tail_offset) = file_bytes.checked_sub(TAIL_BYTES as u64) else { return Ok(None) };
    let tail = read_at(file, tail_offset, TAIL_BYTES)?;
    let signs: [(usize, &[u8]); 4] = [
        (0, directory::END64_SIGNATURE),
        (directory::LOCATOR_AT, directory::LOCATOR_SIGNATURE),
        (directory::END_AT, directory::END_SIGNATURE),
        (directory::COMMENT_AT, directory::COMMENT_SIGNATURE),
    ];
    // Any one of the four is enough: a flipped byte in the others must not turn a packed file into a plain program.
    if !signs.iter().any(|(at, sign)| tail[*at..].starts_with(sign)) {
        return Ok(None);
    }
    let [entries, directory_bytes, directory_offset] = [32, 40, 48].map(|at| u64_at(&tail, at));
    if directory_bytes > DIRECTORY_MAX_BYTES
        || entries == 0
        || entries > ENTRIES_MAX as u64
        || directory_offset.checked_add(directory_bytes) != Some(tail_offset)
    {
        return Err(Error::damaged("the zip64 record does not give a valid place for the directory"));
    }
    let directory = read_at(file, directory_offset, directory_bytes as usize)?;
    Ok(Some(End { directory, directory_offset, entries, tail }))
}

impl End {
    /// Verifies the seal's hash over directory and tail, then the tail's fields.
    fn checked_seal(&self) -> Result<directory::Seal, Error> {
        let (sealed, hash) = self.tail.split_at(directory::SEALED_TAIL_BYTES);
        if hash != format!("{}\n", directory::seal_hash(&self.directory, sealed)).as_bytes() {
            return Err(Error::damaged("the directory does not match the seal"));
        }
        let seal = directory::parse_seal(&self.tail).ok_or_else(|| Error::damaged("the seal cannot be read"))?;
        if seal.format > FORMAT {
            return Err(Error::Newer { found: seal.format, known: FORMAT });
        }
        let expected = directory::tail(&self.directory, self.entries, self.directory_offset, &seal);
        if seal.format == 0 || expected != self.tail {
            return Err(Error::damaged("the records at its end contradict each other"));
        }
        Ok(seal)
    }

    /// Parses the directory and checks every record: its encoding, its range, its local header.
    fn checked_records<R: Read + Seek>(&self, file: &mut R, program_bytes: u64) -> Result<Vec<Record>, Error> {
        let records = self.records()?;
        if records.len() as u64 != self.entries || directory::central_directory(&records) != self.directory {
            return Err(Error::damaged("the directory is not as satchel writes it"));
        }
        let mut end = program_bytes;
        for record in &records {
            let name = &record.name;
            crate::name::check(name).map_err(|reason| Error::Damaged(format!("entry {name:?}: {reason}")))?;
            let data_end = record.data_offset().checked_add(record.stored_bytes);
            // Entries are adjacent, except for alignment padding.
            let gap = record.header_offset.checked_sub(end);
            let placed =
                |gap: u64| gap == 0 || gap < ALIGNMENT_BYTES && record.data_offset().is_multiple_of(ALIGNMENT_BYTES);
            let Some(gap) =
                gap.filter(|&gap| placed(gap) && data_end.is_some_and(|data_end| data_end <= self.directory_offset))
            else {
                return Err(Error::Damaged(format!("entry {name} has an invalid offset or size")));
            };
            if read_at(file, end, gap as usize)?.iter().any(|&byte| byte != 0) {
                // No hash covers the padding, so it must not carry data.
                return Err(Error::Damaged(format!("the gap before entry {name} is not all zeros")));
            }
            let header = directory::local_header(record);
            if read_at(file, record.header_offset, header.len())? != header {
                return Err(Error::Damaged(format!("the local header of entry {name} differs from the directory")));
            }
            end = data_end.unwrap_or(u64::MAX);
        }
        Ok(records)
    }

    /// The directory as the `zip` crate parses it. It sees only the end of the file, so crafted records cannot make it
    /// search gigabytes.
    fn records(&self) -> Result<Vec<Record>, Error> {
        let unreadable = |_| Error::damaged("the directory cannot be read");
        let mut end = self.directory.clone();
        end.extend_from_slice(&self.tail);
        let config = zip::read::Config { archive_offset: zip::read::ArchiveOffset::Known(0) };
        let view = EndOfFile { begin: self.directory_offset, bytes: end, position: 0 };
        let archive = zip::ZipArchive::with_config(config, view).map_err(unreadable)?;
        let metadata = archive.metadata();
        (0..metadata.len())
            .map(|index| {
                let entry = metadata.entry(index).map_err(unreadable)?;
                Ok(Record {
                    name: entry.name().map_err(unreadable)?.into_owned(),
                    method: match entry.compression() {
                        zip::CompressionMethod::Stored => Method::Stored,
                        zip::CompressionMethod::Deflated => Method::Deflated,
                        other => return Err(Error::Damaged(format!("an entry has compression {other}"))),
                    },
                    crc32: entry.crc32(),
                    stored_bytes: entry.compressed_size(),
                    size: entry.size(),
                    header_offset: entry.header_start(),
                })
            })
            .collect()
    }
}

fn read_manifest<R: Read + Seek>(
    file: &mut R,
    record: Option<&Record>,
    payload: Digest,
) -> Result<(Entry, Manifest), Error> {
    let record = record
        .filter(|record| record.name == MANIFEST_NAME && record.method == Method::Stored)
        .filter(|record| record.size == record.stored_bytes && record.size <= MANIFEST_MAX_BYTES)
        .ok_or_else(|| Error::damaged("manifest.json is not its last entry"))?;
    let bytes = read_at(file, record.data_offset(), record.size as usize)?;
    if Digest::of(&bytes) != payload {
        return Err(Error::damaged("manifest.json does not match its SHA-256"));
    }
    let manifest = Manifest::parse(&bytes).map_err(|reason| Error::Damaged(format!("manifest.json: {reason}")))?;
    Ok((Entry::new(record, EntryKind::Manifest, payload), manifest))
}

/// Joins the manifest's entries with the directory's records; both must list the same entries.
fn matched(manifest: &Manifest, records: &[Record]) -> Result<Vec<Entry>, Error> {
    if manifest.entries.len() + 1 != records.len() {
        return Err(Error::damaged("manifest.json and the directory list different entries"));
    }
    // `Manifest::parse` limits `size` of entries that are read into memory; the checks below bound `stored_bytes` by it.
    let matched = manifest.entries.iter().zip(records).map(|(listed, record)| {
        let stored = record.method == Method::Stored && record.stored_bytes == record.size;
        let deflated = record.method == Method::Deflated
            && listed.kind.may_be_deflated()
            && record.stored_bytes <= record.size
            && record.size / DEFLATE_MAX_RATIO <= record.stored_bytes;
        let placed = !listed.kind.is_weights() || record.data_offset().is_multiple_of(ALIGNMENT_BYTES);
        if listed.name != record.name || listed.size != record.size || !(stored || deflated) || !placed {
            return Err(Error::Damaged(format!("manifest.json and the directory disagree on entry {}", listed.name)));
        }
        Ok(Entry::new(record, listed.kind, listed.sha256))
    });
    matched.collect()
}

fn read_at<R: Read + Seek>(file: &mut R, offset: u64, bytes: usize) -> Result<Vec<u8>, Error> {
    let mut buffer = vec![0; bytes];
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(&mut buffer)?;
    Ok(buffer)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}

/// A view of the file's end. The `zip` crate searches for its records in blocks that reach before the directory; it reads
/// zeros up to [`EndOfFile::MARGIN_BYTES`] before it, and gets an error further back.
struct EndOfFile {
    begin: u64,
    bytes: Vec<u8>,
    position: u64,
}

impl EndOfFile {
    /// How far that search goes back: more than the longest zip comment and the record before it.
    const MARGIN_BYTES: u64 = 128 * 1024;
}

impl Read for EndOfFile {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let Some(at) = self.position.checked_sub(self.begin) else {
            let before = self.begin - self.position;
            if before > Self::MARGIN_BYTES {
                return Err(std::io::Error::other("before the directory"));
            }
            let read = buffer.len().min(before as usize);
            buffer[..read].fill(0);
            self.position += read as u64;
            return Ok(read);
        };
        let rest = usize::try_from(at).ok().and_then(|at| self.bytes.get(at..)).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for EndOfFile {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let file_bytes = self.begin.saturating_add(self.bytes.len() as u64);
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => file_bytes.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or_else(|| std::io::Error::other("before the start"))?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests;
