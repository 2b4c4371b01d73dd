//! Quantised weights times one token or a few: eight rows are read in place.
//!
//! Building a strip (unpack, store, reload) costs more than twice what a token costs here, so up to [`FEW`] tokens share the
//! registers instead. A group's products are summed over columns, lane = row, and go through [`accumulate`]: bit-identical to
//! tiles. The multiply-and-sum step is a macro parameter: `maddubs` here, as `integer` explains, `vpdpbusd` in `few_vnni`.

use std::arch::x86_64::*;

use super::blocks::{Block, Header, Rows};
use super::integer::{accumulate, accumulate_half, multiply, store, without_zero};
use crate::kernels::matmul::{ActivationGroup, Chunk, GroupFacts};
use crate::quant::GROUP;

/// Maximum tokens that share one read of eight rows.
pub(in crate::kernels) const FEW: usize = 4;

/// Adds a group of eight rows to the tokens' sums. A macro, so that the group index modulo four is a constant: it fixes bit
/// positions and prefetch offsets.
macro_rules! add_group {
    ($B:ident, $group_sums:ident, $rows:ident, $header:ident, $block:ident, $x:ident, $next:ident, $far:ident, $first:ident, $part:literal of $parts:literal, $sums:ident, $tokens:ident) => {{
        let group = $first + $part;
        let bytes = 8 * $B::BYTES / $B::GROUPS;
        fetch($next.wrapping_add($first * bytes), $far, $parts * bytes, $part, $parts);
        let mut rows = [_mm256_setzero_si256(); 8];
        for (place, &row) in rows.iter_mut().zip(&$rows) {
            *place = $B::levels(row, group);
        }
        let (scale, offset) = ($header.scale[group], $header.offset[group]);
        for (sums, x) in $sums[..$tokens].iter_mut().zip(&$x) {
            let ActivationGroup { levels, facts } = &*x.add($block * $B::GROUPS + group);
            let levels = _mm256_load_si256(levels.0.as_ptr().cast());
            let [first, second] = $group_sums::<$B>(rows, levels, facts, $header.halves[group]);
            *sums = if $B::APART {
                let sums = accumulate_half::<$B>(*sums, first, (scale, offset), facts, 0);
                let upper = ($header.upper_scale[group], $header.upper_offset[group]);
                accumulate_half::<$B>(sums, second, upper, facts, 1)
            } else {
                accumulate::<$B>(*sums, _mm256_cvtepi32_ps(_mm256_add_epi32(first, second)), scale, offset, facts)
            };
        }
    }};
}

/// `few_tokens` for a table with these features; `$group_sums` computes the sums of a group's halves.
macro_rules! token_kernel {
    ($features:literal, $group_sums:ident) => {
        /// The chunk's rows, eight at a time, for up to [`FEW`] tokens.
        ///
        /// # Safety
        /// See [`crate::kernels::matmul::RowsKernel`]; the processor supports the features named here.
        #[target_feature(enable = $features)]
        pub(in crate::kernels) unsafe fn few_tokens<B: Block>(chunk: &Chunk<'_>) {
            // SAFETY: upheld by the caller.
            unsafe {
                match chunk.x.tokens() {
                    1 => by_eight_rows::<B, 1>(chunk),
                    _ => by_eight_rows::<B, FEW>(chunk),
                }
            }
        }

        #[target_feature(enable = $features)]
        unsafe fn by_eight_rows<B: Block, const T: usize>(chunk: &Chunk<'_>) {
            let blocks = chunk.weight.columns / (B::GROUPS * GROUP);
            let mut x = [std::ptr::null(); T];
            for (token, x) in x.iter_mut().take(chunk.x.tokens()).enumerate() {
                *x = chunk.x.groups(token).as_ptr();
            }
            for first in chunk.rows.clone().step_by(8) {
                // SAFETY: each row pointer has `blocks` blocks, and tokens have as many groups; the rows belong to this chunk.
                unsafe {
                    let sums = eight_rows::<B, T>(chunk.pointers(first), blocks, x, chunk.x.tokens());
                    for (token, &sums) in sums.iter().take(chunk.x.tokens()).enumerate() {
                        store(chunk, token, first, sums);
                    }
                }
            }
        }

        /// The sums of the first `tokens` of `T`.
        #[target_feature(enable = $features)]
        unsafe fn eight_rows<B: Block, const T: usize>(
            rows: Rows,
            blocks: usize,
            x: [*const ActivationGroup; T],
            tokens: usize,
        ) -> [__m256; T] {
            // A constant in the case that matters most.
            let tokens = if T == 1 { 1 } else { tokens };
            let mut sums = [_mm256_setzero_ps(); T];
            let mut header = Header::new();
            for block in 0..blocks {
                // SAFETY: the caller guarantees `blocks` blocks at each row, and as many groups of activations.
                unsafe {
                    let far = 8 * blocks * B::BYTES;
                    let next = rows[0].wrapping_add(8 * (blocks + block) * B::BYTES);
                    let rows = rows.map(|row| row.add(block * B::BYTES));
                    B::header(&rows, &mut header);
                    if B::GROUPS % 4 == 0 {
                        for quad in (0..B::GROUPS).step_by(4) {
                            add_group!(B, $group_sums, rows, header, block, x, next, far, quad, 0 of 4, sums, tokens);
                            add_group!(B, $group_sums, rows, header, block, x, next, far, quad, 1 of 4, sums, tokens);
                            add_group!(B, $group_sums, rows, header, block, x, next, far, quad, 2 of 4, sums, tokens);
                            add_group!(B, $group_sums, rows, header, block, x, next, far, quad, 3 of 4, sums, tokens);
                        }
                    } else {
                        for group in 0..B::GROUPS {
                            add_group!(B, $group_sums, rows, header, block, x, next, far, group, 0 of 1, sums, tokens);
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

/// Prefetches a part of the `bytes` at `next`, eight contiguous rows ahead, and the same part `far` beyond.
///
/// Eight rows are eight short streams, which the hardware prefetcher picks up too late. Prefetching is spread out, since a whole
/// block at once fills all miss buffers and stalls the surrounding loads; and done in two steps, since L2 has more of those
/// buffers. Together worth 13 to 28 % on one thread (Q8_0, Q6_K, Q4_K, Q4_0); two threads reach 88 % of sequential read
/// bandwidth.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernels) fn fetch(next: *const u8, far: usize, bytes: usize, part: usize, parts: usize) {
    let lines = bytes.div_ceil(64);
    for line in lines * part / parts..lines * (part + 1) / parts {
        let line = next.wrapping_add(64 * line);
        _mm_prefetch::<_MM_HINT_T1>(line.wrapping_add(far).cast());
        _mm_prefetch::<_MM_HINT_T0>(line.cast());
    }
}

/// Both halves' integers of a group, times the activations' multipliers and, if [`Block::HALVES`], the weights' scales in
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

/// Sums eight rows' products over each half of the columns, lane = row, times the activations' multipliers. Adds in i16 as long
/// as that cannot overflow.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn sum_halves<B: Block>(products: [__m256i; 8], facts: &GroupFacts) -> [__m256i; 2] {
    // The first half of the columns stays in the lower half of each vector throughout.
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
