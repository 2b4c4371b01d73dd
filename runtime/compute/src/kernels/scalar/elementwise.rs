//! Element-wise operations, one element after the other; sums in f64.

use crate::kernels::elementwise::{ElementwiseKernels, lanes};

pub(super) const KERNELS: ElementwiseKernels = ElementwiseKernels {
    rms_norm,
    layer_norm,
    silu_mul,
    gelu_mul,
    add: lanes::add,
    scale: lanes::scale,
    rope_normal: lanes::rope_normal,
    rope_neox: lanes::rope_neox,
};

fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let squares: f64 = x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    let factor = 1.0 / ((squares / x.len() as f64) as f32 + eps).sqrt();
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * factor * weight;
    }
}

fn layer_norm(x: &[f32], weight: &[f32], bias: Option<&[f32]>, eps: f32, out: &mut [f32]) {
    let count = x.len() as f64;
    let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
    let variance = x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / count;
    let (mean, factor) = (mean as f32, 1.0 / (variance as f32 + eps).sqrt());
    for (column, out) in out.iter_mut().enumerate() {
        *out = (x[column] - mean) * factor * weight[column] + bias.map_or(0.0, |bias| bias[column]);
    }
}

fn silu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        *out = gate / (1.0 + (-gate).exp()) * up;
    }
}

fn gelu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        let u = std::f32::consts::FRAC_2_SQRT_PI
            * std::f32::consts::FRAC_1_SQRT_2
            * (gate + 0.044_715 * gate * gate * gate);
        *out = 0.5 * gate * (1.0 + u.tanh()) * up;
    }
}
