//! Inserts a shell script at the start of a PE image: between the DOS header and the other headers, which move towards the
//! end of the first page.
//!
//! Format: Microsoft's "PE Format". Windows uses only one field of the DOS header: the PE header's offset (`e_lfanew`).
//! Everything after the headers moves by the same distance, and so does every file offset; addresses do not change.

/// Position of `e_lfanew`, the PE header's offset.
const LFANEW_AT: usize = 0x3c;
/// Length of the DOS header; the bytes from there to the PE header are free.
const DOS_HEADER_BYTES: usize = 0x40;
const COFF_BYTES: usize = 24;
const SECTION_BYTES: usize = 40;
/// Offsets within the PE header: the optional header follows the COFF header.
const SIZE_OF_HEADERS_AT: usize = COFF_BYTES + 60;
const CHECKSUM_AT: usize = COFF_BYTES + 64;
const DIRECTORIES_AT: usize = COFF_BYTES + 112;
const SECURITY_DIRECTORY: usize = 4;
const DEBUG_DIRECTORY: usize = 6;
/// The headers fill one page: sections are mapped from the next page on.
const PAGE_BYTES: usize = 0x1000;

/// The image with `opening` as its first bytes (beginning with `MZ` and ending before `e_lfanew`) and `script` after its
/// DOS header.
///
/// # Errors
/// The image does not have the expected structure, or the script is too long.
pub(super) fn with_script(image: &[u8], opening: &[u8], script: &str) -> Result<Vec<u8>, String> {
    let old = u32_at(image, LFANEW_AT)? as usize;
    let coff = image.get(old..old + COFF_BYTES).ok_or("its PE header is outside the file")?;
    let sections = usize::from(u16::from_le_bytes([coff[6], coff[7]]));
    let optional_bytes = usize::from(u16::from_le_bytes([coff[20], coff[21]]));
    let header_bytes = COFF_BYTES + optional_bytes + sections * SECTION_BYTES;
    let mut header = image.get(old..old + header_bytes).ok_or("its headers are outside the file")?.to_vec();
    let old_size = u32_at(&header, SIZE_OF_HEADERS_AT)? as usize;
    let added = PAGE_BYTES.checked_sub(old_size).ok_or("its headers fill more than a page")?;
    // A multiple of 256: `e_lfanew` lies within a shell quotation, and its low byte must not be a closing quote.
    let new = PAGE_BYTES.checked_sub(header_bytes).ok_or("its headers fill more than a page")? & !0xff;
    let end = DOS_HEADER_BYTES + script.len();
    if end > new || opening.len() > LFANEW_AT {
        return Err(format!("the script has {} bytes, {} too many", script.len(), end.saturating_sub(new)));
    }
    move_header(&mut header, added as u32, optional_bytes, sections)?;
    let body = image.get(old_size..).ok_or("it is shorter than its headers")?;
    let mut out = vec![0; PAGE_BYTES];
    out[..opening.len()].copy_from_slice(opening);
    out[LFANEW_AT..DOS_HEADER_BYTES].copy_from_slice(&(new as u32).to_le_bytes());
    out[DOS_HEADER_BYTES..end].copy_from_slice(script.as_bytes());
    out[end..new].fill(b'\n');
    out[new..new + header_bytes].copy_from_slice(&header);
    out.extend_from_slice(body);
    move_debug(&mut out, new, sections, optional_bytes, added as u32)?;
    Ok(out)
}

/// Adds the distance to every file offset of the headers.
fn move_header(header: &mut [u8], added: u32, optional_bytes: usize, sections: usize) -> Result<(), String> {
    if u32_at(header, directory(SECURITY_DIRECTORY))? != 0 {
        return Err("it is signed, and the signature would become invalid".to_owned());
    }
    if u32_at(header, 12)? != 0 {
        return Err("it has a symbol table: strip it".to_owned());
    }
    put(header, SIZE_OF_HEADERS_AT, PAGE_BYTES as u32);
    put(header, CHECKSUM_AT, 0); // Windows only checks it for drivers
    for index in 0..sections {
        let at = COFF_BYTES + optional_bytes + index * SECTION_BYTES;
        let (address, offset) = (u32_at(header, at + 12)?, u32_at(header, at + 20)?);
        if (address as usize) < PAGE_BYTES {
            return Err("a section begins within the first page".to_owned());
        }
        if offset != 0 {
            put(header, at + 20, moved(offset, added)?);
        }
    }
    Ok(())
}

