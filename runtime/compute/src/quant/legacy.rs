//! Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0: blocks of 32 with one f16 scale, GGML's first family.
//!
//! The `_0` types are symmetric (stored level minus half the range), the `_1` types add an f16 minimum. Four-bit levels: columns
//! 0..16 are the low nibbles and 16..32 the high nibbles of 16 bytes; the five-bit types store every column's fifth bit in one
//! 32-bit word before them.

use std::ops::RangeInclusive;

use satchel_gguf::TensorType;

use super::{Block, GROUP, Group, Scaled, ScaledBytes, WithOffset, f16_at};

/// f16 scale, 16 bytes of nibbles; level − 8.
pub struct Q4_0;
/// f16 scale, f16 minimum, 16 bytes of nibbles.
pub struct Q4_1;
/// f16 scale, 32 fifth bits, 16 bytes of nibbles; level − 16.
pub struct Q5_0;
/// f16 scale, f16 minimum, 32 fifth bits, 16 bytes of nibbles.
pub struct Q5_1;
/// f16 scale, 32 signed bytes.
pub struct Q8_0;

impl Block for Q4_0 {
    const TYPE: TensorType = TensorType::Q4_0;
    const LEVELS: RangeInclusive<i8> = -8..=7;
    type Form = Scaled;

    fn group(block: &[u8], _: usize) -> Group {
        Group::new(nibbles(&block[2..18]).map(|level| level + Self::LEVELS.start()), f16_at(block, 0))
    }
}

impl Block for Q4_1 {
    const TYPE: TensorType = TensorType::Q4_1;
    const LEVELS: RangeInclusive<i8> = 0..=15;
    type Form = WithOffset;

    fn group(block: &[u8], _: usize) -> Group {
        Group { offset: [f16_at(block, 2); 2], ..Group::new(nibbles(&block[4..20]), f16_at(block, 0)) }
    }
}

impl Block for Q5_0 {
    const TYPE: TensorType = TensorType::Q5_0;
    const LEVELS: RangeInclusive<i8> = -16..=15;
    type Form = Scaled;

    fn group(block: &[u8], _: usize) -> Group {
        let levels = with_fifth_bits(nibbles(&block[6..22]), &block[2..6]).map(|level| level + Self::LEVELS.start());
        Group::new(levels, f16_at(block, 0))
    }
}

impl Block for Q5_1 {
    const TYPE: TensorType = TensorType::Q5_1;
    const LEVELS: RangeInclusive<i8> = 0..=31;
    type Form = WithOffset;

    fn group(block: &[u8], _: usize) -> Group {
        let levels = with_fifth_bits(nibbles(&block[8..24]), &block[4..8]);
        Group { offset: [f16_at(block, 2); 2], ..Group::new(levels, f16_at(block, 0)) }
    }
}

impl Block for Q8_0 {
    const TYPE: TensorType = TensorType::Q8_0;
    const LEVELS: RangeInclusive<i8> = -128..=127;
    type Form = ScaledBytes;

    fn group(block: &[u8], _: usize) -> Group {
        Group::new(std::array::from_fn(|column| block[2 + column] as i8), f16_at(block, 0))
    }
}

/// 16 bytes of nibbles: the low ones, then the high ones.
pub(super) fn nibbles(bytes: &[u8]) -> [i8; GROUP] {
    std::array::from_fn(|column| {
        let byte = bytes[column % 16];
        (if column < 16 { byte & 15 } else { byte >> 4 }) as i8
    })
}

fn with_fifth_bits(mut levels: [i8; GROUP], bits: &[u8]) -> [i8; GROUP] {
    let bits = u32::from_le_bytes([bits[0], bits[1], bits[2], bits[3]]);
    for (column, level) in levels.iter_mut().enumerate() {
        *level |= (((bits >> column) & 1) << 4) as i8;
    }
    levels
}
