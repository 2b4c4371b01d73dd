//! Matrix products in plain code: a row is unpacked once and multiplied with every token.

use crate::kernels::matmul::{ActivationGroup, Chunk, MatmulKernels, RowsKernel, Scales};
use crate::quant::{Block, Form, GROUP, Group, Plain, by_type};

pub(in crate::kernels) const KERNELS: MatmulKernels = MatmulKernels {
    quantize,
    round: None,
    rows: &by_type!(RowsKernel: plain P => plain_rows::<P>, B: Block => quantised_rows::<B>, else unreachable!()),
    prompts: None,
};

/// Rounds to nearest, ties to even, for magnitudes far below 2²²: adding 1.5 × 2²³ leaves no fraction bits.
fn round(value: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (value + SHIFT) - SHIFT
}

/// Quantises activations to int8. All tables give the same bits here.
pub(in crate::kernels) fn quantize(x: &[f32], groups: &mut [ActivationGroup]) {
    for (x, group) in x.chunks_exact(GROUP).zip(groups) {
        let largest = |half: &[f32]| half.iter().map(|value| value.to_bits() & i32::MAX as u32).max().unwrap_or(0);
        let scales = Scales::new([largest(&x[..GROUP / 2]), largest(&x[GROUP / 2..])]);
        let mut half_sums = [0; 2];
        for (column, (level, value)) in group.levels.0.iter_mut().zip(x).enumerate() {
            *level = round(value * scales.inverses[column / 16]) as i8;
            half_sums[column / 16] += i32::from(*level);
        }
        group.facts = scales.facts(half_sums);
    }
}

/// # Safety
/// See [`RowsKernel`].
unsafe fn quantised_rows<B: Block>(chunk: &Chunk<'_>) {
    let mut row_groups: Vec<Group> = Vec::with_capacity(chunk.weight.columns / GROUP);
    for row in chunk.rows.clone() {
        row_groups.clear();
        for block in chunk.row(row).chunks_exact(B::BYTES) {
            row_groups.extend((0..B::GROUPS).map(|group| B::group(block, group)));
        }
        for token in 0..chunk.x.tokens() {
            let mut sum = 0.0f32;
            for (group, ActivationGroup { levels, facts }) in row_groups.iter().zip(chunk.x.groups(token)) {
                let product = [0, 1].map(|half| {
                    let multiplier = group.multipliers[half] * facts.multiplier(half);
                    multiplier * dot(&group.levels[16 * half..], &levels.0[16 * half..])
                });
                if B::Form::APART {
                    for (half, product) in product.into_iter().enumerate() {
                        sum += group.scale[half] * facts.scale * product as f32;
                        sum += group.offset[half] * facts.half_sum(half);
                    }
                } else {
                    sum += group.scale[0] * facts.scale * (product[0] + product[1]) as f32;
                    sum += group.offset[0] * facts.sum;
                }
            }
            // SAFETY: the row belongs to this chunk.
            unsafe { chunk.store(token, row, &[sum]) };
        }
    }
}

/// Dot product of 16 columns.
fn dot(a: &[i8], b: &[i8]) -> i32 {
    a[..16].iter().zip(&b[..16]).map(|(&a, &b)| i32::from(i16::from(a) * i16::from(b))).sum()
}

/// # Safety
/// See [`RowsKernel`].
unsafe fn plain_rows<P: Plain>(chunk: &Chunk<'_>) {
    let mut weights = vec![0.0; chunk.weight.columns.next_multiple_of(GROUP)];
    for row in chunk.rows.clone() {
        P::widen(chunk.row(row), &mut weights);
        for token in 0..chunk.x.tokens() {
            let mut lanes = [0.0f32; 8];
            for (w, x) in weights.chunks_exact(8).zip(chunk.x.values(token).chunks_exact(8)) {
                for lane in 0..8 {
                    lanes[lane] += w[lane] * x[lane];
                }
            }
            // SAFETY: the row belongs to this chunk.
            unsafe { chunk.store(token, row, &[lanes.iter().sum()]) };
        }
    }
}
