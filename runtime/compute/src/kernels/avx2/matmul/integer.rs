//! Quantised weights times int8 activations with AVX2.
//!
//! Loops here are written out: a closure given to `map` keeps the instruction set, but `map` does not, and then neither is inlined.
//!
//! Two paths, the same sums: [`one_token`] reads eight rows where they lie; with more tokens, [`tile()`] takes up to four of them over
//! a strip of sixteen unpacked rows. In both, a group's integer is exact and then goes through [`accumulate`].
//!
//! `maddubs` multiplies unsigned levels with signed activations and adds pairs into i16. Levels of up to five bits let the four such
//! sums of a half group be added before they must be widened (31 × 127 × 2 × 4 < 2¹⁵), six-bit ones two; signed levels go through
//! `|w| × (x with the sign of w)`. `madd` widens to i32, and multiplies by the integer scales of the half. Halves that are apart
//! ([`Block::APART`]) are two sums, each with its f32 scale.

use std::arch::x86_64::*;

use super::blocks::{Block, Header, Rows};
use super::strip::{for_each_strip, for_each_tile, pointers};
use super::tile::tile;
use crate::kernels::matmul::{Chunk, GroupFacts, Levels};
use crate::quant::GROUP;

/// The table's function for type `B`.
///
/// # Safety
/// As for [`crate::kernels::matmul::RowsKernel`]; the processor has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn rows<B: Block>(chunk: &Chunk<'_>) {
    if chunk.x.tokens() == 1 {
        // SAFETY: passed on from the caller.
        return unsafe { single_token::<B>(chunk) };
    }
    for_each_tile!(chunk, B, unsigned: false, tile, [4 3 2 1]);
}

/// The chunk's rows of the only token, eight at a time.
///
/// # Safety
/// As for [`rows`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernels) unsafe fn single_token<B: Block>(chunk: &Chunk<'_>) {
    let blocks = chunk.weight.columns / (B::GROUPS * GROUP);
    let (levels, facts) = chunk.x.groups(0);
    for first in chunk.rows.clone().step_by(8) {
        // SAFETY: the rows' pointers are followed by `blocks` blocks each, `x` has as many groups; rows are this chunk's.
        unsafe {
            let sums = one_token::<B>(pointers(chunk, first), blocks, levels, facts);
            store(chunk, 0, first, sums);
        }
    }
}

/// Puts eight rows' sums, or as many as the chunk still has, where they belong.
///
/// # Safety
/// The processor has AVX.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernels) unsafe fn store(chunk: &Chunk<'_>, token: usize, first: usize, sums: __m256) {
    let mut lanes = [0.0; 8];
    // SAFETY: eight lanes to eight values; the rows are of this chunk.
    unsafe {
        _mm256_storeu_ps(lanes.as_mut_ptr(), sums);
        match chunk.rows.end.saturating_sub(first) {
            8.. => chunk.out.store(token, first, &lanes),
            0 => {}
            count => chunk.out.store(token, first, &lanes[..count]),
        }
    }
}

/// Adds a group to the sums of eight rows, its integers already f32: the one place where order and rounding are decided.
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

/// The same for a half that is apart. Its integers come with the activations' multiplier, levels counting from above 0.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn accumulate_half<B: Block>(
    sums: __m256,
    integers: __m256i,
    (scale, offset): (__m256, __m256),
    facts: &GroupFacts,
    half: usize,
) -> __m256 {
    let zero = B::ZERO * facts.multiplier(half) * i32::from(facts.half_sums[half]);
    let integers = _mm256_sub_epi32(integers, _mm256_set1_epi32(zero));
    let scale = _mm256_mul_ps(scale, _mm256_set1_ps(facts.scale));
    let sums = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(integers), sums);
    if B::OFFSET { _mm256_fmadd_ps(offset, _mm256_set1_ps(facts.half_sum(half)), sums) } else { sums }
}

/// Levels of four columns times activations, pairs added: sixteen i16.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn multiply<B: Block>(levels: __m256i, x: __m256i) -> __m256i {
    match B::MAX_LEVEL {
        Some(_) => _mm256_maddubs_epi16(levels, x),
        None => _mm256_maddubs_epi16(_mm256_abs_epi8(levels), _mm256_sign_epi8(x, levels)),
    }
}

