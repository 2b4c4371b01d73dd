//! IQ1_S and IQ1_M.

use std::arch::x86_64::*;
use std::mem::offset_of;

use super::{Block, Header, Rows, f16_of, half_words_of, odd, transpose};
use crate::quant::{IQ1M, IQ1S, grids::IQ1};

impl Block for IQ1S {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: upheld by the caller.
        let scale = unsafe { f16_of(rows, offset_of!(Self, scale)) };
        for group in 0..8 {
            // SAFETY: as above.
            let words = unsafe { half_words_of(rows, offset_of!(Self, words) + 2 * group) };
            let bits = _mm256_and_si256(_mm256_srli_epi32::<12>(words), _mm256_set1_epi32(7));
            header.scale[group] = _mm256_mul_ps(scale, odd(bits));
            // Levels start at −1, shifted up or down by an eighth: the direction is the upper bit of the word.
            let direction = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words));
            let zero = _mm256_blendv_ps(_mm256_set1_ps(-0.875), _mm256_set1_ps(-1.125), direction);
            header.offset[group] = _mm256_mul_ps(header.scale[group], zero);
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn levels(block: *const u8, group: usize) -> __m256i {
        // SAFETY: upheld by the caller.
        unsafe {
            let upper = block.add(offset_of!(Self, words) + 2 * group).cast::<u16>().read_unaligned() as usize;
            points(block.add(offset_of!(Self, indices) + 4 * group), [upper << 8, upper << 5, upper << 2, upper >> 1])
        }
    }
}

impl Block for IQ1M {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        let mut scales = [0; 8];
        let mut pairs = [_mm256_setzero_si256(); 8];
        for ((pairs, scale), row) in pairs.iter_mut().zip(&mut scales).zip(rows) {
            // SAFETY: upheld by the caller.
            let words = unsafe { row.add(offset_of!(Self, words)).cast::<u64>().read_unaligned() };
            *scale = (words >> 12 & 0xf | words >> 24 & 0xf0 | words >> 36 & 0xf00 | words >> 48 & 0xf000) as i16;
            // Each word four times; scale n of a word is shifted to bit 9, and back down.
            let copies = _mm256_setr_epi64x(
                0x0100_0100_0100_0100,
                0x0302_0302_0302_0302,
                0x0504_0504_0504_0504,
                0x0706_0706_0706_0706,
            );
            let copies = _mm256_shuffle_epi8(_mm256_set1_epi64x(words as i64), copies);
            let front = _mm256_mullo_epi16(copies, _mm256_set1_epi64x(0x0001_0008_0040_0200));
            let bits = _mm256_and_si256(_mm256_srli_epi16::<9>(front), _mm256_set1_epi16(7));
            *pairs = _mm256_or_si256(_mm256_add_epi16(bits, bits), _mm256_set1_epi16(1));
        }
        let [a, b, c, d, e, f, g, h] = scales;
        let scale = _mm256_cvtph_ps(_mm_setr_epi16(a, b, c, d, e, f, g, h));
        header.scale = [_mm256_mul_ps(scale, _mm256_set1_ps(0.125)); 8];
        header.halves = transpose(pairs);
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn levels(block: *const u8, group: usize) -> __m256i {
        // SAFETY: upheld by the caller.
        let (points, upper) = unsafe {
            let upper = block.add(offset_of!(Self, upper) + 2 * group).cast::<u16>().read_unaligned() as usize;
            (
                points(block.add(offset_of!(Self, indices) + 4 * group), [upper << 8, upper << 4, upper, upper >> 4]),
                upper,
            )
        };
        // Point in eighths, starting at −1: 8 × (point − 1), plus or minus one, and the zero point.
        let direction = _mm256_setr_epi64x(8, 8 << 4, 8 << 8, 8 << 12);
        let lower = _mm256_cmpeq_epi64(_mm256_and_si256(_mm256_set1_epi64x(upper as i64), direction), direction);
        let zero =
            _mm256_sub_epi8(_mm256_set1_epi8(Self::ZERO as i8 - 7), _mm256_and_si256(lower, _mm256_set1_epi8(2)));
        _mm256_add_epi8(_mm256_slli_epi16::<3>(points), zero)
    }
}

/// Four grid points, from the low bytes of their indices and words that contain the upper three bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn points(indices: *const u8, upper: [usize; 4]) -> __m256i {
    // SAFETY: the caller guarantees four bytes there.
    let indices = unsafe { indices.cast::<[u8; 4]>().read() };
    let point = |part: usize| IQ1[usize::from(indices[part]) | upper[part] & 0x700] as i64;
    _mm256_setr_epi64x(point(0), point(1), point(2), point(3))
}
