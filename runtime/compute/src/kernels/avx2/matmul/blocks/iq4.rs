//! IQ4_NL and IQ4_XS: nibbles index sixteen levels, which fill a byte's range and stay signed.

use std::arch::x86_64::*;
use std::mem::offset_of;

use super::{Block, Header, Rows, f16_of, half_words_of, look_up, nibbles, words_of};
use crate::quant::{IQ4_CODES, IQ4NL, IQ4XS};

impl Block for IQ4NL {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: upheld by the caller.
        header.scale[0] = unsafe { f16_of(rows, offset_of!(Self, scale)) };
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn levels(block: *const u8, _: usize) -> __m256i {
        // SAFETY: upheld by the caller.
        look_up(&IQ4_CODES, unsafe { nibbles(block.add(offset_of!(Self, nibbles))) })
    }
}

impl Block for IQ4XS {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: upheld by the caller.
        let (scale, high, low) = unsafe {
            (
                f16_of(rows, offset_of!(Self, scale)),
                half_words_of(rows, offset_of!(Self, upper)),
                words_of(rows, offset_of!(Self, lower)),
            )
        };
        for group in 0..8 {
            let low = _mm256_srl_epi32(low, _mm_cvtsi32_si128(4 * group as i32));
            let high = _mm256_srl_epi32(_mm256_slli_epi32::<4>(high), _mm_cvtsi32_si128(2 * group as i32));
            let bits = _mm256_or_si256(
                _mm256_and_si256(low, _mm256_set1_epi32(0x0f)),
                _mm256_and_si256(high, _mm256_set1_epi32(0x30)),
            );
            let bits = _mm256_sub_epi32(bits, _mm256_set1_epi32(32));
            header.scale[group] = _mm256_mul_ps(scale, _mm256_cvtepi32_ps(bits));
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn levels(block: *const u8, group: usize) -> __m256i {
        // SAFETY: upheld by the caller.
        look_up(&IQ4_CODES, unsafe { nibbles(block.add(offset_of!(Self, nibbles) + 16 * group)) })
    }
}