/// Eight rows of one token.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn one_token<B: Block>(rows: Rows, blocks: usize, levels: &[Levels], facts: &[GroupFacts]) -> __m256 {
    let mut sums = _mm256_setzero_ps();
    let mut header = Header::new();
    for block in 0..blocks {
        // SAFETY: the caller has `blocks` blocks at each row, and as many groups of activations.
        unsafe {
            // Eight rows are eight short streams, which the processor's own prefetching follows too late. The eight rows after
            // them are one piece of memory: fetch as much of that as is read here.
            let next = rows[0].wrapping_add(8 * (blocks + block) * B::BYTES);
            for line in 0..(8 * B::BYTES).div_ceil(64) {
                _mm_prefetch::<_MM_HINT_T0>(next.wrapping_add(64 * line).cast());
            }
            let rows = rows.map(|row| row.add(block * B::BYTES));
            B::header(&rows, &mut header);
            for group in 0..B::GROUPS {
                let x = _mm256_load_si256(levels.get_unchecked(block * B::GROUPS + group).0.as_ptr().cast());
                let facts = facts.get_unchecked(block * B::GROUPS + group);
                let mut products = [_mm256_setzero_si256(); 8];
                for (products, &row) in products.iter_mut().zip(&rows) {
                    *products = multiply::<B>(B::levels(row, group), x);
                }
                let [mut first, mut second] = sum_halves::<B>(products, facts);
                if B::APART {
                    let (lower, upper) = (
                        (header.scale[group], header.offset[group]),
                        (header.upper_scale[group], header.upper_offset[group]),
                    );
                    sums = accumulate_half::<B>(sums, first, lower, facts, 0);
                    sums = accumulate_half::<B>(sums, second, upper, facts, 1);
                    continue;
                }
                if B::HALVES {
                    let pairs = header.halves[group];
                    let zero = |half: usize| {
                        _mm256_set1_epi32(B::ZERO * facts.multiplier(half) * i32::from(facts.half_sums[half]))
                    };
                    let scales =
                        [_mm256_srai_epi32::<16>(_mm256_slli_epi32::<16>(pairs)), _mm256_srai_epi32::<16>(pairs)];
                    first = _mm256_mullo_epi32(_mm256_sub_epi32(first, zero(0)), scales[0]);
                    second = _mm256_mullo_epi32(_mm256_sub_epi32(second, zero(1)), scales[1]);
                }
                let mut integers = _mm256_add_epi32(first, second);
                if !B::HALVES && B::ZERO != 0 {
                    integers = _mm256_sub_epi32(integers, _mm256_set1_epi32(B::ZERO * facts.levels_sum()));
                }
                let integers = _mm256_cvtepi32_ps(integers);
                sums = accumulate::<B>(sums, integers, header.scale[group], header.offset[group], facts);
            }
        }
    }
    sums
}

/// Eight rows' products to sums of each half of the columns, lane = row, times the activations' multipliers. Adds in i16 as long as
/// that cannot overflow.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn sum_halves<B: Block>(products: [__m256i; 8], facts: &GroupFacts) -> [__m256i; 2] {
    // The first half of the columns is in the lower half of each vector, and stays there until the end.
    let factors = _mm256_set_m128i(_mm_set1_epi32(facts.factors[1]), _mm_set1_epi32(facts.factors[0]));
    let [a, b, c, d, e, f, g, h] = products;
    let widen = |products| _mm256_madd_epi16(products, factors);
    // Words of two rows side by side.
    let pair = |a, b| {
        let (low, high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
        if B::SUMS >= 2 { _mm256_add_epi16(low, high) } else { _mm256_add_epi32(widen(low), widen(high)) }
    };
    let quad = |ab, cd| {
        let (low, high) = (_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
        match B::SUMS {
            1 => _mm256_add_epi32(low, high),
            2 => _mm256_add_epi32(widen(low), widen(high)),
            _ => widen(_mm256_add_epi16(low, high)),
        }
    };
    let (abcd, efgh) = (quad(pair(a, b), pair(c, d)), quad(pair(e, f), pair(g, h)));
    [_mm256_permute2x128_si256::<0x20>(abcd, efgh), _mm256_permute2x128_si256::<0x31>(abcd, efgh)]
}
