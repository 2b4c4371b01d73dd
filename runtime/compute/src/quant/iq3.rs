//! IQ3_XXS and IQ3_S: four columns from a grid of eight magnitudes, with odd integer scales for 32 columns.
//!
//! IQ3_XXS stores the signs of eight columns in seven bits, since the number of minuses is even; IQ3_S stores all eight.

use std::mem::offset_of;
use std::ops::RangeInclusive;

use satchel_gguf::TensorType;

use super::grids::{self, SIGNS};
use super::{Block, GROUP, Group, Scaled, f16_at, u32_at};

/// f16 scale, 64 indices, 8 words of four times seven bits of signs and a 4-bit scale; magnitudes up to 62.
#[repr(C)]
pub struct IQ3XXS {
    pub(crate) scale: [u8; 2],
    pub(crate) indices: [u8; 64],
    pub(crate) words: [u8; 32],
}

/// f16 scale, 64 lower bytes of indices, 64 ninth bits, 32 bytes of signs, 8 4-bit scales; odd magnitudes up to 15.
#[repr(C)]
pub struct IQ3S {
    pub(crate) scale: [u8; 2],
    pub(crate) indices: [u8; 64],
    pub(crate) ninths: [u8; 8],
    pub(crate) signs: [u8; 32],
    pub(crate) scales: [u8; 4],
}

impl Block for IQ3XXS {
    const TYPE: TensorType = TensorType::IQ3_XXS;
    const LEVELS: RangeInclusive<i8> = -62..=62;
    type Form = Scaled;
    const F16: &[(usize, f32)] = &[(offset_of!(Self, scale), 1.0)];

    fn group(block: &[u8], group: usize) -> Group {
        let word = u32_at(block, offset_of!(Self, words) + 4 * group);
        let levels = std::array::from_fn(|column| {
            let point = grids::IQ3XXS[usize::from(block[offset_of!(Self, indices) + 8 * group + column / 4])];
            signed(point, SIGNS[(word >> (7 * (column / 8)) & 127) as usize], column)
        });
        Group::new(levels, f16_at(block, offset_of!(Self, scale)) / 4.0 * (2 * (word >> 28) + 1) as f32)
    }
}

impl Block for IQ3S {
    const TYPE: TensorType = TensorType::IQ3_S;
    const LEVELS: RangeInclusive<i8> = -15..=15;
    type Form = Scaled;
    const F16: &[(usize, f32)] = &[(offset_of!(Self, scale), 1.0)];

    fn group(block: &[u8], group: usize) -> Group {
        let levels: [i8; GROUP] = std::array::from_fn(|column| {
            let part = column / 4;
            let ninth = usize::from(block[offset_of!(Self, ninths) + group] >> part & 1) << 8;
            let point = grids::IQ3S[usize::from(block[offset_of!(Self, indices) + 8 * group + part]) | ninth];
            signed(point, block[offset_of!(Self, signs) + 4 * group + column / 8], column)
        });
        let scale = block[offset_of!(Self, scales) + group / 2] >> (4 * (group % 2)) & 15;
        Group::new(levels, f16_at(block, offset_of!(Self, scale)) * f32::from(2 * scale + 1))
    }
}

/// One column of a four-column point, with its sign out of eight.
fn signed(point: u32, signs: u8, column: usize) -> i8 {
    let magnitude = point.to_le_bytes()[column % 4] as i8;
    if signs >> (column % 8) & 1 == 0 { magnitude } else { -magnitude }
}
