//! Attention's small functions on vectors of eight. Where a length is no multiple of eight, the rest goes element by
//! element, in an order that depends on the length alone.

use std::arch::x86_64::*;

use half::f16;

use super::math::{exp, sum_of_lanes};
use crate::kernels::attention::AttentionKernels;

pub(in crate::kernels) const KERNELS: AttentionKernels = AttentionKernels { widen, narrow, scores, powers, weigh };

#[target_feature(enable = "avx2,fma,f16c")]
fn widen(from: &[f16], to: &mut [f32]) {
    let (chunks, rest) = from.as_chunks::<8>();
    let (to_chunks, to_rest) = to.as_chunks_mut::<8>();
    for (from, to) in chunks.iter().zip(to_chunks) {
        // SAFETY: eight elements on both sides; `f16` has the layout of `u16`.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast()))) };
    }
    rest.iter().zip(to_rest).for_each(|(from, to)| *to = from.to_f32());
}

#[target_feature(enable = "avx2,fma,f16c")]
fn narrow(from: &[f32], to: &mut [f16]) {
    let (chunks, rest) = from.as_chunks::<8>();
    let (to_chunks, to_rest) = to.as_chunks_mut::<8>();
    for (from, to) in chunks.iter().zip(to_chunks) {
        // SAFETY: eight elements on both sides; `f16` has the layout of `u16`.
        unsafe {
            let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_loadu_ps(from.as_ptr()));
            _mm_storeu_si128(to.as_mut_ptr().cast(), halves);
        }
    }
    rest.iter().zip(to_rest).for_each(|(from, to)| *to = f16::from_f32(*from));
}

/// Four positions at a time: their sums across lanes are taken together.
#[target_feature(enable = "avx2,fma,f16c")]
fn scores(q: &[f32], keys: &[f32], scale: f32, out: &mut [f32]) {
    let head_dim = q.len();
    let count = out.len();
    for first in (0..count).step_by(4) {
        // The last positions stand in for those that are missing; what they give is not stored.
        let rows: [&[f32]; 4] = std::array::from_fn(|at| {
            let position = (first + at).min(count - 1);
            &keys[position * head_dim..(position + 1) * head_dim]
        });
        let mut sums = [_mm256_setzero_ps(); 4];
        for column in (0..head_dim / 8 * 8).step_by(8) {
            // SAFETY: eight elements from `column` on are inside `q` and each row.
            unsafe {
                let q = _mm256_loadu_ps(q.as_ptr().add(column));
                for (sum, row) in sums.iter_mut().zip(rows) {
                    *sum = _mm256_fmadd_ps(q, _mm256_loadu_ps(row.as_ptr().add(column)), *sum);
                }
            }
        }
        let mut four = four_sums(sums);
        for (value, row) in four.iter_mut().zip(rows) {
            for column in head_dim / 8 * 8..head_dim {
                *value = q[column].mul_add(row[column], *value);
            }
        }
        for (out, value) in out[first..].iter_mut().zip(four) {
            *out = scale * value;
        }
    }
}

/// The sum of the lanes of each of four vectors.
#[target_feature(enable = "avx2,fma,f16c")]
fn four_sums([a, b, c, d]: [__m256; 4]) -> [f32; 4] {
    let pairs = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    let sums = _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps::<1>(pairs));
    let mut out = [0.0; 4];
    // SAFETY: four elements.
    unsafe { _mm_storeu_ps(out.as_mut_ptr(), sums) };
    out
}

#[target_feature(enable = "avx2,fma,f16c")]
fn powers(scores: &mut [f32], largest: f32) -> f32 {
    let shift = _mm256_set1_ps(largest);
    let mut sum = _mm256_setzero_ps();
    let (chunks, rest) = scores.as_chunks_mut::<8>();
    for chunk in chunks {
        // SAFETY: eight elements.
        unsafe {
            let power = exp(_mm256_sub_ps(_mm256_loadu_ps(chunk.as_ptr()), shift));
            _mm256_storeu_ps(chunk.as_mut_ptr(), power);
            sum = _mm256_add_ps(sum, power);
        }
    }
    if !rest.is_empty() {
        let mut padded = [f32::NEG_INFINITY; 8];
        padded[..rest.len()].copy_from_slice(rest);
        // SAFETY: eight elements.
        unsafe {
            let power = exp(_mm256_sub_ps(_mm256_loadu_ps(padded.as_ptr()), shift));
            _mm256_storeu_ps(padded.as_mut_ptr(), power);
            sum = _mm256_add_ps(sum, power);
        }
        rest.copy_from_slice(&padded[..rest.len()]);
    }
    sum_of_lanes(sum)
}

/// Up to 64 columns stay in registers while the positions go by.
#[target_feature(enable = "avx2,fma,f16c")]
fn weigh(weights: &[f32], values: &[f32], fade: f32, sum: &mut [f32]) {
    let head_dim = sum.len();
    let mut column = 0;
    while column + 64 <= head_dim {
        weigh_columns::<8>(weights, values, fade, sum, column);
        column += 64;
    }
    while column + 8 <= head_dim {
        weigh_columns::<1>(weights, values, fade, sum, column);
        column += 8;
    }
    for column in column..head_dim {
        let mut total = fade * sum[column];
        for (weight, row) in weights.iter().zip(values.chunks_exact(head_dim)) {
            total = weight.mul_add(row[column], total);
        }
        sum[column] = total;
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn weigh_columns<const VECTORS: usize>(weights: &[f32], values: &[f32], fade: f32, sum: &mut [f32], column: usize) {
    let head_dim = sum.len();
    let sum = &mut sum[column..column + 8 * VECTORS];
    let fade = _mm256_set1_ps(fade);
    let mut totals = [_mm256_setzero_ps(); VECTORS];
    for (at, total) in totals.iter_mut().enumerate() {
        // SAFETY: `sum` holds eight elements for each vector.
        *total = _mm256_mul_ps(fade, unsafe { _mm256_loadu_ps(sum.as_ptr().add(8 * at)) });
    }
    for (weight, row) in weights.iter().zip(values.chunks_exact(head_dim)) {
        let weight = _mm256_set1_ps(*weight);
        let row = &row[column..column + 8 * VECTORS];
        for (at, total) in totals.iter_mut().enumerate() {
            // SAFETY: `row` holds eight elements for each vector.
            *total = _mm256_fmadd_ps(weight, unsafe { _mm256_loadu_ps(row.as_ptr().add(8 * at)) }, *total);
        }
    }
    for (at, total) in totals.into_iter().enumerate() {
        // SAFETY: `sum` holds eight elements for each vector.
        unsafe { _mm256_storeu_ps(sum.as_mut_ptr().add(8 * at), total) };
    }
}
