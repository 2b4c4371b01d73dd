//! Quantised weights times int8 activations with AVX2.
//!
//! Loops here are written out: a closure passed to `map` keeps the target features, but `map` itself does not, and then neither
//! is inlined.
//!
//! Two paths with identical sums: [`few_tokens`] reads eight rows in place; with more tokens, [`tile()`] multiplies a strip of
//! sixteen unpacked rows by up to four of them. In both, a group's integer is exact and then goes through [`accumulate`].
//!
//! `maddubs` multiplies unsigned levels by signed activations and adds pairs into i16. With levels of up to five bits, the four
//! such sums of a half can be added before widening (31 × 127 × 2 × 4 < 2¹⁵), with six bits two; signed levels use `|w| × (x with
//! the sign of w)`. `madd` widens to i32 and multiplies by the half's integer scales. Halves with separate scales
//! ([`Block::APART`]) are two sums, each with its f32 scale.

use std::arch::x86_64::*;

use super::blocks::Block;
use super::few::{FEW, few_tokens};
use super::strip::{Piece, for_each_piece, for_each_tile};
use super::tile::tile;
use crate::kernels::matmul::{Chunk, GroupFacts};

/// The table's function for type `B`.
///
/// # Safety
/// See [`crate::kernels::matmul::RowsKernel`]; the processor supports AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn rows<B: Block>(chunk: &Chunk<'_>) {
    if chunk.x.tokens() <= FEW {
        // SAFETY: upheld by the caller.
        return unsafe { few_tokens::<B>(chunk) };
    }
    for_each_tile!(chunk, B, unsigned: false, tile, [4 2 1]);
}

/// Stores eight rows' sums, or fewer at the end of the chunk.
///
/// # Safety
/// The processor supports AVX.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernels) unsafe fn store(chunk: &Chunk<'_>, token: usize, first: usize, sums: __m256) {
    let mut lanes = [0.0; 8];
    // SAFETY: eight lanes to eight values; the rows belong to this chunk.
    unsafe {
        _mm256_storeu_ps(lanes.as_mut_ptr(), sums);
        chunk.store(token, first, &lanes);
    }
}

/// Loads the partial sums of eight rows.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn sums_of(piece: &Piece<'_>, token: usize, vector: usize) -> __m256 {
    if piece.begins() {
        return _mm256_setzero_ps();
    }
    // SAFETY: sixteen sums, two vectors.
    unsafe { _mm256_load_ps(piece.sums[token].0.as_ptr().add(8 * vector)) }
}

/// Stores eight rows' sums: as partial sums if more columns follow, else as outputs.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn keep(chunk: &Chunk<'_>, piece: &mut Piece<'_>, token: usize, vector: usize, sums: __m256) {
    // SAFETY: sixteen sums, two vectors; the rows belong to this chunk, per the caller.
    unsafe {
        if piece.ends {
            store(chunk, token, piece.first + 8 * vector, sums);
        } else {
            _mm256_store_ps(piece.sums[token].0.as_mut_ptr().add(8 * vector), sums);
        }
    }
}

/// Adds a group, its integers already f32, to the sums of eight rows: the single place that decides order and rounding.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn accumulate<B: Block>(
    sums: __m256,
    integers: __m256,
    scale: __m256,
    offset: __m256,
    facts: &GroupFacts,
) -> __m256 {
    let scale = _mm256_mul_ps(scale, _mm256_set1_ps(facts.scale));
    let sums = _mm256_fmadd_ps(scale, integers, sums);
    if B::OFFSET { _mm256_fmadd_ps(offset, _mm256_set1_ps(facts.sum), sums) } else { sums }
}

/// Subtracts the zero-point term from a half's integer sum.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn without_zero<B: Block>(integers: __m256i, facts: &GroupFacts, half: usize) -> __m256i {
    if B::ZERO == 0 {
        return integers;
    }
    let zero = B::ZERO * facts.multiplier(half) * facts.half_levels(half);
    _mm256_sub_epi32(integers, _mm256_set1_epi32(zero))
}

/// [`accumulate`] for a half with its own scale. Its integers include the activations' multiplier.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn accumulate_half<B: Block>(
    sums: __m256,
    integers: __m256i,
    (scale, offset): (__m256, __m256),
    facts: &GroupFacts,
    half: usize,
) -> __m256 {
    let scale = _mm256_mul_ps(scale, _mm256_set1_ps(facts.scale));
    let sums = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(integers), sums);
    if B::OFFSET { _mm256_fmadd_ps(offset, _mm256_set1_ps(facts.half_sum(half)), sums) } else { sums }
}

/// Levels of four columns times activations, pairs added into sixteen i16.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn multiply<B: Block>(levels: __m256i, x: __m256i) -> __m256i {
    match B::MAX_LEVEL {
        Some(_) => _mm256_maddubs_epi16(levels, x),
        None => _mm256_maddubs_epi16(_mm256_abs_epi8(levels), _mm256_sign_epi8(x, levels)),
    }
}
