//! Sixteen unpacked rows of quantised weights times up to four tokens.
//!
//! Sums of eight vectors stay in registers while half a group is multiplied: in i16 if that can hold all products of the half,
//! otherwise in i32. Halves are then combined, scaled and added to the f32 sums, which spill to the stack.

use std::arch::x86_64::*;

use super::blocks::Block;
use super::integer::{accumulate, accumulate_half, keep, multiply, sums_of, without_zero};
use super::strip::{Piece, StripGroup};
use crate::kernels::matmul::{ActivationGroup, Chunk};

/// Optimisation barrier: pins the sums in registers and hides the group index. Without it, the compiler groups the additions by
/// token and spills the strip's levels for each, or keeps the common multiplicands in registers that the sums need.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn pin<const T: usize>(sums: &mut [[__m256i; 2]; T], index: &mut usize) {
    if let [[a, b], [c, d], [e, f], [g, h]] = &mut sums[..] {
        // SAFETY: an assembly comment, no instructions.
        unsafe {
            std::arch::asm!(
                "# {0} {1} {2} {3} {4} {5} {6} {7} {8}",
                inout(ymm_reg) * a,
                inout(ymm_reg) * b,
                inout(ymm_reg) * c,
                inout(ymm_reg) * d,
                inout(ymm_reg) * e,
                inout(ymm_reg) * f,
                inout(ymm_reg) * g,
                inout(ymm_reg) * h,
                inout(reg) * index,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
    }
}

/// A token's groups.
type Groups = *const ActivationGroup;

/// Sixteen rows × `T` tokens, up to four: 2 × 4 vectors of sums stay in registers.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn tile<B: Block, const T: usize>(chunk: &Chunk<'_>, piece: &mut Piece<'_>, token: usize) {
    let x: [Groups; T] = std::array::from_fn(|index| chunk.x.groups(token + index)[piece.group..].as_ptr());
    (token..token + T).for_each(|token| chunk.out.fetch(token, piece.first));
    let mut sums = [[_mm256_setzero_ps(); 2]; T];
    for (index, sums) in sums.as_flattened_mut().iter_mut().enumerate() {
        *sums = sums_of(piece, token + index / 2, index % 2);
    }
    for (index, group) in piece.strip.iter().enumerate() {
        let mut integers = [[_mm256_setzero_si256(); 2]; T];
        for half in 0..2 {
            if B::SUMS < 4 && !B::HALVES && !B::APART {
                // Already widened and multiplied, so both halves are added up.
                // SAFETY: every token has a group for each of the strip.
                integers = unsafe { half_by_steps::<B, T>(group, half, &x, index, integers) };
                continue;
            }
            // SAFETY: as above.
            let halves = unsafe {
                if B::SUMS == 4 {
                    half_at_once::<B, T>(group, half, &x, index)
                } else {
                    half_by_steps::<B, T>(group, half, &x, index, [[_mm256_setzero_si256(); 2]; T])
                }
            };
            for t in 0..T {
                // SAFETY: as above.
                let facts = unsafe { &(*x[t].add(index)).facts };
                for vector in 0..2 {
                    let mut sum = halves[t][vector];
                    if B::SUMS == 4 && !B::APART {
                        // SAFETY: as above.
                        sum = _mm256_madd_epi16(sum, unsafe { factors_of::<B>(group, half, vector, &x[t], index) });
                    }
                    if B::APART {
                        let weight = group.apart(half, vector);
                        let sum = without_zero::<B>(sum, facts, half);
                        sums[t][vector] = accumulate_half::<B>(sums[t][vector], sum, weight, facts, half);
                        continue;
                    }
                    if B::HALVES {
                        // Widening applied the weights' scales. Subtract the zero-point term; `madd` doubles it.
                        let zero = B::ZERO / 2 * facts.half_levels(half);
                        let zero = _mm256_madd_epi16(group.halves[half][vector], _mm256_set1_epi16(zero as i16));
                        let multiplier = _mm256_set1_epi32(facts.multiplier(half));
                        sum = _mm256_mullo_epi32(_mm256_sub_epi32(sum, zero), multiplier);
                    }
                    integers[t][vector] = if half == 0 { sum } else { _mm256_add_epi32(integers[t][vector], sum) };
                }
            }
        }
        if B::APART {
            continue;
        }
        for t in 0..T {
            // SAFETY: as above.
            let facts = unsafe { &(*x[t].add(index)).facts };
            for vector in 0..2 {
                let mut integers = integers[t][vector];
                if !B::HALVES && B::ZERO != 0 {
                    integers = _mm256_sub_epi32(integers, _mm256_set1_epi32(B::ZERO * facts.levels_sum()));
                }
                let (scale, offset) = (group.scale[vector], group.offset[vector]);
                let integers = _mm256_cvtepi32_ps(integers);
                sums[t][vector] = accumulate::<B>(sums[t][vector], integers, scale, offset, facts);
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

/// A quad's four activations, broadcast to all rows.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn four_of(x: &Groups, index: usize, quad: usize) -> __m256i {
    // SAFETY: the caller guarantees that group; it has eight times four levels.
    _mm256_set1_epi32(unsafe { (*x.add(index)).levels.0.as_ptr().cast::<i32>().add(quad).read() })
}

/// The factor applied when widening a half: the weights' integer scales if there are any, otherwise the activations' multiplier.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn factors_of<B: Block>(group: &StripGroup, half: usize, vector: usize, x: &Groups, index: usize) -> __m256i {
    if B::HALVES {
        return group.halves[half][vector];
    }
    // SAFETY: the caller guarantees that group.
    _mm256_set1_epi32(unsafe { (*x.add(index)).facts.factors[half] })
}

/// A half's sums if an i16 can hold all of its products; left in i16, except for halves with separate scales.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn half_at_once<B: Block, const T: usize>(
    group: &StripGroup,
    half: usize,
    x: &[Groups; T],
    mut index: usize,
) -> [[__m256i; 2]; T] {
    let mut sums = [[_mm256_setzero_si256(); 2]; T];
    for step in 0..4 {
        for t in 0..T {
            // SAFETY: upheld by the caller.
            let four = unsafe { four_of(&x[t], index, 4 * half + step) };
            for (sums, &levels) in sums[t].iter_mut().zip(&group.levels[4 * half + step]) {
                let products = multiply::<B>(levels, four);
                *sums = if step == 0 { products } else { _mm256_add_epi16(*sums, products) };
            }
        }
        pin(&mut sums, &mut index);
    }
    // With separate scales per half, what follows exceeds the registers: doing it here is faster than there.
    if B::APART {
        for t in 0..T {
            for (vector, sums) in sums[t].iter_mut().enumerate() {
                // SAFETY: as above.
                let factors = unsafe { factors_of::<B>(group, half, vector, &x[t], index) };
                *sums = _mm256_madd_epi16(*sums, factors);
            }
        }
    }
    sums
}

/// The same, widened and added to `sums`, if an i16 holds only one product or the sum of two.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn half_by_steps<B: Block, const T: usize>(
    group: &StripGroup,
    half: usize,
    x: &[Groups; T],
    mut index: usize,
    mut sums: [[__m256i; 2]; T],
) -> [[__m256i; 2]; T] {
    for step in (0..4).step_by(B::SUMS) {
        for t in 0..T {
            for (vector, sums) in sums[t].iter_mut().enumerate() {
                let quad = 4 * half + step;
                // SAFETY: upheld by the caller.
                unsafe {
                    let mut products = multiply::<B>(group.levels[quad][vector], four_of(&x[t], index, quad));
                    if B::SUMS == 2 {
                        let more = multiply::<B>(group.levels[quad + 1][vector], four_of(&x[t], index, quad + 1));
                        products = _mm256_add_epi16(products, more);
                    }
                    let widened = _mm256_madd_epi16(products, factors_of::<B>(group, half, vector, &x[t], index));
                    *sums = _mm256_add_epi32(*sums, widened);
                }
            }
        }
        pin(&mut sums, &mut index);
    }
    sums
}
