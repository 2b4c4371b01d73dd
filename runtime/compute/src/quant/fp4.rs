//! MXFP4 and NVFP4: four-bit floats (E2M1), whose sixteen values doubled are small integers.
//!
//! MXFP4 scales 32 of them by a power of two (E8M0); NVFP4 scales 16 of them by an unsigned eight-bit float (UE4M3). Adjacent
//! scales may differ by 2¹⁷, so the halves of an NVFP4 group are [`Form::APART`](super::Form::APART).

use std::mem::offset_of;
use std::ops::RangeInclusive;

use satchel_gguf::TensorType;

use super::legacy::nibbles;
use super::{Apart, Block, GROUP, Group, Scaled, array_at};

/// E2M1 times two.
pub(crate) const CODES: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// E8M0 scale, 16 bytes of nibbles as in Q4_0.
#[repr(C)]
pub struct MXFP4 {
    pub(crate) scale: [u8; 1],
    pub(crate) nibbles: [u8; 16],
}

/// Four UE4M3 scales; four times 8 bytes of nibbles, each as in Q4_0 but half as long.
#[repr(C)]
pub struct NVFP4 {
    pub(crate) scales: [u8; 4],
    pub(crate) nibbles: [u8; 32],
}

impl Block for MXFP4 {
    const TYPE: TensorType = TensorType::MXFP4;
    const LEVELS: RangeInclusive<i8> = -12..=12;
    type Form = Scaled;
    const F16: &[(usize, f32)] = &[];

    fn group(block: &[u8], _: usize) -> Group {
        Group::new(
            nibbles(array_at(block, offset_of!(Self, nibbles))).map(|nibble| CODES[nibble as usize]),
            half_of_e8m0(block[offset_of!(Self, scale)]),
        )
    }
}

impl Block for NVFP4 {
    const TYPE: TensorType = TensorType::NVFP4;
    const LEVELS: RangeInclusive<i8> = -12..=12;
    type Form = Apart;
    const F16: &[(usize, f32)] = &[];

    fn group(block: &[u8], group: usize) -> Group {
        let levels: [i8; GROUP] = std::array::from_fn(|column| {
            let byte = block[offset_of!(Self, nibbles) + 16 * group + 8 * (column / 16) + column % 8];
            CODES[usize::from(if column % 16 < 8 { byte & 15 } else { byte >> 4 })]
        });
        let scale = [0, 1].map(|half| half_of_ue4m3(block[offset_of!(Self, scales) + 2 * group + half]));
        Group { scale, ..Group::new(levels, 0.0) }
    }
}

/// 2^(bits − 128): half of the E8M0 value, since levels are doubled.
fn half_of_e8m0(bits: u8) -> f32 {
    let bits = u32::from(bits);
    // The two smallest are subnormal in f32.
    f32::from_bits(if bits < 2 { 0x0020_0000 << bits } else { (bits - 1) << 23 })
}

/// Half of an unsigned eight-bit float: four exponent bits from 2⁻⁷, three mantissa bits. All ones would be NaN and counts as 0,
/// as in GGML; the eighth bit is ignored.
fn half_of_ue4m3(bits: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(bits >> 3 & 15), f32::from(bits & 7));
    if bits == 0x7f {
        return 0.0;
    }
    let steps = if exponent == 0 { mantissa } else { mantissa + 8.0 };
    // One step is 2⁻¹⁰ for the two smallest exponents, and doubles with each further one.
    steps * (1 << (exponent - 1).max(0)) as f32 / 1024.0
}

/// The MXFP4 scale nearest to `scale`.
pub(super) fn nearest_e8m0(scale: f32) -> u8 {
    (scale.log2().round() + 128.0) as u8
}

/// The smallest NVFP4 scale >= `scale`, or the largest.
pub(super) fn next_ue4m3(scale: f32) -> u8 {
    (0..0x7e).find(|&bits| half_of_ue4m3(bits) >= scale).unwrap_or(0x7e)
}
