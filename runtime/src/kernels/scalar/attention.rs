//! Attention's small functions, element by element.

use half::f16;

use crate::kernels::attention::AttentionKernels;

pub(in crate::kernels) const KERNELS: AttentionKernels = AttentionKernels { widen, narrow, scores, powers, weigh };

fn widen(from: &[f16], to: &mut [f32]) {
    from.iter().zip(to).for_each(|(from, to)| *to = from.to_f32());
}

fn narrow(from: &[f32], to: &mut [f16]) {
    from.iter().zip(to).for_each(|(from, to)| *to = f16::from_f32(*from));
}

fn scores(q: &[f32], keys: &[f32], scale: f32, out: &mut [f32]) {
    for (key, out) in keys.chunks_exact(q.len()).zip(out) {
        *out = scale * q.iter().zip(key).map(|(q, key)| q * key).sum::<f32>();
    }
}

fn powers(scores: &mut [f32], largest: f32) -> f32 {
    let mut sum = 0.0;
    for score in scores {
        *score = (*score - largest).exp();
        sum += *score;
    }
    sum
}

fn weigh(weights: &[f32], values: &[f32], fade: f32, sum: &mut [f32]) {
    sum.iter_mut().for_each(|sum| *sum *= fade);
    for (weight, values) in weights.iter().zip(values.chunks_exact(sum.len())) {
        sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += weight * value);
    }
}
