//! Finds the end of the executable in a file without a bundle tail: a truncated packed file (an interrupted download)
//! still starts, and must not be mistaken for a program without a model.
//!
//! The executable's own headers give its length; a bundle's first local header follows within one alignment step.

use std::io::{Read, Seek, SeekFrom};

use object::read::elf::FileHeader as _;
use object::{Object, ObjectSegment, ReadCache};

use crate::{
    ALIGNMENT_BYTES, MACHO_SEGMENT, directory::LOCAL_SIGNATURE, directory::local_header_bytes, name::NAME_MAX_BYTES,
};

/// Whether a bundle's first entry follows the program; the caller has found that the bundle's tail is missing.
pub(crate) fn cut_short<R: Read + Seek>(file: &mut R, file_bytes: u64) -> std::io::Result<bool> {
    let Some(program_bytes) = program_bytes(file).filter(|end| *end < file_bytes) else { return Ok(false) };
    let mut window = Vec::new();
    file.seek(SeekFrom::Start(program_bytes))?;
    let window_bytes = (ALIGNMENT_BYTES + NAME_MAX_BYTES as u64 + 64).min(file_bytes - program_bytes);
    file.take(window_bytes).read_to_end(&mut window)?;
    // Padding zeros, then a local header; anything else is not a bundle.
    let Some(at) = window.iter().position(|byte| *byte != 0) else { return Ok(false) };
    let header = &window[at..];
    let Some(name_bytes) = header.get(26..28) else { return Ok(header.starts_with(LOCAL_SIGNATURE)) };
    let name_bytes = usize::from(u16::from_le_bytes([name_bytes[0], name_bytes[1]]));
    let data_offset = program_bytes + at as u64 + local_header_bytes("") + name_bytes as u64;
    Ok(header.starts_with(LOCAL_SIGNATURE) && data_offset.is_multiple_of(ALIGNMENT_BYTES))
}

/// Whether a file that begins with `head` (at least 16 bytes) is a 64-bit ELF, PE or Mach-O executable.
pub fn is_executable(head: &[u8]) -> bool {
    use object::FileKind;
    matches!(FileKind::parse(head), Ok(FileKind::Elf64 | FileKind::Pe64 | FileKind::MachO64 | FileKind::MachOFat64))
}

/// End offset of the bundle in a Mach-O segment; `None` if the file has no such segment.
pub(crate) fn segment_end<R: Read + Seek>(file: &mut R) -> Option<u64> {
    let mut magic = [0; 4];
    file.seek(SeekFrom::Start(0)).and_then(|_| file.read_exact(&mut magic)).ok()?;
    if magic != object::macho::MH_MAGIC_64.to_le_bytes() {
        return None;
    }
    let cache = ReadCache::new(file);
    let parsed = object::File::parse(&cache).ok()?;
    let segment = parsed.segments().find(|segment| segment.name_bytes() == Ok(Some(MACHO_SEGMENT)))?;
    let (offset, bytes) = segment.file_range();
    offset.checked_add(bytes)
}

/// Length of the executable according to its headers; `None` if the file is not an executable.
fn program_bytes<R: Read + Seek>(file: &mut R) -> Option<u64> {
    let cache = ReadCache::new(file);
    let parsed = object::File::parse(&cache).ok()?;
    let mut end = 0_u64;
    for segment in parsed.segments() {
        let (offset, bytes) = segment.file_range();
        end = end.max(offset.checked_add(bytes)?);
    }
    // The section header table follows the segments and belongs to none of them.
    if let object::File::Elf64(elf) = &parsed {
        let (header, endian) = (elf.elf_header(), elf.endian());
        let table = u64::from(header.e_shnum(endian)) * u64::from(header.e_shentsize(endian));
        end = end.max(header.e_shoff(endian).checked_add(table)?);
    }
    Some(end)
}