/// Adjusts the debug directory, whose entries contain file offsets.
fn move_debug(out: &mut [u8], new: usize, sections: usize, optional_bytes: usize, added: u32) -> Result<(), String> {
    let address = u32_at(out, new + directory(DEBUG_DIRECTORY))?;
    let bytes = u32_at(out, new + directory(DEBUG_DIRECTORY) + 4)?;
    if address == 0 {
        return Ok(());
    }
    for index in 0..sections {
        let at = new + COFF_BYTES + optional_bytes + index * SECTION_BYTES;
        let (begin, stored, offset) = (u32_at(out, at + 12)?, u32_at(out, at + 16)?, u32_at(out, at + 20)?);
        let Some(within) = address.checked_sub(begin).filter(|within| *within < stored) else { continue };
        for entry in (0..bytes).step_by(28) {
            let field = offset as usize + within as usize + entry as usize + 24;
            let pointer = u32_at(out, field)?;
            if pointer != 0 {
                put(out, field, moved(pointer, added)?);
            }
        }
    }
    Ok(())
}

/// A file offset moved by `added`.
fn moved(offset: u32, added: u32) -> Result<u32, String> {
    offset.checked_add(added).ok_or_else(|| "it refers to bytes beyond 4 GiB".to_owned())
}

/// Offset of a data directory within the PE header.
fn directory(index: usize) -> usize {
    DIRECTORIES_AT + index * 8
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, String> {
    let field = bytes.get(at..at + 4).ok_or("its headers are truncated")?;
    Ok(u32::from_le_bytes([field[0], field[1], field[2], field[3]]))
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const PE: usize = 0x40;
    const OPTIONAL: usize = PE + COFF_BYTES;
    const SECTION: usize = OPTIONAL + 240;
    const BODY: usize = 0x200;

    /// An image with one section that contains a debug entry.
    fn image() -> Vec<u8> {
        let mut image = vec![0; BODY + 0x100];
        image[..2].copy_from_slice(b"MZ");
        put(&mut image, LFANEW_AT, PE as u32);
        image[PE..PE + 4].copy_from_slice(b"PE\0\0");
        image[PE + 6] = 1;
        image[PE + 20] = 240;
        put(&mut image, PE + SIZE_OF_HEADERS_AT, BODY as u32);
        put(&mut image, PE + directory(DEBUG_DIRECTORY), 0x1080);
        put(&mut image, PE + directory(DEBUG_DIRECTORY) + 4, 28);
        for (at, value) in [(12, 0x1000), (16, 0x100), (20, BODY as u32)] {
            put(&mut image, SECTION + at, value);
        }
        put(&mut image, BODY + 0x80 + 24, 0x2c0);
        image
    }

    #[test]
    fn everything_after_the_headers_moves_by_the_same_distance() {
        let moved = with_script(&image(), b"MZx='\n", "'\n").unwrap();
        let header = u32_at(&moved, LFANEW_AT).unwrap() as usize;
        assert!(header.is_multiple_of(256) && moved[header..].starts_with(b"PE\0\0"));
        let added = (PAGE_BYTES - BODY) as u32;
        assert_eq!(u32_at(&moved, header + SECTION - PE + 20), Ok(BODY as u32 + added));
        assert_eq!(u32_at(&moved, PAGE_BYTES + 0x80 + 24), Ok(0x2c0 + added));
        assert_eq!(moved.len(), PAGE_BYTES + 0x100);
    }

    /// Any value in the headers gives a result or a one-line error, never a panic.
    #[test]
    fn damaged_headers_are_refused() {
        for at in (0..SECTION + SECTION_BYTES).step_by(2).chain([BODY + 0x80 + 24]) {
            for value in [0_u32, 1, 0x3ff, 0xfff, 0xffff, 0x7fff_ffff, u32::MAX] {
                let mut damaged = image();
                put(&mut damaged, at, value);
                if let Err(line) = with_script(&damaged, b"MZx='\n", "'\n") {
                    assert!(!line.is_empty() && !line.contains('\n'), "byte {at}: {line:?}");
                }
            }
        }
        for (at, value) in [(SECTION + 20, u32::MAX), (BODY + 0x80 + 24, u32::MAX), (PE + 6, 0xffff_ffff)] {
            let mut damaged = image();
            put(&mut damaged, at, value);
            assert!(with_script(&damaged, b"MZx='\n", "'\n").is_err(), "byte {at}");
        }
        let whole = image();
        for end in 0..SECTION + SECTION_BYTES {
            assert!(with_script(&whole[..end], b"MZx='\n", "'\n").is_err(), "truncated to {end} bytes");
        }
    }
}
