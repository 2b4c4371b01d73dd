//! Q2_K to Q6_K: blocks of 256 with small integer scales under a common f16 scale.
//!
//! Q4_K and Q5_K have a 6-bit scale and a 6-bit minimum per 32 columns, packed into 12 bytes. Q3_K and Q6_K are symmetric with a
//! signed scale per 16 columns, which is why [`Group`] has a multiplier for each half. Q2_K has a 4-bit scale and a 4-bit minimum
//! per 16 columns, so its halves are [`Form::APART`](super::Form::APART).

use std::mem::offset_of;
use std::ops::RangeInclusive;

use satchel_gguf::TensorType;

use super::{ApartWithOffset, Block, GROUP, Group, Halves, WithOffset, array_at, f16_at};

/// 16 bytes of scale and minimum nibbles, 64 bytes of bit pairs, f16 scale, f16 scale of minimums.
#[repr(C)]
pub struct Q2K {
    pub(crate) scales: [u8; 16],
    pub(crate) pairs: [u8; 64],
    pub(crate) scale: [u8; 2],
    pub(crate) minimum: [u8; 2],
}

/// 32 bytes of third bits, 64 bytes of bit pairs, 12 bytes of scales − 32, f16 scale; level − 4.
#[repr(C)]
pub struct Q3K {
    pub(crate) thirds: [u8; 32],
    pub(crate) pairs: [u8; 64],
    pub(crate) scales: [u8; 12],
    pub(crate) scale: [u8; 2],
}

/// f16 scale, f16 scale of minimums, 12 bytes of scales, 128 bytes of nibbles.
#[repr(C)]
pub struct Q4K {
    pub(crate) scale: [u8; 2],
    pub(crate) minimum: [u8; 2],
    pub(crate) scales: [u8; 12],
    pub(crate) nibbles: [u8; 128],
}

/// f16 scale, f16 scale of minimums, 12 bytes of scales, 32 bytes of fifth bits, 128 bytes of nibbles.
#[repr(C)]
pub struct Q5K {
    pub(crate) scale: [u8; 2],
    pub(crate) minimum: [u8; 2],
    pub(crate) scales: [u8; 12],
    pub(crate) fifths: [u8; 32],
    pub(crate) nibbles: [u8; 128],
}

/// 128 bytes of nibbles, 64 bytes of upper bit pairs, 16 signed scales, f16 scale; level − 32.
#[repr(C)]
pub struct Q6K {
    pub(crate) nibbles: [u8; 128],
    pub(crate) pairs: [u8; 64],
    pub(crate) scales: [u8; 16],
    pub(crate) scale: [u8; 2],
}

impl Block for Q2K {
    const TYPE: TensorType = TensorType::Q2_K;
    const LEVELS: RangeInclusive<i8> = 0..=3;
    type Form = ApartWithOffset;
    const F16: &[(usize, f32)] = &[(offset_of!(Self, scale), 1.0), (offset_of!(Self, minimum), 1.5)];

    fn group(block: &[u8], group: usize) -> Group {
        let bytes = [0, 1].map(|half| block[offset_of!(Self, scales) + 2 * group + half]);
        let (scale, minimum) = (f16_at(block, offset_of!(Self, scale)), f16_at(block, offset_of!(Self, minimum)));
        Group {
            levels: pairs(array_at(block, offset_of!(Self, pairs)), group),
            scale: bytes.map(|byte| scale * f32::from(byte & 15)),
            multipliers: [1; 2],
            offset: bytes.map(|byte| -(minimum * f32::from(byte >> 4))),
        }
    }
}

impl Block for Q3K {
    const TYPE: TensorType = TensorType::Q3_K;
    const LEVELS: RangeInclusive<i8> = -4..=3;
    type Form = Halves;
    const F16: &[(usize, f32)] = &[(offset_of!(Self, scale), 1.0)];

    fn group(block: &[u8], group: usize) -> Group {
        let mut levels = pairs(array_at(block, offset_of!(Self, pairs)), group);
        for (level, bits) in levels.iter_mut().zip(array_at::<GROUP>(block, offset_of!(Self, thirds))) {
            *level += (((bits >> group) & 1) << 2) as i8 + Self::LEVELS.start();
        }
        // Of the 12 bytes, eight hold the lower nibbles, scales 0..8 in the low ones, and four the upper bit pairs, four per
        // byte.
        let scales: &[u8; 12] = array_at(block, offset_of!(Self, scales));
        let multipliers = [0, 1].map(|half| {
            let index = 2 * group + half;
            let low = scales[index % 8] >> (4 * (index / 8)) & 15;
            let high = scales[8 + index % 4] >> (2 * (index / 4)) & 3;
            i32::from(low | high << 4) - 32
        });
        Group { multipliers, ..Group::new(levels, f16_at(block, offset_of!(Self, scale))) }
    }
}

