//! Quantised weights times int8 activations with AVX-512, with and without VNNI.
//!
//! A strip's pair of vectors is one vector of sixteen rows here. A tile is those rows × up to eight tokens: integer and float
//! sums all stay in registers. `vpdpbusd` multiplies unsigned levels by signed activations and adds four columns into i32 at
//! once; without it, `vpmaddubsw` and `vpmaddwd` take three steps. Signed levels are made unsigned by adding 128, which is exact
//! with `vpdpbusd`, or by moving their sign to the activations, since `vpmaddubsw` would overflow.
//!
//! Reached with VNNI: 45 to 48 % of the throughput of a bare `vpdpbusd` loop (Q8_0, Q4_K; BENCHMARKS.md). Per token, sixteen rows
//! and group of 32 columns, scales take six instructions beside eight `vpdpbusd`, which limits it to 57 %.
//!
//! The module is instantiated twice: a function compiled for VNNI cannot be inlined into one that is not.

use std::arch::x86_64::*;

use super::sixteen::{MOST, Sixteen, levels, octets, rows_at, scaling};
use crate::kernels::avx2::matmul::blocks::{Block, Header};
use crate::kernels::avx2::matmul::few::{self, fetch};
use crate::kernels::avx2::matmul::few_vnni;
use crate::kernels::avx2::matmul::strip::{Piece, StripGroup, for_each_piece, for_each_tile};
use crate::kernels::avx2::matmul::vnni::{Start, start_of};
use crate::kernels::matmul::{ActivationGroup, Chunk, GroupFacts};
use crate::quant::GROUP;

/// Rows per strip.
const STRIP: usize = 16;

/// What a group of sixteen rows holds besides the levels, as in [`StripGroup`].
pub(super) struct Scaling {
    pub(super) scale: __m512,
    pub(super) offset: __m512,
    pub(super) halves: [__m512i; 2],
}

/// A pair of vectors of a strip as one.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn pair<V>(vectors: &[V; 2]) -> __m512i {
    const { assert!(size_of::<V>() == 32, "two vectors of AVX2") };
    // SAFETY: the pair is 64 bytes on a cache line.
    unsafe { _mm512_load_si512((&raw const *vectors).cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn scaling_of(group: &StripGroup) -> Scaling {
    Scaling {
        scale: _mm512_castsi512_ps(pair(&group.scale)),
        offset: _mm512_castsi512_ps(pair(&group.offset)),
        halves: [pair(&group.halves[0]), pair(&group.halves[1])],
    }
}

/// Adds the products of four columns to the i32 sums.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn add_products<B: Block>(sums: __m512i, levels: __m512i, x: __m512i) -> __m512i {
    let products = match B::MAX_LEVEL {
        Some(_) => _mm512_maddubs_epi16(levels, x),
        None => {
            let negated = _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(levels), _mm512_setzero_si512(), x);
            _mm512_maddubs_epi16(_mm512_abs_epi8(levels), negated)
        }
    };
    _mm512_add_epi32(sums, _mm512_madd_epi16(products, _mm512_set1_epi16(1)))
}

/// The same in one instruction; signed levels arrive with 128 added.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn add_products_vnni<B: Block>(sums: __m512i, levels: __m512i, x: __m512i) -> __m512i {
    _mm512_dpbusd_epi32(sums, levels, x)
}

/// The initial value of a half's integer sum, which cancels the zero-point term unless an offset does.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn start<B: Block>(facts: &GroupFacts, half: usize, shift_signed: bool) -> __m512i {
    match const { start_of::<B>() } {
        Start::Nothing => _mm512_setzero_si512(),
        Start::Raised { .. } if B::MAX_LEVEL.is_none() && !shift_signed => _mm512_setzero_si512(),
        Start::Raised { shift } => {
            _mm512_sra_epi32(_mm512_set1_epi32(facts.raised[half]), _mm_cvtsi32_si128(shift as i32))
        }
        Start::Levels { zero } => _mm512_set1_epi32(-zero * facts.half_levels(half)),
    }
}

/// Both halves' integers, each times its multiplier and, if the weights have them, integer scales; added and rounded once.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn join_halves<B: Block>(halves: [__m512i; 2], scaling: &Scaling, facts: &GroupFacts) -> __m512 {
    if !B::HALVES {
        let first = _mm512_mul_ps(_mm512_cvtepi32_ps(halves[0]), _mm512_set1_ps(facts.multipliers[0]));
        return _mm512_fmadd_ps(_mm512_cvtepi32_ps(halves[1]), _mm512_set1_ps(facts.multipliers[1]), first);
    }
    let mut scaled = halves;
    for (half, scaled) in scaled.iter_mut().enumerate() {
        let factors = _mm512_mullo_epi16(_mm512_set1_epi32(facts.factors[half]), scaling.halves[half]);
        *scaled = _mm512_mullo_epi32(*scaled, _mm512_srai_epi32::<16>(factors));
    }
    _mm512_cvtepi32_ps(_mm512_add_epi32(scaled[0], scaled[1]))
}

