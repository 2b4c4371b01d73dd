//! IQ3_XXS and IQ3_S.

use std::arch::x86_64::*;
use std::mem::offset_of;

use super::{Block, Header, Rows, f16_of, mask_of, odd, sign_masks, with_signs, words_of};
use crate::quant::{IQ3S, IQ3XXS, grids};

impl Block for IQ3XXS {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: upheld by the caller.
        let scale = _mm256_mul_ps(unsafe { f16_of(rows, offset_of!(Self, scale)) }, _mm256_set1_ps(0.25));
        for group in 0..8 {
            // SAFETY: as above.
            let bits = _mm256_srli_epi32::<28>(unsafe { words_of(rows, offset_of!(Self, words) + 4 * group) });
            header.scale[group] = _mm256_mul_ps(scale, odd(bits));
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn levels(block: *const u8, group: usize) -> __m256i {
        // SAFETY: upheld by the caller.
        let (indices, word) = unsafe {
            let indices = block.add(offset_of!(Self, indices) + 8 * group).cast::<[u8; 8]>().read();
            (indices, block.add(offset_of!(Self, words) + 4 * group).cast::<u32>().read_unaligned())
        };
        let [a, b, c, d, e, f, g, h] = indices.map(|index| grids::IQ3XXS[usize::from(index)] as i32);
        with_signs(_mm256_setr_epi32(a, b, c, d, e, f, g, h), sign_masks(word), Self::ZERO as i8)
    }
}

impl Block for IQ3S {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: upheld by the caller.
        let (scale, nibbles) =
            unsafe { (f16_of(rows, offset_of!(Self, scale)), words_of(rows, offset_of!(Self, scales))) };
        for group in 0..8 {
            let bits = _mm256_srl_epi32(nibbles, _mm_cvtsi32_si128(4 * group as i32));
            header.scale[group] = _mm256_mul_ps(scale, odd(_mm256_and_si256(bits, _mm256_set1_epi32(15))));
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn levels(block: *const u8, group: usize) -> __m256i {
        // SAFETY: upheld by the caller.
        let (indices, ninth, signs) = unsafe {
            let indices = block.add(offset_of!(Self, indices) + 8 * group).cast::<[u8; 8]>().read();
            (
                indices,
                usize::from(*block.add(offset_of!(Self, ninths) + group)),
                block.add(offset_of!(Self, signs) + 4 * group).cast::<i32>().read_unaligned(),
            )
        };
        let point = |part: usize| grids::IQ3S[usize::from(indices[part]) | ninth << (8 - part) & 0x100] as i32;
        let points = _mm256_setr_epi32(point(0), point(1), point(2), point(3), point(4), point(5), point(6), point(7));
        with_signs(points, mask_of(signs), Self::ZERO as i8)
    }
}
