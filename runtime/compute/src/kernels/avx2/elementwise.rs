//! Element-wise operations on AVX2.

use super::vector::F32x8;
use crate::kernels::elementwise::{ElementwiseKernels, lanes};

pub(in crate::kernels) const KERNELS: ElementwiseKernels =
    ElementwiseKernels { rms_norm, layer_norm, silu_mul, gelu_mul, add, scale, rope_normal, rope_neox };

#[target_feature(enable = "avx2,fma")]
unsafe fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    // SAFETY: compiled with the features of `F32x8`, as all of the following.
    unsafe { lanes::rms_norm::<F32x8>(x, weight, eps, out) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn layer_norm(x: &[f32], weight: &[f32], bias: Option<&[f32]>, eps: f32, out: &mut [f32]) {
    // SAFETY: see `rms_norm`.
    unsafe { lanes::layer_norm::<F32x8>(x, weight, bias, eps, out) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn silu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
    // SAFETY: see `rms_norm`.
    unsafe { lanes::silu_mul::<F32x8>(gate, up, out) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn gelu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
    // SAFETY: see `rms_norm`.
    unsafe { lanes::gelu_mul::<F32x8>(gate, up, out) }
}

#[target_feature(enable = "avx2")]
fn add(x: &mut [f32], y: &[f32]) {
    lanes::add(x, y);
}

#[target_feature(enable = "avx2")]
fn scale(x: &mut [f32], factor: f32) {
    lanes::scale(x, factor);
}

#[target_feature(enable = "avx2")]
fn rope_normal(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    lanes::rope_normal(x, cos, sin);
}

#[target_feature(enable = "avx2")]
fn rope_neox(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    lanes::rope_neox(x, cos, sin);
}
