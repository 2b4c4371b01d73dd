//! IQ4_NL and IQ4_XS: nibbles index 16 levels, which are denser around zero.
//!
//! Nibbles are ordered as in Q4_0, also in the larger blocks of IQ4_XS, whose groups have 6-bit scales.

use std::mem::offset_of;
use std::ops::RangeInclusive;

use satchel_gguf::TensorType;

use super::legacy::nibbles;
use super::{Block, Group, ScaledBytes, array_at, f16_at, u16_at};

/// The level of each nibble: part of the format.
pub(crate) const CODES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// f16 scale, 16 bytes of nibbles.
#[repr(C)]
pub struct IQ4NL {
    pub(crate) scale: [u8; 2],
    pub(crate) nibbles: [u8; 16],
}

/// f16 scale, 16 upper bits and 32 lower bits of the scales of 8 groups, 128 bytes of nibbles; scale − 32.
#[repr(C)]
pub struct IQ4XS {
    pub(crate) scale: [u8; 2],
    pub(crate) upper: [u8; 2],
    pub(crate) lower: [u8; 4],
    pub(crate) nibbles: [u8; 128],
}

impl Block for IQ4NL {
    const TYPE: TensorType = TensorType::IQ4_NL;
    const LEVELS: RangeInclusive<i8> = -127..=113;
    type Form = ScaledBytes;
    const F16: &[(usize, f32)] = &[(offset_of!(Self, scale), 1.0)];

    fn group(block: &[u8], _: usize) -> Group {
        Group::new(
            nibbles(array_at(block, offset_of!(Self, nibbles))).map(|nibble| CODES[nibble as usize]),
            f16_at(block, offset_of!(Self, scale)),
        )
    }
}

impl Block for IQ4XS {
    const TYPE: TensorType = TensorType::IQ4_XS;
    const LEVELS: RangeInclusive<i8> = -127..=113;
    type Form = ScaledBytes;
    const F16: &[(usize, f32)] = &[(offset_of!(Self, scale), 1.0)];

    fn group(block: &[u8], group: usize) -> Group {
        let levels =
            nibbles(array_at(block, offset_of!(Self, nibbles) + 16 * group)).map(|nibble| CODES[nibble as usize]);
        let low = block[offset_of!(Self, lower) + group / 2] >> (4 * (group % 2)) & 15;
        let high = (u16_at(block, offset_of!(Self, upper)) >> (2 * group) & 3) as u8;
        Group::new(levels, f16_at(block, offset_of!(Self, scale)) * f32::from((low | high << 4) as i8 - 32))
    }
}