/// Adds a group to the sums of sixteen rows, in the order and rounding of `avx2`'s `accumulate`, which handles few tokens.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn accumulate<B: Block>(sums: __m512, integers: __m512, scaling: &Scaling, facts: &GroupFacts) -> __m512 {
    let scale = _mm512_mul_ps(scaling.scale, _mm512_set1_ps(facts.scale));
    let sums = _mm512_fmadd_ps(scale, integers, sums);
    if B::OFFSET { _mm512_fmadd_ps(scaling.offset, _mm512_set1_ps(facts.sum), sums) } else { sums }
}

/// The same for halves with separate scales: `avx2`'s `accumulate_half`, one after the other.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn accumulate_apart<B: Block>(mut sums: __m512, halves: [__m512i; 2], scaling: &Scaling, facts: &GroupFacts) -> __m512 {
    let Scaling { scale, offset, halves: second } = scaling;
    let second = (_mm512_castsi512_ps(second[0]), _mm512_castsi512_ps(second[1]));
    for (half, (scale, offset)) in [(*scale, *offset), second].into_iter().enumerate() {
        let integers = _mm512_mul_ps(_mm512_cvtepi32_ps(halves[half]), _mm512_set1_ps(facts.multipliers[half]));
        let scale = _mm512_mul_ps(scale, _mm512_set1_ps(facts.scale));
        sums = _mm512_fmadd_ps(scale, integers, sums);
        if B::OFFSET {
            sums = _mm512_fmadd_ps(offset, _mm512_set1_ps(facts.half_sum(half)), sums);
        }
    }
    sums
}

/// Adds the integers of a group's halves to the sums of sixteen rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) fn add_halves<B: Block>(
    sums: __m512,
    halves: [__m512i; 2],
    scaling: &Scaling,
    facts: &GroupFacts,
) -> __m512 {
    if B::APART {
        accumulate_apart::<B>(sums, halves, scaling, facts)
    } else {
        accumulate::<B>(sums, join_halves::<B>(halves, scaling, facts), scaling, facts)
    }
}

/// Stores sixteen rows' sums, or fewer at the end of the chunk.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn store(chunk: &Chunk<'_>, token: usize, first: usize, sums: __m512) {
    let mut lanes = [0.0; STRIP];
    // SAFETY: sixteen lanes to sixteen values; the rows belong to this chunk.
    unsafe {
        _mm512_storeu_ps(lanes.as_mut_ptr(), sums);
        chunk.store(token, first, &lanes);
    }
}

