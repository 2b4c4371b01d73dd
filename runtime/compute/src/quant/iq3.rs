//! IQ3_XXS and IQ3_S: four columns from a grid of eight magnitudes, with odd integer scales for 32 columns.
//!
//! IQ3_XXS stores the signs of eight columns in seven bits, since the number of minuses is even; IQ3_S stores all eight.

use std::ops::RangeInclusive;

use satchel_gguf::TensorType;

use super::grids::{self, SIGNS};
use super::{Block, GROUP, Group, Scaled, f16_at, u32_at};

/// f16 scale, 64 indices, 8 words of four times seven bits of signs and a 4-bit scale; magnitudes up to 62.
pub struct IQ3XXS;
/// f16 scale, 64 lower bytes of indices, 64 ninth bits, 32 bytes of signs, 8 4-bit scales; odd magnitudes up to 15.
pub struct IQ3S;

impl Block for IQ3XXS {
    const TYPE: TensorType = TensorType::IQ3_XXS;
    const LEVELS: RangeInclusive<i8> = -62..=62;
    type Form = Scaled;

    fn group(block: &[u8], group: usize) -> Group {
        let word = u32_at(block, 66 + 4 * group);
        let levels = std::array::from_fn(|column| {
            let point = grids::IQ3XXS[usize::from(block[2 + 8 * group + column / 4])];
            signed(point, SIGNS[(word >> (7 * (column / 8)) & 127) as usize], column)
        });
        Group::new(levels, f16_at(block, 0) / 4.0 * (2 * (word >> 28) + 1) as f32)
    }
}

impl Block for IQ3S {
    const TYPE: TensorType = TensorType::IQ3_S;
    const LEVELS: RangeInclusive<i8> = -15..=15;
    type Form = Scaled;

    fn group(block: &[u8], group: usize) -> Group {
        let levels: [i8; GROUP] = std::array::from_fn(|column| {
            let part = column / 4;
            let ninth = usize::from(block[66 + group] >> part & 1) << 8;
            let point = grids::IQ3S[usize::from(block[2 + 8 * group + part]) | ninth];
            signed(point, block[74 + 4 * group + column / 8], column)
        });
        let scale = block[106 + group / 2] >> (4 * (group % 2)) & 15;
        Group::new(levels, f16_at(block, 0) * f32::from(2 * scale + 1))
    }
}

/// One column of a four-column point, with its sign out of eight.
fn signed(point: u32, signs: u8, column: usize) -> i8 {
    let magnitude = point.to_le_bytes()[column % 4] as i8;
    if signs >> (column % 8) & 1 == 0 { magnitude } else { -magnitude }
}
