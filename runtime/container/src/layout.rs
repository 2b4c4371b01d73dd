//! Where the entries of a new bundle go, and the bytes that follow the last one. Pure arithmetic: the caller copies the
//! data to the offsets computed here.

use crate::directory::{self, Method, Record, Seal};
use crate::{ALIGNMENT_BYTES, DIRECTORY_MAX_BYTES, Digest, Error, MANIFEST_NAME, Manifest};

/// What determines where an entry goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Name in the zip directory.
    pub name: String,
    /// Bytes in the file.
    pub stored_bytes: u64,
    /// Whether the data begins on a multiple of [`ALIGNMENT_BYTES`].
    pub aligned: bool,
}

/// Offsets of the local headers of `items`, in the same order, after a program of `program_bytes`.
///
/// # Errors
/// [`Error::Unwritable`] when the file would have 2^63 bytes or more.
pub fn place(program_bytes: u64, items: &[Item]) -> Result<Vec<u64>, Error> {
    let mut end = program_bytes;
    items.iter().map(|item| place_one(&mut end, item).ok_or_else(too_large)).collect()
}

fn place_one(end: &mut u64, item: &Item) -> Option<u64> {
    let header_bytes = directory::local_header_bytes(&item.name);
    let mut data = end.checked_add(header_bytes)?;
    if item.aligned {
        data = data.checked_next_multiple_of(ALIGNMENT_BYTES)?;
    }
    *end = data.checked_add(item.stored_bytes).filter(|end| *end < 1 << 63)?;
    Some(data - header_bytes)
}

fn too_large() -> Error {
    Error::Unwritable("the file would be larger than any file system allows".to_owned())
}

/// The bytes that follow the last entry's data: `manifest.json`, the central directory and the tail.
///
/// `records` are the entries in file order; `end` is where the last one's data ends.
///
/// # Errors
/// [`Error::Unwritable`] for a manifest or a directory that exceeds the format's limits.
pub fn closing(
    manifest: &Manifest,
    mut records: Vec<Record>,
    end: u64,
    program: Digest,
    program_bytes: u64,
) -> Result<Vec<u8>, Error> {
    let json = manifest.to_bytes()?;
    let record = Record {
        name: MANIFEST_NAME.to_owned(),
        method: Method::Stored,
        crc32: crc32fast::hash(&json),
        stored_bytes: json.len() as u64,
        size: json.len() as u64,
        header_offset: end,
    };
    let mut out = directory::local_header(&record);
    out.extend_from_slice(&json);
    records.push(record);
    let central = directory::central_directory(&records);
    if central.len() as u64 > DIRECTORY_MAX_BYTES {
        return Err(Error::Unwritable(format!(
            "the directory would have {} bytes, more than {DIRECTORY_MAX_BYTES}: give the page fewer files",
            central.len()
        )));
    }
    let offset = end.checked_add(out.len() as u64).ok_or_else(too_large)?;
    let seal = Seal { format: manifest.format, payload: Digest::of(&json), program, program_bytes };
    let tail = directory::tail(&central, records.len() as u64, offset, &seal);
    out.extend_from_slice(&central);
    out.extend_from_slice(&tail);
    Ok(out)
}

/// Deflates `bytes` if that saves at least a tenth; otherwise they are stored. Not for weights.
pub fn compress(bytes: Vec<u8>) -> (Method, Vec<u8>) {
    use std::io::Write;
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    match encoder.write_all(&bytes).and_then(|()| encoder.finish()) {
        Ok(smaller) if smaller.len() < bytes.len() / 10 * 9 => (Method::Deflated, smaller),
        _ => (Method::Stored, bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_data_begins_on_the_boundary_wherever_the_program_ends() {
        let item = |name: &str, stored_bytes, aligned| Item { name: name.to_owned(), stored_bytes, aligned };
        for program_bytes in [0, 1, 65_400, 65_475, 65_476, 65_477, 65_535, 65_536, 7 << 20] {
            let items = [item("model.gguf", 5, true), item("b.gguf", 70_000, true), item("ui/x", 3, false)];
            let offsets = place(program_bytes, &items).unwrap();
            let data = |i: usize| offsets[i] + directory::local_header_bytes(&items[i].name);
            assert!(offsets[0] >= program_bytes && offsets[0] < program_bytes + ALIGNMENT_BYTES);
            assert_eq!((data(0) % ALIGNMENT_BYTES, data(1) % ALIGNMENT_BYTES), (0, 0));
            assert!(offsets[1] >= data(0) + 5);
            assert_eq!(offsets[2], data(1) + 70_000);
        }
        assert!(place(1, &[item("model.gguf", u64::MAX - 3, true)]).is_err());
        assert!(place(1, &[item("model.gguf", 1 << 63, true)]).is_err());
    }
}
