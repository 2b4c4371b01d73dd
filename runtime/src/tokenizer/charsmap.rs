//! `tokenizer.ggml.precompiled_charsmap`: SentencePiece's normalisation rules (NFKC and what a model adds) as one table.
//!
//! Format: the size of a double array in bytes (4 bytes), the array as little-endian words, and replacement texts, each
//! ending with a zero byte. The double array is Darts-clone's: a unit has its byte label in bits 0 to 7 (bit 31 marks a
//! value), whether a key ends there in bit 8, and the offset to its children in bits 10 to 30, shifted left by eight if bit 9
//! is set. A child is at index (parent XOR offset XOR byte); where a key ends, the unit at (index XOR offset) has the offset
//! of its replacement.
//!
//! The table is untrusted: an index outside of it matches nothing, and a missing replacement is an error.

use satchel_gguf::Metadata;

use super::TokenizerError;

const KEY: &str = "tokenizer.ggml.precompiled_charsmap";

/// Keys are a few characters; the limit keeps a cyclic table from being followed through a whole text.
const KEY_BYTES: usize = 256;

/// Normalisation rules.
#[derive(Debug, Default)]
pub(super) struct Charsmap {
    units: Vec<u32>,
    replacements: Vec<u8>,
}

impl Charsmap {
    /// Reads the rules; empty if the file has none.
    pub(super) fn from_gguf(metadata: &Metadata) -> Result<Self, TokenizerError> {
        let Some(bytes) = metadata.get_byte_array(KEY)? else { return Ok(Self::default()) };
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        Self::parse(&bytes).ok_or(TokenizerError::BadCharsmap { bytes: bytes.len() })
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (size, rest) = bytes.split_first_chunk::<4>()?;
        let size = u32::from_le_bytes(*size) as usize;
        // A valid table has at least one replacement.
        let (units, replacements) = rest.split_at_checked(size).filter(|(_, rest)| !rest.is_empty())?;
        let (units, odd) = units.as_chunks::<4>();
        let units = units.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
        odd.is_empty().then(|| Self { units, replacements: replacements.to_owned() })
    }

    /// The longest prefix of `text` that has a replacement: its length in bytes, and the replacement.
    pub(super) fn replacement(&self, text: &[u8]) -> Option<(usize, Result<&str, TokenizerError>)> {
        let mut place = offset(*self.units.first()?);
        let mut longest = None;
        for (at, &byte) in text.iter().enumerate().take(KEY_BYTES) {
            place ^= usize::from(byte);
            let Some(&unit) = self.units.get(place) else { break };
            if byte == 0 || unit & (1 << 31 | 0xFF) != u32::from(byte) {
                break;
            }
            place ^= offset(unit);
            if unit >> 8 & 1 == 1 {
                longest = self.units.get(place).map(|value| (at + 1, value & !(1 << 31)));
            }
        }
        let (bytes, start) = longest?;
        Some((bytes, self.replacement_at(start as usize)))
    }

    fn replacement_at(&self, start: usize) -> Result<&str, TokenizerError> {
        let text = self.replacements.get(start..).and_then(|rest| rest.split(|&byte| byte == 0).next());
        let text = text.and_then(|text| std::str::from_utf8(text).ok());
        text.ok_or(TokenizerError::BadReplacement { start })
    }
}

fn offset(unit: u32) -> usize {
    ((unit >> 10) << ((unit & 1 << 9) >> 6)) as usize
}
