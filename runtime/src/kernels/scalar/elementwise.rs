//! Elementwise operations, element by element.

use crate::kernels::elementwise::{ElementwiseKernels, RopeKind};

pub(in crate::kernels) const KERNELS: ElementwiseKernels = ElementwiseKernels { rms_norm, silu_mul, gelu_mul, rope };

fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let square: f32 = x.iter().map(|x| x * x).sum();
    let inverse = 1.0 / (square / x.len() as f32 + eps).sqrt();
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * inverse * weight;
    }
}

fn silu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        *out = gate / (1.0 + (-gate).exp()) * up;
    }
}

fn gelu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        let inner = SQRT_2_OVER_PI * gate * (1.0 + 0.044_715 * gate * gate);
        *out = 0.5 * gate * (1.0 + inner.tanh()) * up;
    }
}

/// Turns one head. Shared by every table: a few dozen multiplications that the compiler vectorises well enough.
pub(in crate::kernels) fn rope(kind: RopeKind, head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let pairs = cos.len();
    match kind {
        RopeKind::Normal => {
            for ((pair, cos), sin) in head.as_chunks_mut::<2>().0.iter_mut().zip(cos).zip(sin) {
                let [a, b] = *pair;
                *pair = [a * cos - b * sin, a * sin + b * cos];
            }
        }
        RopeKind::Neox => {
            let (first, second) = head[..2 * pairs].split_at_mut(pairs);
            for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
            }
        }
    }
}
