//! Quantised weights times int8 activations with AVX-VNNI: `vpdpbusd` for processors without AVX-512 (Intel since Alder Lake,
//! 2021; AMD since Zen 5).
//!
//! `vpdpbusd` multiplies unsigned levels by signed activations and adds four columns into an i32 sum, where `tile` takes three
//! instructions. Signed levels are made unsigned by adding 128, which the sum's initial value compensates. Blocks, strips and
//! rounding are `avx2`'s and integers are exact: bit-identical results. Few tokens: `few_vnni`.

use std::arch::x86_64::*;

use super::blocks::Block;
use super::few::FEW;
use super::few_vnni::avx2::few_tokens;
use super::integer::{accumulate, accumulate_half, keep, sums_of};
use super::strip::{Piece, StripGroup, for_each_piece, for_each_tile};
use crate::kernels::matmul::{Chunk, GroupFacts};

/// The table's function for type `B`.
///
/// # Safety
/// See [`crate::kernels::matmul::RowsKernel`]; the processor supports AVX2, FMA, F16C and AVX-VNNI.
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
pub(super) unsafe fn rows<B: Block>(chunk: &Chunk<'_>) {
    if chunk.x.tokens() <= FEW {
        // SAFETY: upheld by the caller.
        return unsafe { few_tokens::<B>(chunk) };
    }
    for_each_tile!(chunk, B, unsigned: true, tile, [4 2 1]);
}

/// Initial value of a half's sum of products.
pub(in crate::kernels) enum Start {
    Nothing,
    /// [`GroupFacts::raised`], shifted to the right.
    Raised {
        shift: u32,
    },
    /// Minus this multiple of the sum of the activations' levels.
    Levels {
        zero: i32,
    },
}

/// The zero point as multiplied, including the 128 added to signed levels.
pub(super) const fn zero<B: Block>() -> i32 {
    match B::MAX_LEVEL {
        None => 128,
        Some(_) => B::ZERO,
    }
}

/// The cheapest start that cancels the zero-point term.
pub(in crate::kernels) const fn start_of<B: Block>() -> Start {
    match zero::<B>() as u32 {
        0 => Start::Nothing,
        zero if zero.is_power_of_two() => Start::Raised { shift: 7 - zero.ilog2() },
        zero => Start::Levels { zero: zero as i32 },
    }
}

/// The initial value of a half's sum, which cancels the zero-point term.
#[inline]
#[target_feature(enable = "avx2")]
fn start<B: Block>(facts: &GroupFacts, half: usize) -> __m256i {
    match const { start_of::<B>() } {
        Start::Nothing => _mm256_setzero_si256(),
        Start::Raised { shift } => {
            _mm256_sra_epi32(_mm256_set1_epi32(facts.raised[half]), _mm_cvtsi32_si128(shift as i32))
        }
        Start::Levels { zero } => _mm256_set1_epi32(-zero * facts.half_levels(half)),
    }
}

/// Both halves' integers, each times its multiplier and, if the weights have them, integer scales; added and rounded once.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn join_halves<B: Block>(halves: [__m256i; 2], group: &StripGroup, vector: usize, facts: &GroupFacts) -> __m256 {
    if !B::HALVES {
        let [first, second] = facts.multipliers.map(|multiplier| _mm256_set1_ps(multiplier));
        let first = _mm256_mul_ps(_mm256_cvtepi32_ps(halves[0]), first);
        return _mm256_fmadd_ps(_mm256_cvtepi32_ps(halves[1]), second, first);
    }
    let mut scaled = halves;
    for (half, scaled) in scaled.iter_mut().enumerate() {
        let factors = _mm256_mullo_epi16(_mm256_set1_epi32(facts.factors[half]), group.halves[half][vector]);
        *scaled = _mm256_mullo_epi32(*scaled, _mm256_srai_epi32::<16>(factors));
    }
    _mm256_cvtepi32_ps(_mm256_add_epi32(scaled[0], scaled[1]))
}

/// Sixteen rows × `T` tokens.
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
unsafe fn tile<B: Block, const T: usize>(chunk: &Chunk<'_>, piece: &mut Piece<'_>, token: usize) {
    let mut x = [std::ptr::null(); T];
    let mut sums = [[_mm256_setzero_ps(); 2]; T];
    for (t, (x, sums)) in x.iter_mut().zip(&mut sums).enumerate() {
        *x = chunk.x.groups(token + t)[piece.group..].as_ptr();
        *sums = [sums_of(piece, token + t, 0), sums_of(piece, token + t, 1)];
    }
    for (index, group) in piece.strip.iter().enumerate() {
        let mut halves = [[[_mm256_setzero_si256(); 2]; T]; 2];
        for (half, integers) in halves.iter_mut().enumerate() {
            for (integers, x) in integers.iter_mut().zip(&x) {
                // SAFETY: every token has a group for each of the strip's.
                *integers = [start::<B>(unsafe { &(*x.add(index)).facts }, half); 2];
            }
            for quad in 4 * half..4 * half + 4 {
                for (integers, x) in integers.iter_mut().zip(&x) {
                    // SAFETY: as above; a group has eight times four levels.
                    let four = unsafe { (*x.add(index)).levels.0.as_ptr().cast::<i32>().add(quad).read() };
                    for (integers, levels) in integers.iter_mut().zip(group.levels[quad]) {
                        *integers = _mm256_dpbusd_avx_epi32(*integers, levels, _mm256_set1_epi32(four));
                    }
                }
            }
        }
        for (t, sums) in sums.iter_mut().enumerate() {
            // SAFETY: as above.
            let facts = unsafe { &(*x[t].add(index)).facts };
            for (vector, sums) in sums.iter_mut().enumerate() {
                let halves = [halves[0][t][vector], halves[1][t][vector]];
                if B::APART {
                    for (half, integers) in halves.into_iter().enumerate() {
                        let integers = _mm256_mullo_epi32(integers, _mm256_set1_epi32(facts.multiplier(half)));
                        *sums = accumulate_half::<B>(*sums, integers, group.apart(half, vector), facts, half);
                    }
                } else {
                    let integers = join_halves::<B>(halves, group, vector, facts);
                    *sums = accumulate::<B>(*sums, integers, group.scale[vector], group.offset[vector], facts);
                }
            }
        }
    }
    for (t, sums) in sums.into_iter().enumerate() {
        for (vector, sums) in sums.into_iter().enumerate() {
            // SAFETY: upheld by the caller.
            unsafe { keep(chunk, piece, token + t, vector, sums) };
        }
    }
}
