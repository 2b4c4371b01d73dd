//! Attention, one position at a time: the reference for the vector forms.

use std::ops::Range;

use half::f16;

use crate::kernels::attention::{self, AttentionKernels, Block, Head, PAGE_TOKENS, Partial, Role};

pub(super) const KERNELS: AttentionKernels = AttentionKernels { segment, convert, hadamard: attention::transform };

/// See [`crate::kernels::attention::SegmentKernel`]. Safe to call anywhere.
fn segment(block: &Block<'_>, positions: Range<usize>, scratch: &mut [f32], to: &mut Partial<'_>) {
    let (key_dim, value_dim) = (block.shape.key_dim, block.shape.value_dim);
    let (key_stride, stride) = (block.shape.key_stride(), block.shape.value_stride());
    to.max.fill(f32::NEG_INFINITY);
    to.sum.fill(0.0);
    to.out.fill(0.0);
    let (keys, scratch) = scratch.split_at_mut(PAGE_TOKENS * key_dim);
    let (values, scores) = scratch.split_at_mut(PAGE_TOKENS * value_dim);
    for page in positions.start / PAGE_TOKENS..positions.end.div_ceil(PAGE_TOKENS) {
        let mut widened = 0..0;
        for row in 0..block.rows() {
            let seen = block.seen(row, page, &positions);
            if seen.start >= seen.end {
                continue;
            }
            // Done once for all rows that see the same range or less.
            if seen.start < widened.start || seen.end > widened.end {
                let (page_keys, page_values) = block.page(page);
                widened = 0..seen.end.max(widened.end);
                widen(page_keys, Role::Keys, &mut keys[..widened.end * key_dim], key_dim);
                widen(page_values, Role::Values, &mut values[..widened.end * value_dim], value_dim);
            }
            let q = &block.q[row * key_stride..][..key_dim];
            let scores = &mut scores[..seen.len()];
            let mut max = to.max[row];
            let seen_keys = keys[seen.start * key_dim..].chunks_exact(key_dim);
            for (position, (score, key)) in seen.clone().zip(scores.iter_mut().zip(seen_keys)) {
                *score = q.iter().zip(key).map(|(q, key)| q * key).sum();
                if let Some(cap) = block.cap() {
                    *score = score.tanh() * cap;
                }
                if let Some((slope, first)) = block.slope(row, page) {
                    *score -= slope * (first + position as f32).abs();
                }
                max = if *score > max { *score } else { max };
            }
            let base = if max == f32::NEG_INFINITY { 0.0 } else { max };
            let out = &mut to.out[row * stride..][..value_dim];
            if max != to.max[row] {
                let factor = (to.max[row] - max).exp2();
                out.iter_mut().for_each(|out| *out *= factor);
                to.sum[row] *= factor;
                to.max[row] = max;
            }
            for (score, value) in scores.iter().zip(values[seen.start * value_dim..].chunks_exact(value_dim)) {
                let weight = (score - base).exp2();
                to.sum[row] += weight;
                out.iter_mut().zip(value).for_each(|(out, value)| *out += weight * value);
            }
        }
    }
}

/// Dequantises the first rows of a page.
fn widen(from: Head<'_>, role: Role, to: &mut [f32], dim: usize) {
    to.chunks_exact_mut(dim).enumerate().for_each(|(position, to)| from.row(role, position, to));
}

/// f32 to the nearest f16, clamped to its largest value.
fn convert(from: &[f32], to: &mut [f16]) {
    let most = f16::MAX.to_f32();
    to.iter_mut().zip(from).for_each(|(to, from)| *to = f16::from_f32(from.clamp(-most, most)));
}
