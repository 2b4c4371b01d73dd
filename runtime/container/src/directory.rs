//! Zip records of a bundle, in their one permitted form: local headers, central directory, zip64 records, comment.
//!
//! The `zip` crate reads these records but cannot write them: it aligns with an extra field of at most 65 535 bytes, which
//! is short of 64 KiB, and it writes an entry's data itself, which rules out `copy_file_range`. Here the padding goes
//! before the local header, outside any record, so that the data after the header is aligned. Sizes and offsets always use
//! zip64, so that small and large bundles take the same code path. Timestamps are 1980-01-01, the zip epoch: the same
//! input gives the same bytes.

use crate::{Digest, FORMAT};

/// How an entry's bytes are stored in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Uncompressed.
    Stored,
    /// Raw deflate.
    Deflated,
}

/// An entry of the zip directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Name, checked by [`crate::name::check`].
    pub name: String,
    /// How the bytes are stored.
    pub method: Method,
    /// CRC-32 of the uncompressed bytes, which zip tools check.
    pub crc32: u32,
    /// Bytes in the file.
    pub stored_bytes: u64,
    /// Uncompressed size in bytes.
    pub size: u64,
    /// Offset of the local header.
    pub header_offset: u64,
}

impl Record {
    /// Offset of the entry's data.
    pub fn data_offset(&self) -> u64 {
        self.header_offset.saturating_add(local_header_bytes(&self.name))
    }
}

/// Contents of the zip comment at the end of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Format version.
    pub format: u32,
    /// SHA-256 of `manifest.json`, which lists the SHA-256 of every other entry.
    pub payload: Digest,
    /// SHA-256 of the program's bytes.
    pub program: Digest,
    /// Length of the program, which starts at offset 0.
    pub program_bytes: u64,
}

const VERSION_NEEDED: u16 = 45; // zip64
const MADE_BY_UNIX: u16 = 3 << 8 | VERSION_NEEDED;
const NAME_IS_UTF8: u16 = 1 << 11;
const DOS_DATE_1980_01_01: u16 = 1 << 5 | 1;
const REGULAR_FILE_0644: u32 = 0o100_644 << 16;
const ZIP64_EXTRA: u16 = 1;
const IN_ZIP64: u32 = u32::MAX;
const SHA256_HEX_BYTES: usize = 64;

pub(crate) const END64_SIGNATURE: &[u8; 4] = b"PK\x06\x06";
pub(crate) const LOCATOR_SIGNATURE: &[u8; 4] = b"PK\x06\x07";
pub(crate) const END_SIGNATURE: &[u8; 4] = b"PK\x05\x06";
pub(crate) const LOCAL_SIGNATURE: &[u8; 4] = b"PK\x03\x04";
pub(crate) const COMMENT_SIGNATURE: &[u8; 15] = b"Satchel bundle,";

// Offsets of the records within the tail, the last `TAIL_BYTES` of the file.
pub(crate) const LOCATOR_AT: usize = 56;
pub(crate) const END_AT: usize = LOCATOR_AT + 20;
pub(crate) const COMMENT_AT: usize = END_AT + 22;
/// Length of the comment. Fixed for all format versions, so that any version finds the tail.
const COMMENT_BYTES: usize = 28 + 80 + 107 + 77;
/// Length of everything after the central directory.
pub const TAIL_BYTES: usize = COMMENT_AT + COMMENT_BYTES;
/// The hash in the comment's last line covers the central directory and this much of the tail.
pub(crate) const SEALED_TAIL_BYTES: usize = TAIL_BYTES - SHA256_HEX_BYTES - 1;

/// Length of an entry's local header.
pub fn local_header_bytes(name: &str) -> u64 {
    30 + name.len() as u64 + 20
}

/// An entry's local header; the data follows immediately.
pub fn local_header(record: &Record) -> Vec<u8> {
    let mut out = LOCAL_SIGNATURE.to_vec();
    push_u16(&mut out, VERSION_NEEDED);
    push_common(&mut out, record, 20);
    out.extend_from_slice(record.name.as_bytes());
    push_u16(&mut out, ZIP64_EXTRA);
    push_u16(&mut out, 16);
    push_u64(&mut out, record.size);
    push_u64(&mut out, record.stored_bytes);
    out
}

/// The central directory of `records`.
pub fn central_directory(records: &[Record]) -> Vec<u8> {
    let mut out = Vec::new();
    for record in records {
        out.extend_from_slice(b"PK\x01\x02");
        push_u16(&mut out, MADE_BY_UNIX);
        push_u16(&mut out, VERSION_NEEDED);
        push_common(&mut out, record, 28);
        push_u16(&mut out, 0); // comment
        push_u16(&mut out, 0); // disk
        push_u16(&mut out, 0); // internal attributes
        push_u32(&mut out, REGULAR_FILE_0644);
        push_u32(&mut out, IN_ZIP64);
        out.extend_from_slice(record.name.as_bytes());
        push_u16(&mut out, ZIP64_EXTRA);
        push_u16(&mut out, 24);
        push_u64(&mut out, record.size);
        push_u64(&mut out, record.stored_bytes);
        push_u64(&mut out, record.header_offset);
    }
    out
}

