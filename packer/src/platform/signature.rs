//! Reads an ad-hoc signature of a Mach-O program: SHA-256 of each page, as the linker writes it without a certificate.
//!
//! macOS on Apple silicon does not run unsigned programs, and kills a program at the first page whose hash is wrong. The
//! format is that of Apple's published sources: `osfmk/kern/cs_blobs.h` in xnu (`CS_SuperBlob`, `CS_BlobIndex`,
//! `CS_CodeDirectory`). Numbers are big-endian; offsets are relative to the start of their blob.
//!
//! Not here: verifying a certificate, which is up to the system.

use sha2::{Digest as _, Sha256};

/// `CSMAGIC_EMBEDDED_SIGNATURE`: blobs and an index of them.
const SUPER_BLOB: u32 = 0xfade_0cc0;
/// `CSMAGIC_CODEDIRECTORY`.
const CODE_DIRECTORY: u32 = 0xfade_0c02;
/// `CSSLOT_CODEDIRECTORY`: the slot of the primary code directory.
const DIRECTORY_SLOT: u32 = 0;
/// `CS_ADHOC`: signed without a certificate.
const AD_HOC: u32 = 2;
/// `CS_HASHTYPE_SHA256`.
const SHA_256: u8 = 2;
const HASH_BYTES: usize = 32;

/// A signature's contents, verified against the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Made without a certificate.
    pub ad_hoc: bool,
    /// Number of bytes it covers, from the start of the file.
    pub covered_bytes: u64,
    /// Offset of the signature itself.
    pub offset: u64,
    /// End offset of the signature.
    pub end: u64,
    /// Number of hashed pages.
    pub pages: usize,
    /// Indices of pages whose hash does not match.
    pub wrong_pages: Vec<usize>,
}

/// Reads the signature at `offset` and hashes the pages it covers.
///
/// # Errors
/// One line: the signature lies outside the program, is truncated, or is of an unknown kind.
pub(super) fn read(program: &[u8], offset: u32, bytes: u32) -> Result<Signature, String> {
    let (from, length) = (offset as usize, bytes as usize);
    let blobs = part(program, from, length).ok_or("its signature lies outside the file")?;
    let directory = directory(blobs).ok_or("its signature has no code directory")?;
    let hashes = Hashes::read(directory).ok_or("the code directory of its signature is truncated or not SHA-256")?;
    let covered = part(program, 0, hashes.covered).ok_or("its signature covers more than the file")?;
    let pages = covered.chunks(hashes.page_bytes);
    if pages.len() != hashes.slots.len() / HASH_BYTES {
        return Err("its signature does not have one hash per page".to_owned());
    }
    let wrong = |(page, hash): (&[u8], &[u8])| Sha256::digest(page)[..] != *hash;
    let wrong_pages = pages.zip(hashes.slots.chunks(HASH_BYTES)).map(wrong).enumerate();
    Ok(Signature {
        ad_hoc: hashes.flags & AD_HOC != 0,
        covered_bytes: hashes.covered as u64,
        offset: u64::from(offset),
        end: from as u64 + length as u64,
        pages: hashes.slots.len() / HASH_BYTES,
        wrong_pages: wrong_pages.filter_map(|(page, wrong)| wrong.then_some(page)).collect(),
    })
}

fn part(bytes: &[u8], from: usize, length: usize) -> Option<&[u8]> {
    bytes.get(from..from.checked_add(length)?)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(part(bytes, at, 4)?.try_into().ok()?))
}

/// Finds the code directory among the blobs; the index gives each blob's type and offset.
fn directory(blobs: &[u8]) -> Option<&[u8]> {
    if number(blobs, 0)? != SUPER_BLOB {
        return None;
    }
    for index in 0..number(blobs, 8)? as usize {
        let entry = part(blobs, index.checked_mul(8)?.checked_add(12)?, 8)?;
        if number(entry, 0)? == DIRECTORY_SLOT {
            let at = number(entry, 4)? as usize;
            return part(blobs, at, number(blobs, at.checked_add(4)?)? as usize);
        }
    }
    None
}

