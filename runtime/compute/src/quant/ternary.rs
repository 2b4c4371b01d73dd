//! TQ1_0 and TQ2_0: weights of −1, 0 and 1 with one scale for 256 columns.
//!
//! TQ2_0 uses two bits per weight. TQ1_0 stores five weights as base-3 digits in a byte, as a fraction: times 3ⁿ, modulo 256,
//! brings digit n to the front; times 3, divided by 256, reads it.

use std::mem::offset_of;
use std::ops::RangeInclusive;

use satchel_gguf::TensorType;

use super::{Block, Group, Scaled, f16_at};

/// 48 bytes of five digits, 4 bytes of four digits, f16 scale.
#[repr(C)]
pub struct TQ1_0 {
    pub(crate) groups: [u8; 32],
    pub(crate) halves: [u8; 16],
    pub(crate) eighths: [u8; 4],
    pub(crate) scale: [u8; 2],
}

/// 64 bytes of four bit pairs, f16 scale; pair − 1.
#[repr(C)]
pub struct TQ2_0 {
    pub(crate) pairs: [u8; 64],
    pub(crate) scale: [u8; 2],
}

impl Block for TQ1_0 {
    const TYPE: TensorType = TensorType::TQ1_0;
    const LEVELS: RangeInclusive<i8> = -1..=1;
    type Form = Scaled;
    const F16: &[(usize, f32)] = &[(offset_of!(Self, scale), 1.0)];

    fn group(block: &[u8], group: usize) -> Group {
        let levels = std::array::from_fn(|column| {
            // Of the first 32 bytes digit n is group n; of the next 16 bytes it is half a group, of the last four an eighth.
            let (byte, digit) = match 32 * group + column {
                at @ 0..160 => (offset_of!(Self, groups) + at % 32, at / 32),
                at @ 160..240 => (offset_of!(Self, halves) + at % 16, at / 16 - 10),
                at => (offset_of!(Self, eighths) + at % 4, at / 4 - 60),
            };
            let front = block[byte].wrapping_mul(3u8.pow(digit as u32));
            ((u16::from(front) * 3) >> 8) as i8 + Self::LEVELS.start()
        });
        Group::new(levels, f16_at(block, offset_of!(Self, scale)))
    }
}

impl Block for TQ2_0 {
    const TYPE: TensorType = TensorType::TQ2_0;
    const LEVELS: RangeInclusive<i8> = -1..=2;
    type Form = Scaled;
    const F16: &[(usize, f32)] = &[(offset_of!(Self, scale), 1.0)];

    fn group(block: &[u8], group: usize) -> Group {
        let (half, part) = (group / 4, group % 4);
        let levels = std::array::from_fn(|column| {
            (block[offset_of!(Self, pairs) + 32 * half + column] >> (2 * part) & 3) as i8 + Self::LEVELS.start()
        });
        Group::new(levels, f16_at(block, offset_of!(Self, scale)))
    }
}
