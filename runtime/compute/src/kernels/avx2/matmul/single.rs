//! Quantised weights times one token: nothing is reused, so eight rows are read where they lie.
//!
//! A group's products are summed over columns, lane = row, and go through [`accumulate`]: tiles give the same bits. What
//! multiplies and sums is stamped in: `maddubs` here, `vpdpbusd` in `single_vnni`.
//!
//! `maddubs` multiplies unsigned levels with signed activations and adds pairs into i16. Levels of up to five bits let the four such
//! sums of a half group be added before they must be widened (31 × 127 × 2 × 4 < 2¹⁵), six-bit ones two; signed levels go through
//! `|w| × (x with the sign of w)`. `madd` widens to i32, and multiplies by the activations' multipliers.

use std::arch::x86_64::*;

use super::blocks::{Block, Header, Rows};
use super::integer::{accumulate, accumulate_half, multiply, store, without_zero};
use super::strip::pointers;
use crate::kernels::matmul::{Chunk, GroupFacts, Levels};
use crate::quant::GROUP;

/// Adds a group of eight rows to their sums. A macro, for the compiler to see which of four groups it is: their bits lie at fixed
/// places, and so does what is fetched meanwhile.
macro_rules! add_group {
    ($B:ident, $group_sums:ident, $rows:ident, $header:ident, $x:ident, $next:ident, $far:ident, $first:ident, $part:literal of $parts:literal, $sums:ident) => {{
        let group = $first + $part;
        let bytes = 8 * $B::BYTES / $B::GROUPS;
        fetch($next.wrapping_add($first * bytes), $far, $parts * bytes, $part, $parts);
        let (levels, facts) = (_mm256_load_si256((*$x.0.add(group)).0.as_ptr().cast()), &*$x.1.add(group));
        let mut rows = [_mm256_setzero_si256(); 8];
        for (place, &row) in rows.iter_mut().zip(&$rows) {
            *place = $B::levels(row, group);
        }
        let [first, second] = $group_sums::<$B>(rows, levels, facts, $header.halves[group]);
        let (scale, offset) = ($header.scale[group], $header.offset[group]);
        $sums = if $B::APART {
            let sums = accumulate_half::<$B>($sums, first, (scale, offset), facts, 0);
            let upper = ($header.upper_scale[group], $header.upper_offset[group]);
            accumulate_half::<$B>(sums, second, upper, facts, 1)
        } else {
            accumulate::<$B>($sums, _mm256_cvtepi32_ps(_mm256_add_epi32(first, second)), scale, offset, facts)
        };
    }};
}

/// `single_token` for a table with these features, whose `$group_sums` gives the sums of a group's halves.
macro_rules! token_kernel {
    ($features:literal, $group_sums:ident) => {
        /// The chunk's rows of the only token, eight at a time.
        ///
        /// # Safety
        /// As for [`crate::kernels::matmul::RowsKernel`]; the processor has the features named here.
        #[target_feature(enable = $features)]
        pub(in crate::kernels) unsafe fn single_token<B: Block>(chunk: &Chunk<'_>) {
            let blocks = chunk.weight.columns / (B::GROUPS * GROUP);
            let (levels, facts) = chunk.x.groups(0);
            for first in chunk.rows.clone().step_by(8) {
                // SAFETY: the rows' pointers are followed by `blocks` blocks each, `x` has as many groups; rows are this chunk's.
                unsafe {
                    let sums = eight_rows::<B>(pointers(chunk, first), blocks, (levels.as_ptr(), facts.as_ptr()));
                    store(chunk, 0, first, sums);
                }
            }
        }

        #[target_feature(enable = $features)]
        unsafe fn eight_rows<B: Block>(rows: Rows, blocks: usize, x: (*const Levels, *const GroupFacts)) -> __m256 {
            let mut sums = _mm256_setzero_ps();
            let mut header = Header::new();
            for block in 0..blocks {
                // SAFETY: the caller has `blocks` blocks at each row, and as many groups of activations.
                unsafe {
                    let far = 8 * blocks * B::BYTES;
                    let next = rows[0].wrapping_add(8 * (blocks + block) * B::BYTES);
                    let rows = rows.map(|row| row.add(block * B::BYTES));
                    B::header(&rows, &mut header);
                    let x = (x.0.add(block * B::GROUPS), x.1.add(block * B::GROUPS));
                    if B::GROUPS % 4 == 0 {
                        for quad in (0..B::GROUPS).step_by(4) {
                            add_group!(B, $group_sums, rows, header, x, next, far, quad, 0 of 4, sums);
                            add_group!(B, $group_sums, rows, header, x, next, far, quad, 1 of 4, sums);
                            add_group!(B, $group_sums, rows, header, x, next, far, quad, 2 of 4, sums);
                            add_group!(B, $group_sums, rows, header, x, next, far, quad, 3 of 4, sums);
                        }
                    } else {
                        for group in 0..B::GROUPS {
                            add_group!(B, $group_sums, rows, header, x, next, far, group, 0 of 1, sums);
                        }
                    }
                }
            }
            sums
        }
    };
}
pub(super) use {add_group, token_kernel};

token_kernel!("avx2,fma,f16c", group_sums);

/// Fetches a part of the `bytes` at `next`, which lie eight rows ahead in one piece of memory, and as much of what lies `far` beyond.
///
/// Eight rows are eight short streams, which the processor's own prefetching follows too late. Fetched part by part, since a
/// block at once fills all places for misses and holds up the loads beside it, and in two steps, since the second cache has
/// more of those places: together 13 to 28 % on one thread (Q8_0, Q6_K, Q4_K, Q4_0), with two threads 88 % of what they
/// read in sequence.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn fetch(next: *const u8, far: usize, bytes: usize, part: usize, parts: usize) {
    let lines = bytes.div_ceil(64);
    for line in lines * part / parts..lines * (part + 1) / parts {
        let line = next.wrapping_add(64 * line);
        _mm_prefetch::<_MM_HINT_T1>(line.wrapping_add(far).cast());
        _mm_prefetch::<_MM_HINT_T0>(line.cast());
    }
}

/// The integers of both halves of a group, times the activations' multipliers and, where [`Block::HALVES`], the weights' scales in
/// `pairs`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn group_sums<B: Block>(rows: [__m256i; 8], x: __m256i, facts: &GroupFacts, pairs: __m256i) -> [__m256i; 2] {
    let mut products = rows;
    for products in &mut products {
        *products = multiply::<B>(*products, x);
    }
    let [first, second] = sum_halves::<B>(products, facts);
    let halves = [without_zero::<B>(first, facts, 0), without_zero::<B>(second, facts, 1)];
    if !B::HALVES {
        return halves;
    }
    let scales = [_mm256_srai_epi32::<16>(_mm256_slli_epi32::<16>(pairs)), _mm256_srai_epi32::<16>(pairs)];
    [_mm256_mullo_epi32(halves[0], scales[0]), _mm256_mullo_epi32(halves[1], scales[1])]
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
