//! IQ1_S and IQ1_M: eight columns of −1, 0 or 1 from a grid of 2048, all shifted up or down by an eighth.
//!
//! IQ1_S shifts a whole group, which is an offset. IQ1_M shifts each eight columns, which makes their levels −9, −7, −1, 1, 7 or
//! 9 eighths, and has an odd integer scale per 16 columns.

use std::mem::offset_of;
use std::ops::RangeInclusive;

use satchel_gguf::TensorType;

use super::grids::IQ1;
use super::{Block, GROUP, Group, Halves, WithOffset, f16_at, u16_at};

/// f16 scale, 32 lower bytes of indices; 8 words of four times three upper bits, a 3-bit scale and the direction.
#[repr(C)]
pub struct IQ1S {
    pub(crate) scale: [u8; 2],
    pub(crate) indices: [u8; 32],
    pub(crate) words: [u8; 16],
}

/// 32 lower bytes of indices, 16 bytes of nibbles: three upper bits and a direction; 4 words of four 3-bit scales and a nibble of
/// the f16 scale.
#[repr(C)]
pub struct IQ1M {
    pub(crate) indices: [u8; 32],
    pub(crate) upper: [u8; 16],
    pub(crate) words: [u8; 8],
}

impl Block for IQ1S {
    const TYPE: TensorType = TensorType::IQ1_S;
    const LEVELS: RangeInclusive<i8> = 0..=2;
    type Form = WithOffset;
    const F16: &[(usize, f32)] = &[(offset_of!(Self, scale), 1.0)];

    fn group(block: &[u8], group: usize) -> Group {
        let word = u16_at(block, offset_of!(Self, words) + 2 * group);
        let levels = std::array::from_fn(|column| {
            let part = column / 8;
            let index = usize::from(block[offset_of!(Self, indices) + 4 * group + part])
                | usize::from(word >> (3 * part) & 7) << 8;
            IQ1[index].to_le_bytes()[column % 8] as i8
        });
        let scale = f16_at(block, offset_of!(Self, scale)) * f32::from(2 * (word >> 12 & 7) + 1);
        let offset = scale * if word >> 15 == 0 { -0.875 } else { -1.125 };
        Group { offset: [offset; 2], ..Group::new(levels, scale) }
    }
}

impl Block for IQ1M {
    const TYPE: TensorType = TensorType::IQ1_M;
    const LEVELS: RangeInclusive<i8> = -9..=9;
    type Form = Halves;
    const F16: &[(usize, f32)] = &[];

    fn group(block: &[u8], group: usize) -> Group {
        let levels: [i8; GROUP] = std::array::from_fn(|column| {
            let part = column / 8;
            let nibble = block[offset_of!(Self, upper) + 2 * group + part / 2] >> (4 * (part % 2));
            let index = usize::from(block[offset_of!(Self, indices) + 4 * group + part]) | usize::from(nibble & 7) << 8;
            let direction = if nibble & 8 == 0 { 1 } else { -1 };
            8 * (IQ1[index].to_le_bytes()[column % 8] as i8 - 1) + direction
        });
        let words: [u16; 4] = std::array::from_fn(|word| u16_at(block, offset_of!(Self, words) + 2 * word));
        let bits = words.iter().rev().fold(0, |bits, word| bits << 4 | word >> 12);
        let multipliers = [0, 1].map(|half| {
            let index = 2 * group + half;
            i32::from(2 * (words[index / 4] >> (3 * (index % 4)) & 7) + 1)
        });
        Group { multipliers, ..Group::new(levels, half::f16::from_bits(bits).to_f32() / 8.0) }
    }
}
