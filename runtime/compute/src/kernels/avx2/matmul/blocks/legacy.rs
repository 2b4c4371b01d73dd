//! Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0.

use std::arch::x86_64::*;
use std::mem::offset_of;

use super::{Block, Header, Rows, f16_of, f16_pairs_of, mask_of, nibbles};
use crate::quant::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};

impl Block for Q4_0 {
    const ZERO_IN_OFFSET: bool = true;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: upheld by the caller.
        header.scale[0] = unsafe { f16_of(rows, offset_of!(Self, scale)) };
        header.offset[0] = _mm256_mul_ps(header.scale[0], _mm256_set1_ps(-Self::RAISE as f32));
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn levels(block: *const u8, _: usize) -> __m256i {
        // SAFETY: upheld by the caller.
        unsafe { nibbles(block.add(offset_of!(Self, nibbles))) }
    }
}

impl Block for Q4_1 {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: upheld by the caller.
        (header.scale[0], header.offset[0]) = unsafe { f16_pairs_of(rows, offset_of!(Self, scale)) };
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn levels(block: *const u8, _: usize) -> __m256i {
        // SAFETY: upheld by the caller.
        unsafe { nibbles(block.add(offset_of!(Self, nibbles))) }
    }
}

impl Block for Q5_0 {
    const ZERO_IN_OFFSET: bool = true;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: upheld by the caller.
        header.scale[0] = unsafe { f16_of(rows, offset_of!(Self, scale)) };
        header.offset[0] = _mm256_mul_ps(header.scale[0], _mm256_set1_ps(-Self::RAISE as f32));
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn levels(block: *const u8, _: usize) -> __m256i {
        // SAFETY: upheld by the caller.
        unsafe {
            _mm256_or_si256(
                nibbles(block.add(offset_of!(Self, nibbles))),
                fifth_bits(block.add(offset_of!(Self, fifths))),
            )
        }
    }
}

impl Block for Q5_1 {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: upheld by the caller.
        (header.scale[0], header.offset[0]) = unsafe { f16_pairs_of(rows, offset_of!(Self, scale)) };
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn levels(block: *const u8, _: usize) -> __m256i {
        // SAFETY: upheld by the caller.
        unsafe {
            _mm256_or_si256(
                nibbles(block.add(offset_of!(Self, nibbles))),
                fifth_bits(block.add(offset_of!(Self, fifths))),
            )
        }
    }
}

impl Block for Q8_0 {
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
        unsafe { _mm256_loadu_si256(block.add(offset_of!(Self, levels)).cast()) }
    }
}

/// Expands 32 bits to 32 bytes of 0 or 16.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn fifth_bits(bytes: *const u8) -> __m256i {
    // SAFETY: the caller guarantees four bytes there.
    let mask = mask_of(unsafe { bytes.cast::<i32>().read_unaligned() });
    _mm256_and_si256(mask, _mm256_set1_epi8(16))
}