/// Everything after the central directory: [`TAIL_BYTES`] bytes that end with the hash of directory and tail.
/// `offset` is where `directory` begins in the file.
pub fn tail(directory: &[u8], entries: u64, offset: u64, seal: &Seal) -> Vec<u8> {
    let directory_bytes = directory.len() as u64;
    let mut out = END64_SIGNATURE.to_vec();
    push_u64(&mut out, 44); // bytes that follow
    push_u16(&mut out, MADE_BY_UNIX);
    push_u16(&mut out, VERSION_NEEDED);
    push_u32(&mut out, 0); // this disk
    push_u32(&mut out, 0); // the directory's disk
    push_u64(&mut out, entries);
    push_u64(&mut out, entries);
    push_u64(&mut out, directory_bytes);
    push_u64(&mut out, offset);

    out.extend_from_slice(LOCATOR_SIGNATURE);
    push_u32(&mut out, 0);
    push_u64(&mut out, offset.saturating_add(directory_bytes));
    push_u32(&mut out, 1);

    out.extend_from_slice(END_SIGNATURE);
    push_u16(&mut out, 0);
    push_u16(&mut out, 0);
    push_u16(&mut out, u16::MAX);
    push_u16(&mut out, u16::MAX);
    push_u32(&mut out, IN_ZIP64);
    push_u32(&mut out, IN_ZIP64);
    push_u16(&mut out, COMMENT_BYTES as u16);

    let comment = format!(
        "Satchel bundle, format {:<4}\npayload sha256 {}\nprogram sha256 {} bytes {:020}\nseal sha256 ",
        seal.format, seal.payload, seal.program, seal.program_bytes
    );
    out.extend_from_slice(comment.as_bytes());
    let hash = seal_hash(directory, &out);
    out.extend_from_slice(hash.to_string().as_bytes());
    out.push(b'\n');
    debug_assert_eq!(out.len(), TAIL_BYTES);
    out
}

/// The seal's hash: over the central directory and the tail up to the hash itself.
pub(crate) fn seal_hash(directory: &[u8], sealed_tail: &[u8]) -> Digest {
    use sha2::{Digest as _, Sha256};
    Digest(Sha256::new().chain_update(directory).chain_update(sealed_tail).finalize().into())
}

/// Parses the seal of a tail whose hash was verified. `None` when the text is not as [`tail`] writes it.
pub(crate) fn parse_seal(tail: &[u8]) -> Option<Seal> {
    let text = std::str::from_utf8(tail.get(COMMENT_AT..)?).ok()?;
    let mut lines = text.lines();
    let format = lines.next()?.strip_prefix("Satchel bundle, format ")?.trim_end().parse().ok()?;
    if format > FORMAT {
        // A newer format may change the remaining lines.
        return Some(Seal { format, payload: Digest([0; 32]), program: Digest([0; 32]), program_bytes: 0 });
    }
    let payload = lines.next()?.strip_prefix("payload sha256 ")?.parse().ok()?;
    let (program, bytes) = lines.next()?.strip_prefix("program sha256 ")?.split_once(" bytes ")?;
    Some(Seal { format, payload, program: program.parse().ok()?, program_bytes: bytes.parse().ok()? })
}

/// Appends the fields that local header and central directory share, from the flags to the extra field's length.
fn push_common(out: &mut Vec<u8>, record: &Record, extra_bytes: u16) {
    push_u16(out, NAME_IS_UTF8);
    push_u16(out, if record.method == Method::Stored { 0 } else { 8 });
    push_u16(out, 0); // time
    push_u16(out, DOS_DATE_1980_01_01);
    push_u32(out, record.crc32);
    push_u32(out, IN_ZIP64);
    push_u32(out, IN_ZIP64);
    push_u16(out, record.name.len() as u16); // `name::check` allows 512
    push_u16(out, extra_bytes);
}

fn push_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn push_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn push_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_has_fixed_length_and_its_seal_parses_back() {
        let seal = Seal { format: 1, payload: Digest::of(b"a"), program: Digest::of(b"b"), program_bytes: u64::MAX };
        let bytes = tail(b"directory", 3, 1 << 40, &seal);
        assert_eq!(bytes.len(), TAIL_BYTES);
        assert_eq!(&bytes[END_AT..END_AT + 4], END_SIGNATURE);
        assert!(bytes[COMMENT_AT..].starts_with(COMMENT_SIGNATURE));
        assert_eq!(parse_seal(&bytes), Some(seal));
    }
}
