//! IQ3_XXS and IQ3_S.

use std::arch::aarch64::*;
use std::mem::offset_of;

use super::{Block, Header, Rows, eight_nibbles, f16_of, lanes_of, odd, odd_top_nibbles, with_signs};
use crate::quant::{IQ3S, IQ3XXS, grids, grids::SIGNS};

impl Block for IQ3XXS {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: upheld by the caller, as in all of the following.
        let scale = vmulq_n_f32(unsafe { f16_of(rows, offset_of!(Self, scale)) }, 0.25);
        for group in 0..8 {
            // SAFETY: see above.
            let factor = unsafe { odd_top_nibbles(rows, offset_of!(Self, words) + 4 * group) };
            header[group].scale[0] = vmulq_f32(scale, factor);
        }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn levels(block: *const u8, group: usize) -> [int8x16_t; 2] {
        // SAFETY: see above.
        let (indices, word) = unsafe {
            let indices = block.add(offset_of!(Self, indices) + 8 * group).cast::<[u8; 8]>().read();
            (indices, block.add(offset_of!(Self, words) + 4 * group).cast::<u32>().read_unaligned())
        };
        let points = indices.map(|index| grids::IQ3XXS[usize::from(index)]);
        with_signs(in_pairs(points), [0, 7, 14, 21].map(|shift| SIGNS[(word >> shift & 127) as usize]))
    }
}

impl Block for IQ3S {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: see above.
        let (scale, nibbles) = unsafe {
            (
                f16_of(rows, offset_of!(Self, scale)),
                rows.map(|row| row.add(offset_of!(Self, scales)).cast::<u32>().read_unaligned()),
            )
        };
        let factors = lanes_of(nibbles.map(|nibbles| odd(eight_nibbles(nibbles))));
        for (group, factor) in factors.into_iter().enumerate() {
            header[group].scale[0] = vmulq_f32(scale, vcvtq_f32_s32(factor));
        }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn levels(block: *const u8, group: usize) -> [int8x16_t; 2] {
        // SAFETY: see above.
        let (indices, ninth, signs) = unsafe {
            let indices = block.add(offset_of!(Self, indices) + 8 * group).cast::<[u8; 8]>().read();
            (
                indices,
                usize::from(*block.add(offset_of!(Self, ninths) + group)),
                block.add(offset_of!(Self, signs) + 4 * group).cast::<[u8; 4]>().read(),
            )
        };
        let point = |part: usize| grids::IQ3S[usize::from(indices[part]) | ninth << (8 - part) & 0x100];
        with_signs(in_pairs([0, 1, 2, 3, 4, 5, 6, 7].map(point)), signs)
    }
}

/// Points of four columns to points of eight.
#[inline]
fn in_pairs(points: [u32; 8]) -> [u64; 4] {
    [0, 2, 4, 6].map(|first| u64::from(points[first]) | u64::from(points[first + 1]) << 32)
}
