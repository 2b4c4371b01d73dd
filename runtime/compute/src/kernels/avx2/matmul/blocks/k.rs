//! Q2_K to Q6_K.

use std::arch::x86_64::*;
use std::mem::offset_of;

use super::{Block, Header, Rows, bit_pairs, f16_of, f16_pairs, f16_pairs_of, four_words_of, transpose};
use crate::quant::{Q2K, Q3K, Q4K, Q5K, Q6K};

impl Block for Q2K {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: upheld by the caller.
        let (scale, minimum) = unsafe { f16_pairs_of(rows, offset_of!(Self, scale)) };
        let minus = _mm256_sub_ps(_mm256_setzero_ps(), minimum);
        // Sixteen bytes per row, a pair for each group, widened to eight pairs of i16.
        let mut pairs = [_mm256_setzero_si256(); 8];
        for (pairs, row) in pairs.iter_mut().zip(rows) {
            // SAFETY: as above.
            *pairs = _mm256_cvtepu8_epi16(unsafe { _mm_loadu_si128(row.add(offset_of!(Self, scales)).cast()) });
        }
        let nibble = |bits| _mm256_cvtepi32_ps(_mm256_and_si256(bits, _mm256_set1_epi32(15)));
        for (group, pairs) in transpose(pairs).into_iter().enumerate() {
            header.scale[group] = _mm256_mul_ps(scale, nibble(pairs));
            header.offset[group] = _mm256_mul_ps(minus, nibble(_mm256_srli_epi32::<4>(pairs)));
            header.upper_scale[group] = _mm256_mul_ps(scale, nibble(_mm256_srli_epi32::<16>(pairs)));
            header.upper_offset[group] = _mm256_mul_ps(minus, nibble(_mm256_srli_epi32::<20>(pairs)));
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn levels(block: *const u8, group: usize) -> __m256i {
        // SAFETY: upheld by the caller.
        unsafe { bit_pairs(block.add(offset_of!(Self, pairs)), group) }
    }
}

impl Block for Q3K {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: upheld by the caller.
        header.scale = [unsafe { f16_of(rows, offset_of!(Self, scale)) }; 8];
        let mut pairs = [_mm256_setzero_si256(); 8];
        for (pairs, row) in pairs.iter_mut().zip(rows) {
            // SAFETY: as above.
            let (low, high) = unsafe {
                (
                    row.add(offset_of!(Self, scales)).cast::<u64>().read_unaligned(),
                    u64::from(row.add(offset_of!(Self, scales) + 8).cast::<u32>().read_unaligned()),
                )
            };
            // Scale n has its lower nibble in byte n % 8 and its upper bit pair in byte n % 4: see `quant::k`.
            let (nibbles, bits) = (0x0f0f_0f0f_0f0f_0f0f, 0x3030_3030);
            let front = low & nibbles | (high << 4 & bits) | (high << 2 & bits) << 32;
            let back = low >> 4 & nibbles | (high & bits) | (high >> 2 & bits) << 32;
            let scales = _mm_sub_epi8(_mm_set_epi64x(back as i64, front as i64), _mm_set1_epi8(32));
            *pairs = _mm256_cvtepi8_epi16(scales);
        }
        header.halves = transpose(pairs);
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn levels(block: *const u8, group: usize) -> __m256i {
        // SAFETY: upheld by the caller.
        let (low, bits) = unsafe {
            (
                bit_pairs(block.add(offset_of!(Self, pairs)), group),
                _mm256_loadu_si256(block.add(offset_of!(Self, thirds)).cast()),
            )
        };
        let bit = _mm256_srl_epi16(bits, _mm_cvtsi32_si128(group as i32));
        let bit = _mm256_and_si256(bit, _mm256_set1_epi8(1));
        _mm256_or_si256(low, _mm256_slli_epi16::<2>(bit))
    }
}

impl Block for Q4K {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: upheld by the caller.
        unsafe { six_bit_header(rows, header) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn levels(block: *const u8, group: usize) -> __m256i {
        // SAFETY: upheld by the caller.
        unsafe { k_nibbles(block.add(offset_of!(Self, nibbles)), group) }
    }
}

impl Block for Q5K {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: upheld by the caller.
        unsafe { six_bit_header(rows, header) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn levels(block: *const u8, group: usize) -> __m256i {
        // SAFETY: upheld by the caller.
        unsafe {
            let bits = _mm256_loadu_si256(block.add(offset_of!(Self, fifths)).cast());
            let bit = _mm256_srl_epi16(bits, _mm_cvtsi32_si128(group as i32));
            let bit = _mm256_and_si256(bit, _mm256_set1_epi8(1));
            _mm256_or_si256(k_nibbles(block.add(offset_of!(Self, nibbles)), group), _mm256_slli_epi16::<4>(bit))
        }
    }
}

impl Block for Q6K {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: upheld by the caller.
        unsafe {
            header.scale = [f16_of(rows, offset_of!(Self, scale)); 8];
            // Sixteen signed scales per row, a pair for each group, widened to eight pairs of i16.
            let mut pairs = [_mm256_setzero_si256(); 8];
            for (pairs, row) in pairs.iter_mut().zip(rows) {
                *pairs = _mm256_cvtepi8_epi16(_mm_loadu_si128(row.add(offset_of!(Self, scales)).cast()));
            }
            header.halves = transpose(pairs);
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn levels(block: *const u8, group: usize) -> __m256i {
        let (half, part) = (group / 4, group % 4);
        // SAFETY: upheld by the caller.
        let (low, high) = unsafe {
            (
                _mm256_loadu_si256(block.add(offset_of!(Self, nibbles) + 64 * half + 32 * (part % 2)).cast()),
                _mm256_loadu_si256(block.add(offset_of!(Self, pairs) + 32 * half).cast()),
            )
        };
        let low = _mm256_srl_epi16(low, _mm_cvtsi32_si128(4 * (part / 2) as i32));
        let low = _mm256_and_si256(low, _mm256_set1_epi8(15));
        let high = _mm256_srl_epi16(high, _mm_cvtsi32_si128(2 * part as i32));
        let high = _mm256_and_si256(high, _mm256_set1_epi8(3));
        _mm256_or_si256(low, _mm256_slli_epi16::<4>(high))
    }
}

/// Each 32 bytes hold two groups: the even one in the low nibbles, the odd one in the high nibbles.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn k_nibbles(bytes: *const u8, group: usize) -> __m256i {
    // SAFETY: the caller guarantees 128 bytes there.
    let both = unsafe { _mm256_loadu_si256(bytes.add(32 * (group / 2)).cast()) };
    let shifted = _mm256_srl_epi16(both, _mm_cvtsi32_si128(4 * (group % 2) as i32));
    _mm256_and_si256(shifted, _mm256_set1_epi8(15))
}

/// Scales and minimums of eight rows of Q4_K or Q5_K.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn six_bit_header(rows: &Rows, header: &mut Header) {
    // Both f16 and the twelve bytes of scales are adjacent, in both types.
    // SAFETY: upheld by the caller; a block is longer than sixteen bytes.
    let [pairs, first, second, third] = unsafe { four_words_of(rows, offset_of!(Q4K, scale)) };
    let (scale, minimum) = f16_pairs(pairs);
    let minus = _mm256_sub_ps(_mm256_setzero_ps(), minimum);
    let (six, four, two) =
        (_mm256_set1_epi32(0x3f3f_3f3f), _mm256_set1_epi32(0x0f0f_0f0f), _mm256_set1_epi32(0x3030_3030));
    // Groups 4 to 7: their own four bits, plus two upper bits left over from groups 0 to 3. See `quant::k`.
    let upper = |bits, word| {
        let above = _mm256_and_si256(_mm256_srli_epi32::<2>(word), two);
        _mm256_or_si256(_mm256_and_si256(bits, four), above)
    };
    let scales = [_mm256_and_si256(first, six), upper(third, first)];
    let minimums = [_mm256_and_si256(second, six), upper(_mm256_srli_epi32::<4>(third), second)];
    let byte = |words, group: usize| {
        let byte = _mm256_srl_epi32(words, _mm_cvtsi32_si128(8 * (group % 4) as i32));
        _mm256_cvtepi32_ps(_mm256_and_si256(byte, _mm256_set1_epi32(0xff)))
    };
    for group in 0..8 {
        header.scale[group] = _mm256_mul_ps(scale, byte(scales[group / 4], group));
        header.offset[group] = _mm256_mul_ps(minus, byte(minimums[group / 4], group));
    }
}