impl Block for Q4K {
    const TYPE: TensorType = TensorType::Q4_K;
    const LEVELS: RangeInclusive<i8> = 0..=15;
    type Form = WithOffset;
    const F16: &[(usize, f32)] = &[(offset_of!(Self, scale), 1.0), (offset_of!(Self, minimum), 7.5)];

    fn group(block: &[u8], group: usize) -> Group {
        Group { levels: k_nibbles(array_at(block, offset_of!(Self, nibbles)), group), ..scaled(block, group) }
    }
}

impl Block for Q5K {
    const TYPE: TensorType = TensorType::Q5_K;
    const LEVELS: RangeInclusive<i8> = 0..=31;
    type Form = WithOffset;
    const F16: &[(usize, f32)] = &[(offset_of!(Self, scale), 1.0), (offset_of!(Self, minimum), 15.5)];

    fn group(block: &[u8], group: usize) -> Group {
        let mut levels = k_nibbles(array_at(block, offset_of!(Self, nibbles)), group);
        for (level, bits) in levels.iter_mut().zip(array_at::<GROUP>(block, offset_of!(Self, fifths))) {
            *level |= (((bits >> group) & 1) << 4) as i8;
        }
        Group { levels, ..scaled(block, group) }
    }
}

impl Block for Q6K {
    const TYPE: TensorType = TensorType::Q6_K;
    const LEVELS: RangeInclusive<i8> = -32..=31;
    type Form = Halves;
    const F16: &[(usize, f32)] = &[(offset_of!(Self, scale), 1.0)];

    fn group(block: &[u8], group: usize) -> Group {
        // A half block of 128 columns is 64 bytes of nibbles and 32 of bit pairs. Its groups 0 and 1 take the low
        // nibbles of the first and second 32 bytes, groups 2 and 3 the high ones; group n takes bit pair n.
        let (half, part) = (group / 4, group % 4);
        let low = &block[offset_of!(Self, nibbles) + 64 * half + 32 * (part % 2)..][..GROUP];
        let high = &block[offset_of!(Self, pairs) + 32 * half..][..GROUP];
        let levels = std::array::from_fn(|column| {
            let nibble = (low[column] >> (4 * (part / 2))) & 15;
            let pair = (high[column] >> (2 * part)) & 3;
            (nibble | pair << 4) as i8 + Self::LEVELS.start()
        });
        let multipliers = [0, 1].map(|half| i32::from(block[offset_of!(Self, scales) + 2 * group + half] as i8));
        Group { multipliers, ..Group::new(levels, f16_at(block, offset_of!(Self, scale))) }
    }
}

/// Each 32 bytes hold four groups, lowest bits first.
fn pairs(bytes: &[u8; 64], group: usize) -> [i8; GROUP] {
    std::array::from_fn(|column| ((bytes[32 * (group / 4) + column] >> (2 * (group % 4))) & 3) as i8)
}

/// Each 32 bytes hold two groups: the even one in the low nibbles, the odd one in the high nibbles.
fn k_nibbles(bytes: &[u8; 128], group: usize) -> [i8; GROUP] {
    std::array::from_fn(|column| ((bytes[32 * (group / 2) + column] >> (4 * (group % 2))) & 15) as i8)
}

/// Scale and minimum of a group of Q4_K or Q5_K, which store them at the same places.
fn scaled(block: &[u8], group: usize) -> Group {
    let (scale, minimum) = scale_and_minimum(array_at(block, offset_of!(Q4K, scales)), group);
    Group {
        levels: [0; GROUP],
        scale: [f16_at(block, offset_of!(Q4K, scale)) * f32::from(scale); 2],
        multipliers: [1; 2],
        offset: [-(f16_at(block, offset_of!(Q4K, minimum)) * f32::from(minimum)); 2],
    }
}

/// Unpacks eight pairs of six bits from twelve bytes: groups 0..4 use the low six bits of bytes 0..4 (scale) and 4..8 (minimum);
/// groups 4..8 use a nibble of bytes 8..12, plus the unused upper two bits of the first eight bytes.
fn scale_and_minimum(bytes: &[u8; 12], group: usize) -> (u8, u8) {
    if group < 4 {
        (bytes[group] & 63, bytes[group + 4] & 63)
    } else {
        let nibbles = bytes[group + 4];
        ((nibbles & 15) | (bytes[group - 4] >> 6) << 4, (nibbles >> 4) | (bytes[group] >> 6) << 4)
    }
}
