//! Quantised weights times int8 activations on NEON.
//!
//! Two paths with identical sums: [`single_token`] reads four rows in place; with more tokens, [`tile`] multiplies a strip of
//! eight unpacked rows by up to four of them. In both, the exact integers of a group's halves come from [`Dot`] and go through
//! [`accumulate`].

use std::arch::aarch64::*;

use super::blocks::{Block, Header, Weights};
use super::dot::Dot;
use super::strip::{StripGroup, for_each_strip};
use crate::kernels::matmul::{ActivationGroup, Chunk, GroupFacts};
use crate::quant::{Form, GROUP};

/// Tokens per tile: with two vectors of rows, integer and float sums stay in registers.
const TILE: usize = 4;

/// The table's function for type `B`.
///
/// # Safety
/// See [`crate::kernels::matmul::RowsKernel`]; the processor supports `D`.
pub(super) unsafe fn rows<B: Block, D: Dot>(chunk: &Chunk<'_>) {
    let tokens = chunk.x.tokens();
    // SAFETY: upheld by the caller; the tokens exist, and have as many groups as the strip; the rows belong to this chunk.
    unsafe {
        if tokens == 1 {
            return single_token::<B, D>(chunk);
        }
        for_each_strip::<B, D>(chunk, |first, strip| {
            for token in (0..tokens).step_by(TILE) {
                match tokens - token {
                    1 => tile::<B::Form, D, 1>(chunk, first, token, strip),
                    2 => tile::<B::Form, D, 2>(chunk, first, token, strip),
                    3 => tile::<B::Form, D, 3>(chunk, first, token, strip),
                    _ => tile::<B::Form, D, TILE>(chunk, first, token, strip),
                }
            }
        });
    }
}

/// The chunk's rows for a single token, four at a time.
#[target_feature(enable = "neon")]
unsafe fn single_token<B: Block, D: Dot>(chunk: &Chunk<'_>) {
    let blocks = chunk.weight.columns / (B::GROUPS * GROUP);
    let groups = chunk.x.groups(0);
    let mut header = Header::new();
    for first in chunk.rows.clone().step_by(4) {
        let rows = chunk.pointers(first);
        let mut sums = vdupq_n_f32(0.0);
        for block in 0..blocks {
            // SAFETY: each row has `blocks` blocks, and the token as many groups; the rows belong to this chunk.
            unsafe {
                let rows = rows.map(|row| row.add(block * B::BYTES));
                B::header(&rows, &mut header);
                for group in 0..B::GROUPS {
                    let index = block * B::GROUPS + group;
                    let ActivationGroup { levels, facts } = groups.get_unchecked(index);
                    let x = levels.0.as_ptr();
                    let rows = rows.map(|row| B::levels(row, group));
                    let halves = [
                        D::rows(rows.map(|levels| levels[0]), vld1q_s8(x)),
                        D::rows(rows.map(|levels| levels[1]), vld1q_s8(x.add(16))),
                    ];
                    sums = accumulate::<B::Form>(sums, halves, &header[group], facts);
                }
            }
        }
        // SAFETY: upheld by the caller.
        unsafe { store(chunk, 0, first, sums) };
    }
}

/// Eight rows × `T` tokens.
#[target_feature(enable = "neon")]
unsafe fn tile<F: Form, D: Dot, const T: usize>(chunk: &Chunk<'_>, first: usize, token: usize, strip: &[StripGroup]) {
    let x: [*const ActivationGroup; T] = std::array::from_fn(|t| chunk.x.groups(token + t).as_ptr());
    let mut sums = [[vdupq_n_f32(0.0); 2]; T];
    for (index, group) in strip.iter().enumerate() {
        // SAFETY: every token has a group for each of the strip's.
        unsafe {
            let mut halves = [[[vdupq_n_s32(0); 2]; T]; 2];
            for (half, sums) in halves.iter_mut().enumerate() {
                let here = x.map(|x| vld1q_s8((*x.add(index)).levels.0.as_ptr().add(16 * half)));
                *sums = D::tile::<F, T>(&group.levels[half], &here);
            }
            for t in 0..T {
                let facts = &(*x[t].add(index)).facts;
                for vector in 0..2 {
                    let halves = [halves[0][t][vector], halves[1][t][vector]];
                    sums[t][vector] = accumulate::<F>(sums[t][vector], halves, &group.weights[vector], facts);
                }
            }
        }
    }
    for (t, sums) in sums.into_iter().enumerate() {
        for (vector, sums) in sums.into_iter().enumerate() {
            // SAFETY: upheld by the caller.
            unsafe { store(chunk, token + t, first + 4 * vector, sums) };
        }
    }
}

/// Adds a group to the sums of four rows: the single place that decides order and rounding.
#[inline]
#[target_feature(enable = "neon")]
fn accumulate<F: Form>(
    mut sums: float32x4_t,
    halves: [int32x4_t; 2],
    weights: &Weights,
    facts: &GroupFacts,
) -> float32x4_t {
    let factors = |half: usize| match F::HALVES {
        true => vmulq_n_s32(weights.multipliers[half], facts.multiplier(half)),
        false => vdupq_n_s32(facts.multiplier(half)),
    };
    let scaled = |sums, half: usize, integers| {
        let scale = vmulq_n_f32(weights.scale[half], facts.scale);
        vfmaq_f32(sums, scale, vcvtq_f32_s32(integers))
    };
    if !F::APART {
        sums = scaled(sums, 0, vmlaq_s32(vmulq_s32(halves[0], factors(0)), halves[1], factors(1)));
        return if F::OFFSET { vfmaq_n_f32(sums, weights.offset[0], facts.sum) } else { sums };
    }
    for (half, integers) in halves.into_iter().enumerate() {
        sums = scaled(sums, half, vmulq_s32(integers, factors(half)));
        if F::OFFSET {
            sums = vfmaq_n_f32(sums, weights.offset[half], facts.half_sum(half));
        }
    }
    sums
}

/// Stores four rows' sums, or fewer at the end of the chunk.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn store(chunk: &Chunk<'_>, token: usize, first: usize, sums: float32x4_t) {
    let mut lanes = [0.0; 4];
    // SAFETY: four lanes to four values; the rows belong to this chunk.
    unsafe {
        vst1q_f32(lanes.as_mut_ptr(), sums);
        chunk.store(token, first, &lanes);
    }
}
