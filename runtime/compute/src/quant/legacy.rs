//! Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0: blocks of 32 with one f16 scale, GGML's first family.
//!
//! The `_0` types are symmetric (stored level minus half the range), the `_1` types add an f16 minimum. Four-bit levels: columns
//! 0..16 are the low nibbles and 16..32 the high nibbles of 16 bytes; the five-bit types store every column's fifth bit in one
//! 32-bit word before them.

use std::mem::offset_of;
use std::ops::RangeInclusive;

use satchel_gguf::TensorType;

use super::{Block, GROUP, Group, Scaled, ScaledBytes, WithOffset, array_at, f16_at};

/// f16 scale, 16 bytes of nibbles; level − 8.
#[repr(C)]
pub struct Q4_0 {
    pub(crate) scale: [u8; 2],
    pub(crate) nibbles: [u8; 16],
}

/// f16 scale, f16 minimum, 16 bytes of nibbles.
#[repr(C)]
pub struct Q4_1 {
    pub(crate) scale: [u8; 2],
    pub(crate) minimum: [u8; 2],
    pub(crate) nibbles: [u8; 16],
}

/// f16 scale, 32 fifth bits, 16 bytes of nibbles; level − 16.
#[repr(C)]
pub struct Q5_0 {
    pub(crate) scale: [u8; 2],
    pub(crate) fifths: [u8; 4],
    pub(crate) nibbles: [u8; 16],
}

/// f16 scale, f16 minimum, 32 fifth bits, 16 bytes of nibbles.
#[repr(C)]
pub struct Q5_1 {
    pub(crate) scale: [u8; 2],
    pub(crate) minimum: [u8; 2],
    pub(crate) fifths: [u8; 4],
    pub(crate) nibbles: [u8; 16],
}

/// f16 scale, 32 signed bytes.
#[repr(C)]
pub struct Q8_0 {
    pub(crate) scale: [u8; 2],
    pub(crate) levels: [u8; 32],
}

impl Block for Q4_0 {
    const TYPE: TensorType = TensorType::Q4_0;
    const LEVELS: RangeInclusive<i8> = -8..=7;
    type Form = Scaled;
    const F16: &[(usize, f32)] = &[(offset_of!(Self, scale), 1.0)];

    fn group(block: &[u8], _: usize) -> Group {
        Group::new(
            nibbles(array_at(block, offset_of!(Self, nibbles))).map(|level| level + Self::LEVELS.start()),
            f16_at(block, offset_of!(Self, scale)),
        )
    }
}

impl Block for Q4_1 {
    const TYPE: TensorType = TensorType::Q4_1;
    const LEVELS: RangeInclusive<i8> = 0..=15;
    type Form = WithOffset;
    const F16: &[(usize, f32)] = &[(offset_of!(Self, scale), 1.0), (offset_of!(Self, minimum), -7.5)];

    fn group(block: &[u8], _: usize) -> Group {
        Group {
            offset: [f16_at(block, offset_of!(Self, minimum)); 2],
            ..Group::new(nibbles(array_at(block, offset_of!(Self, nibbles))), f16_at(block, offset_of!(Self, scale)))
        }
    }
}

impl Block for Q5_0 {
    const TYPE: TensorType = TensorType::Q5_0;
    const LEVELS: RangeInclusive<i8> = -16..=15;
    type Form = Scaled;
    const F16: &[(usize, f32)] = &[(offset_of!(Self, scale), 1.0)];

    fn group(block: &[u8], _: usize) -> Group {
        let levels = with_fifth_bits(
            nibbles(array_at(block, offset_of!(Self, nibbles))),
            array_at(block, offset_of!(Self, fifths)),
        )
        .map(|level| level + Self::LEVELS.start());
        Group::new(levels, f16_at(block, offset_of!(Self, scale)))
    }
}

impl Block for Q5_1 {
    const TYPE: TensorType = TensorType::Q5_1;
    const LEVELS: RangeInclusive<i8> = 0..=31;
    type Form = WithOffset;
    const F16: &[(usize, f32)] = &[(offset_of!(Self, scale), 1.0), (offset_of!(Self, minimum), -15.5)];

    fn group(block: &[u8], _: usize) -> Group {
        let levels = with_fifth_bits(
            nibbles(array_at(block, offset_of!(Self, nibbles))),
            array_at(block, offset_of!(Self, fifths)),
        );
        Group {
            offset: [f16_at(block, offset_of!(Self, minimum)); 2],
            ..Group::new(levels, f16_at(block, offset_of!(Self, scale)))
        }
    }
}

impl Block for Q8_0 {
    const TYPE: TensorType = TensorType::Q8_0;
    const LEVELS: RangeInclusive<i8> = -128..=127;
    type Form = ScaledBytes;
    const F16: &[(usize, f32)] = &[(offset_of!(Self, scale), 1.0)];

    fn group(block: &[u8], _: usize) -> Group {
        Group::new(
            std::array::from_fn(|column| block[offset_of!(Self, levels) + column] as i8),
            f16_at(block, offset_of!(Self, scale)),
        )
    }
}

/// 16 bytes of nibbles: the low ones, then the high ones.
pub(super) fn nibbles(bytes: &[u8; 16]) -> [i8; GROUP] {
    std::array::from_fn(|column| {
        let byte = bytes[column % 16];
        (if column < 16 { byte & 15 } else { byte >> 4 }) as i8
    })
}

fn with_fifth_bits(mut levels: [i8; GROUP], bits: &[u8; 4]) -> [i8; GROUP] {
    let bits = u32::from_le_bytes(*bits);
    for (column, level) in levels.iter_mut().enumerate() {
        *level |= (((bits >> column) & 1) << 4) as i8;
    }
    levels
}
