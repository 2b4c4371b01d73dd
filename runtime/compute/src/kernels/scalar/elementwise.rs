//! Element-wise operations, one element at a time; sums in f64.

use crate::kernels::elementwise::{Activation, ElementwiseKernels, lanes};

pub(super) const KERNELS: ElementwiseKernels = ElementwiseKernels {
    rms_norm,
    layer_norm,
    l2_norm,
    softmax,
    activate,
    gate,
    swiglu_oai,
    softcap,
    add: lanes::add,
    add_scaled: lanes::add_scaled,
    multiply: lanes::multiply,
    scale: lanes::scale,
    clamp: lanes::clamp,
    rope_normal: lanes::rope_normal,
    rope_neox: lanes::rope_neox,
};

fn rms_norm(x: &[f32], weight: Option<&[f32]>, bias: Option<&[f32]>, eps: f32, out: &mut [f32]) {
    let factor = 1.0 / ((squares(x) / x.len() as f64) as f32 + eps).sqrt();
    affine(x, 0.0, factor, weight, bias, out);
}

fn layer_norm(x: &[f32], weight: Option<&[f32]>, bias: Option<&[f32]>, eps: f32, out: &mut [f32]) {
    let count = x.len() as f64;
    let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
    let variance = x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / count;
    affine(x, mean as f32, 1.0 / (variance as f32 + eps).sqrt(), weight, bias, out);
}

fn l2_norm(x: &[f32], eps: f32, out: &mut [f32]) {
    affine(x, 0.0, 1.0 / (squares(x).sqrt() as f32).max(eps), None, None, out);
}

fn squares(x: &[f32]) -> f64 {
    x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum()
}

fn affine(x: &[f32], shift: f32, factor: f32, weight: Option<&[f32]>, bias: Option<&[f32]>, out: &mut [f32]) {
    for (column, out) in out.iter_mut().enumerate() {
        let weighted = (x[column] - shift) * factor * weight.map_or(1.0, |weight| weight[column]);
        *out = bias.map_or(weighted, |bias| weighted + bias[column]);
    }
}

fn softmax(x: &mut [f32]) {
    let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    x.iter_mut().for_each(|x| *x = (*x - largest).exp());
    let total: f64 = x.iter().map(|x| f64::from(*x)).sum();
    x.iter_mut().for_each(|x| *x = (f64::from(*x) / total) as f32);
}

fn activate(activation: Activation, x: &[f32], out: &mut [f32]) {
    out.iter_mut().zip(x).for_each(|(out, x)| *out = activated(activation, *x));
}

fn gate(activation: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        *out = activated(activation, *gate) * up;
    }
}

fn swiglu_oai(gate: &[f32], up: &[f32], alpha: f32, limit: f32, out: &mut [f32]) {
    // NaN is kept, as on every table.
    let most = |x: f32| if x > limit { limit } else { x };
    let least = |x: f32| if x < -limit { -limit } else { x };
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        let gate = most(*gate);
        *out = gate / (1.0 + (-alpha * gate).exp()) * (least(most(*up)) + 1.0);
    }
}

fn softcap(x: &mut [f32], cap: f32) {
    x.iter_mut().for_each(|x| *x = cap * (*x / cap).tanh());
}

/// See [`Activation`].
pub(super) fn activated(activation: Activation, x: f32) -> f32 {
    let positive = if x < 0.0 { 0.0 } else { x };
    match activation {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Gelu => {
            let u = std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2 * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + u.tanh())
        }
        Activation::GeluErf => gelu_erf(f64::from(x)) as f32,
        Activation::GeluQuick => x / (1.0 + (-1.702 * x).exp()),
        Activation::Relu => positive,
        Activation::ReluSquared => positive * positive,
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Activation::Tanh => x.tanh(),
        Activation::Softplus => positive + (-x.abs()).exp().ln_1p(),
    }
}

/// `x / 2 * erfc(-x / √2)`. The standard library has no error function: its series near 0, its continued fraction elsewhere.
fn gelu_erf(x: f64) -> f64 {
    let z = x.abs() * std::f64::consts::FRAC_1_SQRT_2;
    let tail = if z < 2.0 { 1.0 - erf_series(z) } else { erfc_fraction(z) };
    0.5 * x * if x < 0.0 { tail } else { 2.0 - tail }
}

/// `erf(z) = 2 / √π e^(-z²) Σ 2ⁿ z^(2n + 1) / (2n + 1)!!`, for small `z`.
fn erf_series(z: f64) -> f64 {
    let (mut term, mut sum, mut n) = (z, z, 1.0);
    while term > 1e-18 * sum {
        term *= 2.0 * z * z / (2.0 * n + 1.0);
        sum += term;
        n += 1.0;
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-z * z).exp() * sum
}

/// `erfc(z) = e^(-z²) / √π / (z + (1/2) / (z + 1 / (z + (3/2) / (z + …))))`, for large `z`.
fn erfc_fraction(z: f64) -> f64 {
    let fraction = (1..=60).rev().fold(z, |below, n| z + 0.5 * f64::from(n) / below);
    (-z * z).exp() * 0.5 * std::f64::consts::FRAC_2_SQRT_PI / fraction
}
