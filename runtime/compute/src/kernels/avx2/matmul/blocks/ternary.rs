//! TQ1_0 and TQ2_0.

use std::arch::x86_64::*;
use std::mem::offset_of;

use super::{Block, Header, Rows, bit_pairs, f16_of};
use crate::quant::{TQ1_0, TQ2_0};

impl Block for TQ1_0 {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: upheld by the caller.
        header.scale = [unsafe { f16_of(rows, offset_of!(Self, scale)) }; 8];
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn levels(block: *const u8, group: usize) -> __m256i {
        // SAFETY: upheld by the caller.
        let bytes = unsafe {
            match group {
                0..5 => _mm256_loadu_si256(block.add(offset_of!(Self, groups)).cast()),
                5 | 6 => _mm256_broadcastsi128_si256(_mm_loadu_si128(block.add(offset_of!(Self, halves)).cast())),
                _ => {
                    let four = _mm_set1_epi32(block.add(offset_of!(Self, eighths)).cast::<i32>().read_unaligned());
                    _mm256_set_m128i(four, _mm_loadu_si128(block.add(offset_of!(Self, halves)).cast()))
                }
            }
        };
        // SAFETY: eight rows of 32 bytes, one for each group.
        let power = unsafe { _mm256_loadu_si256(POWERS[group & 7].as_ptr().cast()) };
        // Products of even bytes, and of odd ones, modulo 256 each.
        let odd_bytes = _mm256_set1_epi16(-256);
        let even = _mm256_andnot_si256(odd_bytes, _mm256_mullo_epi16(bytes, power));
        let odd = _mm256_mullo_epi16(_mm256_and_si256(bytes, odd_bytes), power);
        let front = _mm256_or_si256(even, odd);
        // The digit, ⌊3 × front / 256⌋, is how many of the thresholds 86 and 171 the front reaches.
        let reaches = |limit| _mm256_cmpeq_epi8(_mm256_max_epu8(front, _mm256_set1_epi8(limit)), front);
        _mm256_abs_epi8(_mm256_add_epi8(reaches(86), reaches(171u8 as i8)))
    }
}

impl Block for TQ2_0 {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: upheld by the caller.
        header.scale = [unsafe { f16_of(rows, offset_of!(Self, scale)) }; 8];
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn levels(block: *const u8, group: usize) -> __m256i {
        // SAFETY: upheld by the caller.
        unsafe { bit_pairs(block.add(offset_of!(Self, pairs)), group) }
    }
}

/// Per group, the power that brings its digit to the front, for pairs of bytes: see `quant::ternary`.
static POWERS: [[i16; 16]; 8] = {
    let mut powers = [[1; 16]; 8];
    let mut group = 0;
    while group < 8 {
        let mut lane = 0;
        while lane < 16 {
            let digit = match (group, lane) {
                (0..5, _) => group,
                (5..7, _) => 2 * (group - 5) + lane / 8,
                (_, 0..8) => 4,
                _ => (lane - 8) / 2,
            };
            powers[group][lane] = 3i16.pow(digit as u32);
            lane += 1;
        }
        group += 1;
    }
    powers
};
