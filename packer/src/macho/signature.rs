//! Writes an ad-hoc code signature: a big-endian directory with the SHA-256 of every page.
//!
//! It corresponds to `codesign -s -`; signing with a certificate replaces it. Format: Apple's `kern/cs_blobs.h`.

use std::fs::File;

use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use crate::Observer;
use crate::copy::Stopped;
use crate::files::read_exact_at;
use crate::parallel::on_threads;

const EMBEDDED_SIGNATURE: u32 = 0xfade_0cc0;
const CODE_DIRECTORY: u32 = 0xfade_0c02;
/// The first version with the executable segment's range.
const VERSION: u32 = 0x2_0400;
const ADHOC: u32 = 0x2;
const MAIN_BINARY: u64 = 0x1;
const SHA256: u8 = 2;
const HASH_BYTES: usize = 32;
const PAGE_LOG2: u8 = 12;
const PAGE_BYTES: usize = 1 << PAGE_LOG2;
/// Length of the outer blob's header and its one index entry.
const SUPER_BLOB_BYTES: usize = 20;
const DIRECTORY_BYTES: usize = 88;
/// Alignment of a signature in the file.
const ALIGNMENT_BYTES: u64 = 16;
/// Bytes hashed at a time.
const BLOCK_BYTES: usize = 4 << 20;

/// Offset of the signature in a file whose other bytes end at `end`.
pub(super) fn begin(end: u64) -> u64 {
    end.next_multiple_of(ALIGNMENT_BYTES)
}

/// Length of a signature over the first `signed_bytes` bytes.
pub(super) fn bytes(signed_bytes: u64, identifier: &str) -> u64 {
    let hashes = signed_bytes.div_ceil(PAGE_BYTES as u64) * HASH_BYTES as u64;
    ((SUPER_BLOB_BYTES + DIRECTORY_BYTES + identifier.len() + 1) as u64 + hashes).next_multiple_of(ALIGNMENT_BYTES)
}

/// The signature over the first `signed_bytes` bytes of a file.
pub(super) fn of_file(
    file: &File,
    signed_bytes: u64,
    identifier: &str,
    text_bytes: u64,
    observer: &dyn Observer,
) -> Result<Vec<u8>, Stopped> {
    let mut hashes = Vec::new();
    let mut block = vec![0; BLOCK_BYTES];
    let mut done = 0;
    while done < signed_bytes {
        if observer.interrupted() {
            return Err(Stopped::Interrupted);
        }
        let part = (signed_bytes - done).min(BLOCK_BYTES as u64) as usize;
        read_exact_at(file, &mut block[..part], done).map_err(Stopped::Write)?;
        let hash = |page: &[u8]| <[u8; 32]>::from(Sha256::digest(page));
        let pages: Vec<_> = on_threads(|| block[..part].par_chunks(PAGE_BYTES).map(hash).collect());
        hashes.extend(pages);
        done += part as u64;
    }
    let mut out = blob(&hashes, signed_bytes, identifier, text_bytes);
    out.resize(bytes(signed_bytes, identifier) as usize, 0);
    Ok(out)
}

fn blob(hashes: &[[u8; HASH_BYTES]], signed_bytes: u64, identifier: &str, text_bytes: u64) -> Vec<u8> {
    let hashes_at = DIRECTORY_BYTES + identifier.len() + 1;
    let directory_bytes = hashes_at + hashes.len() * HASH_BYTES;
    let mut out = Vec::with_capacity(SUPER_BLOB_BYTES + directory_bytes);
    let mut words = |values: &[u32]| values.iter().for_each(|value| out.extend_from_slice(&value.to_be_bytes()));
    words(&[EMBEDDED_SIGNATURE, (SUPER_BLOB_BYTES + directory_bytes) as u32, 1, 0, SUPER_BLOB_BYTES as u32]);
    words(&[CODE_DIRECTORY, directory_bytes as u32, VERSION, ADHOC]);
    // Offset of the hashes, offset of the identifier, special slots, code slots, signed length.
    words(&[hashes_at as u32, DIRECTORY_BYTES as u32, 0, hashes.len() as u32, signed_bytes as u32]);
    out.extend_from_slice(&[HASH_BYTES as u8, SHA256, 0, PAGE_LOG2]);
    // Spare, scatter, team, spare; then the 64-bit signed length, unused below 4 GiB.
    out.extend_from_slice(&[0; 4 * 4 + 8]);
    for value in [0, text_bytes, MAIN_BINARY] {
        out.extend_from_slice(&value.to_be_bytes());
    }
    out.extend_from_slice(identifier.as_bytes());
    out.push(0);
    out.extend(hashes.iter().flatten());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_has_the_predicted_length() {
        for signed in [0_u64, 1, 4095, 4096, 4097, 1 << 20] {
            let pages = vec![[7; 32]; signed.div_ceil(4096) as usize];
            let made = blob(&pages, signed, "satchel", 4096);
            assert_eq!((made.len() as u64).next_multiple_of(16), bytes(signed, "satchel"));
            let length = u32::from_be_bytes(made[4..8].try_into().unwrap());
            assert_eq!(length as usize, made.len());
            assert_eq!(&made[SUPER_BLOB_BYTES + DIRECTORY_BYTES..][..8], b"satchel\0");
        }
    }
}