/// The fields of a code directory that are checked.
struct Hashes<'a> {
    flags: u32,
    covered: usize,
    page_bytes: usize,
    /// The hashes, one after another.
    slots: &'a [u8],
}

impl<'a> Hashes<'a> {
    /// Bytes 8 to 44: version, flags, hash offset, identifier offset, special slots, code slots, code limit; then one
    /// byte each: hash size, hash type, platform, and the page size as a power of two.
    fn read(directory: &'a [u8]) -> Option<Self> {
        let byte = |at: usize| directory.get(at).copied();
        let power = u32::from(byte(39)?);
        if number(directory, 0)? != CODE_DIRECTORY
            || byte(36)? as usize != HASH_BYTES
            || byte(37)? != SHA_256
            || !(12..=16).contains(&power)
        {
            return None;
        }
        let slots = (number(directory, 28)? as usize).checked_mul(HASH_BYTES)?;
        Some(Self {
            flags: number(directory, 12)?,
            covered: number(directory, 32)? as usize,
            page_bytes: 1 << power,
            slots: part(directory, number(directory, 16)? as usize, slots)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `covered` bytes of code followed by their signature, and the signature's offset.
    fn signed(covered: usize) -> (Vec<u8>, u32) {
        let mut program: Vec<u8> = (0..covered).map(|index| (index / 7) as u8).collect();
        let hashes: Vec<u8> = program.chunks(4096).flat_map(Sha256::digest).collect();
        let slots = (hashes.len() / HASH_BYTES) as u32;
        let directory_bytes = 48 + hashes.len() as u32;
        let mut words = vec![SUPER_BLOB, 20 + directory_bytes, 1, DIRECTORY_SLOT, 20];
        words.extend([CODE_DIRECTORY, directory_bytes, 0x20400, AD_HOC, 48, 44, 0, slots, covered as u32]);
        program.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        program.extend([32, SHA_256, 0, 12, 0, 0, 0, 0, b's', 0, 0, 0]);
        program.extend(hashes);
        (program, covered as u32)
    }

    fn check(program: &[u8], offset: u32) -> Result<Signature, String> {
        read(program, offset, program.len() as u32 - offset)
    }

    #[test]
    fn every_page_is_hashed_including_a_partial_last_one() {
        for covered in [1, 4096, 4097, 10_000] {
            let (program, offset) = signed(covered);
            let signature = check(&program, offset).unwrap();
            assert!(signature.ad_hoc && signature.wrong_pages.is_empty(), "{signature:?}");
            assert_eq!((signature.pages, signature.end), (covered.div_ceil(4096), program.len() as u64));
            assert_eq!(signature.covered_bytes, signature.offset);
        }
    }

    #[test]
    fn a_changed_byte_is_reported_with_its_page() {
        let (mut program, offset) = signed(10_000);
        program[4100] ^= 1;
        program[9999] ^= 1;
        assert_eq!(check(&program, offset).unwrap().wrong_pages, [1, 2]);
    }

    #[test]
    fn damaged_signatures_are_refused() {
        let (program, offset) = signed(5000);
        for end in offset as usize..program.len() {
            assert!(check(&program[..end], offset).is_err(), "truncated to {end} bytes");
        }
        // The magic, the index entry, the directory's magic, length, hash offset, slots, limit, and the bytes after it:
        // a change in any of them is detected.
        for at in [0, 12, 16, 19, 20, 24, 36, 39, 48, 51, 52, 55, 56, 57, 59] {
            let mut damaged = program.clone();
            damaged[offset as usize + at] ^= 0xff;
            let detected = check(&damaged, offset).map_or(true, |signature| !signature.wrong_pages.is_empty());
            assert!(detected, "byte {at}");
        }
        assert!(read(&program, u32::MAX, u32::MAX).is_err());
    }
}
