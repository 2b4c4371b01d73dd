//! MXFP4 and NVFP4: nibbles index the sixteen levels.

use std::arch::aarch64::*;
use std::mem::offset_of;

use super::{Block, Header, Rows, look_up, nibbles};
use crate::quant::{FP4_CODES, MXFP4, NVFP4};

impl Block for MXFP4 {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: upheld by the caller, as in everything below; four values.
        let bits = unsafe { vld1q_u32(rows.map(|row| u32::from(*row.add(offset_of!(Self, scale)))).as_ptr()) };
        // Half the power of two; below f32's smallest normal exponent it is a mantissa bit.
        let usual = vshlq_n_u32::<23>(vsubq_u32(bits, vdupq_n_u32(1)));
        let faint = vshlq_u32(vdupq_n_u32(0x0020_0000), vreinterpretq_s32_u32(bits));
        let scale = vbslq_u32(vcltq_u32(bits, vdupq_n_u32(2)), faint, usual);
        header[0].scale[0] = vreinterpretq_f32_u32(scale);
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn levels(block: *const u8, _: usize) -> [int8x16_t; 2] {
        // SAFETY: see above.
        look_up(&FP4_CODES, unsafe { nibbles(block.add(offset_of!(Self, nibbles))) })
    }
}

impl Block for NVFP4 {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: see above.
        let words = rows.map(|row| unsafe { row.add(offset_of!(Self, scales)).cast::<u32>().read_unaligned() });
        // SAFETY: four values.
        let words = unsafe { vld1q_u32(words.as_ptr()) };
        let byte = |index: i32| vandq_u32(vshlq_u32(words, vdupq_n_s32(-8 * index)), vdupq_n_u32(0xff));
        header[0].scale = [half_of_ue4m3(byte(0)), half_of_ue4m3(byte(1))];
        header[1].scale = [half_of_ue4m3(byte(2)), half_of_ue4m3(byte(3))];
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn levels(block: *const u8, group: usize) -> [int8x16_t; 2] {
        // Eight bytes per half: first the low nibbles, then the high ones.
        // SAFETY: see above.
        let [low, high] = unsafe { nibbles(block.add(offset_of!(Self, nibbles) + 16 * group)) }
            .map(|nibbles| vreinterpretq_u64_u8(nibbles));
        let halves = [vzip1q_u64(low, high), vzip2q_u64(low, high)];
        look_up(&FP4_CODES, halves.map(|half| vreinterpretq_u8_u64(half)))
    }
}

/// Half of the float in the lowest byte of each lane; see `quant::fp4` for the rules.
#[inline]
#[target_feature(enable = "neon")]
fn half_of_ue4m3(byte: uint32x4_t) -> float32x4_t {
    let bits = vandq_u32(byte, vdupq_n_u32(0x7f));
    // Rebias the exponent from 7 to 127, minus one for the half.
    let usual = vaddq_u32(vshlq_n_u32::<20>(bits), vdupq_n_u32(119 << 23));
    let faint = vreinterpretq_u32_f32(vmulq_n_f32(vcvtq_f32_u32(bits), 1.0 / 1024.0));
    let value = vbslq_u32(vcltq_u32(bits, vdupq_n_u32(8)), faint, usual);
    let nan = vceqq_u32(byte, vdupq_n_u32(0x7f));
    vreinterpretq_f32_u32(vbicq_u32(value, nan))
}
