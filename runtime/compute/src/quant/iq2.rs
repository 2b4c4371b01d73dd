//! IQ2_XXS, IQ2_XS and IQ2_S: eight columns of ±8, ±25 or ±43 from a grid, with odd integer scales.
//!
//! IQ2_XXS has a scale per 32 columns, the others per 16. The first two store the signs of eight columns in seven bits, since the
//! number of minuses is even; IQ2_S stores all eight.

use std::mem::offset_of;
use std::ops::RangeInclusive;

use satchel_gguf::TensorType;

use super::grids::{self, SIGNS};
use super::{Apart, Block, GROUP, Group, Scaled, f16_at, u16_at, u32_at};

/// f16 scale; for each group four indices, and a word of four times seven bits of signs and a 4-bit scale.
#[repr(C)]
pub struct IQ2XXS {
    pub(crate) scale: [u8; 2],
    pub(crate) groups: [u8; 64],
}

/// f16 scale, 32 words of a 9-bit index and seven bits of signs, 8 bytes of two 4-bit scales.
#[repr(C)]
pub struct IQ2XS {
    pub(crate) scale: [u8; 2],
    pub(crate) words: [u8; 64],
    pub(crate) scales: [u8; 8],
}

/// f16 scale, 32 lower bytes of indices, 32 bytes of signs, 8 bytes of upper bit pairs, 8 bytes of two 4-bit scales.
#[repr(C)]
pub struct IQ2S {
    pub(crate) scale: [u8; 2],
    pub(crate) indices: [u8; 32],
    pub(crate) signs: [u8; 32],
    pub(crate) upper: [u8; 8],
    pub(crate) scales: [u8; 8],
}

impl Block for IQ2XXS {
    const TYPE: TensorType = TensorType::IQ2_XXS;
    const LEVELS: RangeInclusive<i8> = -43..=43;
    type Form = Scaled;
    const F16: &[(usize, f32)] = &[(offset_of!(Self, scale), 1.0)];

    fn group(block: &[u8], group: usize) -> Group {
        let word = u32_at(block, offset_of!(Self, groups) + 8 * group + 4);
        let levels = signed_points(|part| {
            let signs = SIGNS[(word >> (7 * part) & 127) as usize];
            (grids::IQ2XXS[usize::from(block[offset_of!(Self, groups) + 8 * group + part])], signs)
        });
        Group::new(levels, f16_at(block, offset_of!(Self, scale)) / 8.0 * (2 * (word >> 28) + 1) as f32)
    }
}

impl Block for IQ2XS {
    const TYPE: TensorType = TensorType::IQ2_XS;
    const LEVELS: RangeInclusive<i8> = -43..=43;
    type Form = Apart;
    const F16: &[(usize, f32)] = &[(offset_of!(Self, scale), 1.0)];

    fn group(block: &[u8], group: usize) -> Group {
        let levels = signed_points(|part| {
            let word = u16_at(block, offset_of!(Self, words) + 8 * group + 2 * part);
            (grids::IQ2XS[usize::from(word & 511)], SIGNS[usize::from(word >> 9)])
        });
        scaled(levels, f16_at(block, offset_of!(Self, scale)), block[offset_of!(Self, scales) + group])
    }
}

impl Block for IQ2S {
    const TYPE: TensorType = TensorType::IQ2_S;
    const LEVELS: RangeInclusive<i8> = -43..=43;
    type Form = Apart;
    const F16: &[(usize, f32)] = &[(offset_of!(Self, scale), 1.0)];

    fn group(block: &[u8], group: usize) -> Group {
        let levels = signed_points(|part| {
            let upper = usize::from(block[offset_of!(Self, upper) + group] >> (2 * part) & 3) << 8;
            (
                grids::IQ2S[usize::from(block[offset_of!(Self, indices) + 4 * group + part]) | upper],
                block[offset_of!(Self, signs) + 4 * group + part],
            )
        });
        scaled(levels, f16_at(block, offset_of!(Self, scale)), block[offset_of!(Self, scales) + group])
    }
}

/// Four grid points with their signs.
fn signed_points(point: impl Fn(usize) -> (u64, u8)) -> [i8; GROUP] {
    let mut levels = [0; GROUP];
    for (part, levels) in levels.chunks_exact_mut(8).enumerate() {
        let (magnitudes, signs) = point(part);
        for (column, (level, magnitude)) in levels.iter_mut().zip(magnitudes.to_le_bytes()).enumerate() {
            *level = if signs >> column & 1 == 0 { magnitude as i8 } else { -(magnitude as i8) };
        }
    }
    levels
}

/// A scale for each half: the lower nibble is the first's.
fn scaled(levels: [i8; GROUP], scale: f32, nibbles: u8) -> Group {
    let scale = [nibbles & 15, nibbles >> 4].map(|nibble| scale / 8.0 * f32::from(2 * nibble + 1));
    Group { scale, ..Group::new(levels, 0.0) }
}
