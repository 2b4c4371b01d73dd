//! Readers of F32, F16 and BF16 weights in units of 32 bits, and the rounding of activations to BF16.
//!
//! A unit is a column as f32, or two columns as BF16, the first in the lower half. What is rounded is rounded by the processor's
//! own conversion, to nearest, ties to even; it takes numbers below 2⁻¹²⁶ for 0.

use std::arch::x86_64::*;

use crate::quant::{BF16, F16, F32, Plain};

/// Reader of a plain type as f32.
pub(super) trait Wide: Plain {
    /// Sixteen elements.
    ///
    /// # Safety
    /// They are readable; the processor supports AVX-512.
    unsafe fn load(from: *const u8) -> __m512;
}

impl Wide for F32 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn load(from: *const u8) -> __m512 {
        // SAFETY: upheld by the caller.
        unsafe { _mm512_loadu_ps(from.cast()) }
    }
}

impl Wide for F16 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn load(from: *const u8) -> __m512 {
        // SAFETY: upheld by the caller.
        _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(from.cast()) })
    }
}

impl Wide for BF16 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn load(from: *const u8) -> __m512 {
        // SAFETY: upheld by the caller.
        let bits = _mm512_cvtepu16_epi32(unsafe { _mm256_loadu_si256(from.cast()) });
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
    }
}

/// Reader of a plain type as pairs of BF16.
pub(super) trait Narrow: Plain {
    /// 32 elements.
    ///
    /// # Safety
    /// They are readable; the processor supports AVX-512 with BF16.
    unsafe fn load(from: *const u8) -> __m512;
}

impl Narrow for BF16 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
    unsafe fn load(from: *const u8) -> __m512 {
        // SAFETY: upheld by the caller.
        unsafe { _mm512_loadu_ps(from.cast()) }
    }
}

/// 32 columns rounded to BF16, in order.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn pairs(first: __m512, second: __m512) -> __m512 {
    // SAFETY: vectors of bits.
    unsafe { std::mem::transmute(_mm512_cvtne2ps_pbh(second, first)) }
}

/// Columns as they are.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn pack(columns: &[f32; 16]) -> __m512 {
    // SAFETY: sixteen values.
    unsafe { _mm512_loadu_ps(columns.as_ptr()) }
}

/// Columns as BF16.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn pack_bf16(columns: &[f32; 32]) -> __m512 {
    // SAFETY: twice sixteen values.
    unsafe { pairs(_mm512_loadu_ps(columns.as_ptr()), _mm512_loadu_ps(columns.as_ptr().add(16))) }
}

/// A token's activations as pairs of BF16, zero past the last column.
///
/// # Safety
/// The processor supports AVX-512 with BF16.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn round(x: &[f32], pairs: &mut [u32]) {
    let (whole, rest) = x.as_chunks::<32>();
    let mut tail = [0.0; 32];
    tail[..rest.len()].copy_from_slice(rest);
    let last = if rest.is_empty() { None } else { Some(&tail) };
    for (x, pairs) in whole.iter().chain(last).zip(pairs.as_chunks_mut::<16>().0) {
        // SAFETY: sixteen words.
        unsafe { _mm512_storeu_ps(pairs.as_mut_ptr().cast(), pack_bf16(x)) };
    }
}

/// Four units at `x` in each quarter of a vector.
///
/// # Safety
/// They are readable.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn broadcast(x: *const f32) -> __m512 {
    // SAFETY: upheld by the caller.
    _mm512_broadcast_f32x4(unsafe { _mm_loadu_ps(x) })
}

/// Sixteen units of each of four rows as four vectors: four units of each of the rows.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn quads([a, b, c, d]: [__m512; 4]) -> [__m512; 4] {
    let (ab0, ab1) = (_mm512_shuffle_f32x4::<0b01_00_01_00>(a, b), _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b));
    let (cd0, cd1) = (_mm512_shuffle_f32x4::<0b01_00_01_00>(c, d), _mm512_shuffle_f32x4::<0b11_10_11_10>(c, d));
    [
        _mm512_shuffle_f32x4::<0b10_00_10_00>(ab0, cd0),
        _mm512_shuffle_f32x4::<0b11_01_11_01>(ab0, cd0),
        _mm512_shuffle_f32x4::<0b10_00_10_00>(ab1, cd1),
        _mm512_shuffle_f32x4::<0b11_01_11_01>(ab1, cd1),
    ]
}