macro_rules! kernels {
    ($name:ident, $features:literal, $add_products:ident, shift_signed: $shift:literal, $($eight_rows:ident)::+) => {
        /// The kernels of one of the tables.
        pub(super) mod $name {
            use super::*;

            /// The table's function for type `B`.
            ///
            /// # Safety
            /// See [`crate::kernels::matmul::RowsKernel`]; the processor supports the features named here.
            #[target_feature(enable = $features)]
            pub(in super::super) unsafe fn rows<B: Sixteen>(chunk: &Chunk<'_>) {
                const { assert!(!B::APART || B::SIXTEEN_ROWS == B::EIGHT_ROWS, "`scaling` joins halves") };
                // SAFETY: upheld by the caller.
                unsafe {
                    match chunk.x.tokens() {
                        tokens if tokens <= B::EIGHT_ROWS => return $($eight_rows)::+::few_tokens::<B>(chunk),
                        tokens if tokens <= B::SIXTEEN_ROWS => return few_tokens::<B>(chunk),
                        _ => {}
                    }
                }
                for_each_tile!(chunk, B, unsigned: $shift, tile, [8 4 2 1]);
            }

            /// Sixteen rows at a time, for up to [`MOST`] tokens.
            #[target_feature(enable = $features)]
            unsafe fn few_tokens<B: Sixteen>(chunk: &Chunk<'_>) {
                let blocks = chunk.weight.columns / (B::GROUPS * GROUP);
                let mut headers = [Header::new(), Header::new()];
                for first in chunk.rows.clone().step_by(STRIP) {
                    let octets = octets(chunk, first);
                    let mut sums = [_mm512_setzero_ps(); MOST];
                    let sums = &mut sums[..chunk.x.tokens()];
                    for block in 0..blocks {
                        // SAFETY: each row pointer has `blocks` blocks, and tokens have as many groups.
                        unsafe {
                            let rows = rows_at(&octets, block * B::BYTES);
                            B::header(&rows[0], &mut headers[0]);
                            B::header(&rows[1], &mut headers[1]);
                            let (bytes, far) = (STRIP * B::BYTES, STRIP * blocks * B::BYTES);
                            let next = octets[0][0].wrapping_add(far + block * bytes);
                            for group in 0..B::GROUPS {
                                fetch(next, far, bytes, group, B::GROUPS);
                                let quads = levels::<B, $shift>(&rows, group);
                                let scaling = scaling::<B>(&headers, group);
                                let x = chunk.x.groups(0).as_ptr().add(block * B::GROUPS + group);
                                add_tokens::<B>(sums, x, chunk.x.group_stride(), quads, &scaling);
                            }
                        }
                    }
                    for (token, &sums) in sums.iter().enumerate() {
                        // SAFETY: upheld by the caller.
                        unsafe { store(chunk, token, first, sums) };
                    }
                }
            }

            /// Adds a group of sixteen rows to the tokens' sums; their activations for it are `stride` groups apart.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn add_tokens<B: Block>(
                sums: &mut [__m512],
                x: *const ActivationGroup,
                stride: usize,
                quads: [__m512i; 8],
                scaling: &Scaling,
            ) {
                for (token, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: upheld by the caller.
                    let ActivationGroup { levels, facts } = unsafe { &*x.add(token * stride) };
                    let mut halves = [start::<B>(facts, 0, $shift), start::<B>(facts, 1, $shift)];
                    for (quad, four) in levels.0.as_chunks::<4>().0.iter().enumerate() {
                        let four = _mm512_set1_epi32(i32::from_ne_bytes(four.map(|level| level as u8)));
                        halves[quad / 4] = $add_products::<B>(halves[quad / 4], quads[quad], four);
                    }
                    *sums = add_halves::<B>(*sums, halves, scaling, facts);
                }
            }

            /// Sixteen rows × `T` tokens.
            #[target_feature(enable = $features)]
            unsafe fn tile<B: Block, const T: usize>(chunk: &Chunk<'_>, piece: &mut Piece<'_>, token: usize) {
                let mut x = [std::ptr::null(); T];
                let mut sums = [_mm512_setzero_ps(); T];
                for (t, (x, sums)) in x.iter_mut().zip(&mut sums).enumerate() {
                    *x = chunk.x.groups(token + t)[piece.group..].as_ptr();
                    if !piece.begins() {
                        // SAFETY: sixteen sums.
                        *sums = unsafe { _mm512_load_ps(piece.sums[token + t].0.as_ptr()) };
                    }
                }
                for (index, group) in piece.strip.iter().enumerate() {
                    let mut halves = [[_mm512_setzero_si512(); T]; 2];
                    for (half, integers) in halves.iter_mut().enumerate() {
                        for (integers, x) in integers.iter_mut().zip(&x) {
                            // SAFETY: every token has a group for each of the strip's.
                            *integers = start::<B>(unsafe { &(*x.add(index)).facts }, half, $shift);
                        }
                    }
                    for quad in 0..8 {
                        let levels = pair(&group.levels[quad]);
                        for (integers, x) in halves[quad / 4].iter_mut().zip(&x) {
                            // SAFETY: as above; a group has eight times four levels.
                            let four = unsafe { (*x.add(index)).levels.0.as_ptr().cast::<i32>().add(quad).read() };
                            *integers = $add_products::<B>(*integers, levels, _mm512_set1_epi32(four));
                        }
                    }
                    let scaling = scaling_of(group);
                    for (t, sums) in sums.iter_mut().enumerate() {
                        // SAFETY: as above.
                        let facts = unsafe { &(*x[t].add(index)).facts };
                        *sums = add_halves::<B>(*sums, [halves[0][t], halves[1][t]], &scaling, facts);
                    }
                }
                for (t, sums) in sums.into_iter().enumerate() {
                    // SAFETY: sixteen sums; the rows belong to this chunk, per the caller.
                    unsafe {
                        if piece.ends {
                            store(chunk, token + t, piece.first, sums);
                        } else {
                            _mm512_store_ps(piece.sums[token + t].0.as_mut_ptr(), sums);
                        }
                    }
                }
            }
        }
    };
}

kernels!(bw, "avx512f,avx512bw,avx512vl,avx512dq", add_products, shift_signed: false, few);
kernels!(vnni, "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni", add_products_vnni, shift_signed: true, few_vnni::avx512);
