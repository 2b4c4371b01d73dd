//! IQ2_XXS, IQ2_XS and IQ2_S.

use std::arch::x86_64::*;
use std::mem::offset_of;

use super::{Block, Header, Rows, bytes_of, f16_of, mask_of, odd, sign_masks, with_signs, words_of};
use crate::quant::{IQ2S, IQ2XS, IQ2XXS, grids};

impl Block for IQ2XXS {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: upheld by the caller.
        let scale = unsafe { eighth_of_f16(rows) };
        for group in 0..8 {
            // SAFETY: as above.
            let bits = _mm256_srli_epi32::<28>(unsafe { words_of(rows, offset_of!(Self, groups) + 8 * group + 4) });
            header.scale[group] = _mm256_mul_ps(scale, odd(bits));
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn levels(block: *const u8, group: usize) -> __m256i {
        // SAFETY: upheld by the caller.
        let [a, b, c, d, words @ ..] =
            unsafe { block.add(offset_of!(Self, groups) + 8 * group).cast::<[u8; 8]>().read() };
        let point = |index: u8| grids::IQ2XXS[usize::from(index)] as i64;
        let points = _mm256_setr_epi64x(point(a), point(b), point(c), point(d));
        with_signs(points, sign_masks(u32::from_le_bytes(words)), Self::ZERO as i8)
    }
}

impl Block for IQ2XS {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: upheld by the caller.
        unsafe { nibble_header(rows, offset_of!(Self, scales), header) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn levels(block: *const u8, group: usize) -> __m256i {
        // SAFETY: upheld by the caller.
        let words = unsafe { block.add(offset_of!(Self, words) + 8 * group).cast::<u64>().read_unaligned() };
        let point = |part: usize| grids::IQ2XS[(words >> (16 * part)) as usize & 511] as i64;
        let points = _mm256_setr_epi64x(point(0), point(1), point(2), point(3));
        let mask = |part: usize| super::SIGN_MASKS[(words >> (16 * part + 9)) as usize & 127] as i64;
        with_signs(points, _mm256_setr_epi64x(mask(0), mask(1), mask(2), mask(3)), Self::ZERO as i8)
    }
}

impl Block for IQ2S {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: upheld by the caller.
        unsafe { nibble_header(rows, offset_of!(Self, scales), header) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn levels(block: *const u8, group: usize) -> __m256i {
        // SAFETY: upheld by the caller.
        let (indices, signs, upper) = unsafe {
            let indices = block.add(offset_of!(Self, indices) + 4 * group).cast::<[u8; 4]>().read();
            (
                indices,
                block.add(offset_of!(Self, signs) + 4 * group).cast::<i32>().read_unaligned(),
                usize::from(*block.add(offset_of!(Self, upper) + group)),
            )
        };
        let point = |part: usize| grids::IQ2S[usize::from(indices[part]) | upper << (8 - 2 * part) & 0x300] as i64;
        let points = _mm256_setr_epi64x(point(0), point(1), point(2), point(3));
        with_signs(points, mask_of(signs), Self::ZERO as i8)
    }
}

/// The f16 at the start of a block, divided by 8.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn eighth_of_f16(rows: &Rows) -> __m256 {
    // SAFETY: upheld by the caller.
    _mm256_mul_ps(unsafe { f16_of(rows, offset_of!(IQ2S, scale)) }, _mm256_set1_ps(0.125))
}

/// Scales of both halves of each group, one byte per group, eight bytes at `offset`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn nibble_header(rows: &Rows, offset: usize, header: &mut Header) {
    // SAFETY: upheld by the caller.
    let (scale, bytes) = unsafe { (eighth_of_f16(rows), bytes_of(rows, offset)) };
    for (group, bytes) in bytes.into_iter().enumerate() {
        header.scale[group] = _mm256_mul_ps(scale, odd(_mm256_and_si256(bytes, _mm256_set1_epi32(15))));
        header.upper_scale[group] = _mm256_mul_ps(scale, odd(_mm256_srli_epi32::<4>(bytes)));
    }
}
