//! IQ2_XXS, IQ2_XS and IQ2_S.

use std::arch::aarch64::*;
use std::mem::offset_of;

use super::{Block, Header, Rows, bytes_at, f16_of, lanes_of, odd, odd_top_nibbles, with_signs};
use crate::quant::{IQ2S, IQ2XS, IQ2XXS, grids, grids::SIGNS};

impl Block for IQ2XXS {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: upheld by the caller, as in all of the following.
        let scale = unsafe { eighth_of_f16(rows) };
        for group in 0..8 {
            // SAFETY: see above.
            let factor = unsafe { odd_top_nibbles(rows, offset_of!(Self, groups) + 8 * group + 4) };
            header[group].scale[0] = vmulq_f32(scale, factor);
        }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn levels(block: *const u8, group: usize) -> [int8x16_t; 2] {
        // SAFETY: see above.
        let [a, b, c, d, words @ ..] =
            unsafe { block.add(offset_of!(Self, groups) + 8 * group).cast::<[u8; 8]>().read() };
        let word = u32::from_le_bytes(words);
        let points = [a, b, c, d].map(|index| grids::IQ2XXS[usize::from(index)]);
        with_signs(points, [0, 7, 14, 21].map(|shift| SIGNS[(word >> shift & 127) as usize]))
    }
}

impl Block for IQ2XS {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: see above.
        unsafe { nibble_header(rows, offset_of!(Self, scales), header) }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn levels(block: *const u8, group: usize) -> [int8x16_t; 2] {
        // SAFETY: see above.
        let words = unsafe { block.add(offset_of!(Self, words) + 8 * group).cast::<u64>().read_unaligned() };
        let words = [0, 16, 32, 48].map(|shift| (words >> shift) as usize & 0xffff);
        with_signs(words.map(|word| grids::IQ2XS[word & 511]), words.map(|word| SIGNS[word >> 9]))
    }
}

impl Block for IQ2S {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: see above.
        unsafe { nibble_header(rows, offset_of!(Self, scales), header) }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn levels(block: *const u8, group: usize) -> [int8x16_t; 2] {
        // SAFETY: see above.
        let (indices, signs, upper) = unsafe {
            let indices = block.add(offset_of!(Self, indices) + 4 * group).cast::<[u8; 4]>().read();
            (
                indices,
                block.add(offset_of!(Self, signs) + 4 * group).cast::<[u8; 4]>().read(),
                usize::from(*block.add(offset_of!(Self, upper) + group)),
            )
        };
        let point = |part: usize| grids::IQ2S[usize::from(indices[part]) | upper << (8 - 2 * part) & 0x300];
        with_signs([0, 1, 2, 3].map(point), signs)
    }
}

/// The f16 at the start of a block, divided by 8.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn eighth_of_f16(rows: &Rows) -> float32x4_t {
    // SAFETY: upheld by the caller.
    vmulq_n_f32(unsafe { f16_of(rows, offset_of!(IQ2S, scale)) }, 0.125)
}

/// Scales of both halves of each group, one byte per group, eight bytes at `offset`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn nibble_header(rows: &Rows, offset: usize, header: &mut Header) {
    // SAFETY: upheld by the caller.
    let (scale, bytes) = unsafe { (eighth_of_f16(rows), bytes_at(rows, offset)) };
    let low = lanes_of(bytes.map(|bytes| odd(vand_u8(bytes, vdup_n_u8(15)))));
    let high = lanes_of(bytes.map(|bytes| odd(vshr_n_u8::<4>(bytes))));
    for group in 0..8 {
        header[group].scale = [low[group], high[group]].map(|factor| vmulq_f32(scale, vcvtq_f32_s32(factor)));
    }
}
