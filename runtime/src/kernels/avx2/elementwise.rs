//! Elementwise operations on vectors of eight. A rest shorter than that is computed in a padded vector, so that an
//! element's value does not depend on where in the row it stands.

use std::arch::x86_64::*;

use super::math::{exp, sum_of_lanes};
use crate::kernels::elementwise::{ElementwiseKernels, RopeKind};
use crate::kernels::scalar;

pub(in crate::kernels) const KERNELS: ElementwiseKernels = ElementwiseKernels { rms_norm, silu_mul, gelu_mul, rope };

#[target_feature(enable = "avx2,fma,f16c")]
fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let (chunks, rest) = x.as_chunks::<8>();
    let mut sums = [_mm256_setzero_ps(); 4];
    for (at, chunk) in chunks.iter().enumerate() {
        // SAFETY: eight elements.
        let x = unsafe { _mm256_loadu_ps(chunk.as_ptr()) };
        sums[at % 4] = _mm256_fmadd_ps(x, x, sums[at % 4]);
    }
    let sum = _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]));
    let mut square = sum_of_lanes(sum);
    for x in rest {
        square = x.mul_add(*x, square);
    }
    let inverse = 1.0 / (square / x.len() as f32 + eps).sqrt();
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * inverse * weight;
    }
}

/// Calls `function` on eight elements of `a` and `b` at a time.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn each_eight(a: &[f32], b: &[f32], out: &mut [f32], function: impl Fn(__m256, __m256) -> __m256) {
    let (a_chunks, a_rest) = a.as_chunks::<8>();
    let (b_chunks, b_rest) = b.as_chunks::<8>();
    let (out_chunks, out_rest) = out.as_chunks_mut::<8>();
    for ((a, b), out) in a_chunks.iter().zip(b_chunks).zip(out_chunks) {
        // SAFETY: eight elements each.
        unsafe {
            let value = function(_mm256_loadu_ps(a.as_ptr()), _mm256_loadu_ps(b.as_ptr()));
            _mm256_storeu_ps(out.as_mut_ptr(), value);
        }
    }
    if !out_rest.is_empty() {
        let (mut a, mut b) = ([0.0; 8], [0.0; 8]);
        a[..a_rest.len()].copy_from_slice(a_rest);
        b[..b_rest.len()].copy_from_slice(b_rest);
        // SAFETY: eight elements each.
        unsafe {
            let value = function(_mm256_loadu_ps(a.as_ptr()), _mm256_loadu_ps(b.as_ptr()));
            _mm256_storeu_ps(a.as_mut_ptr(), value);
        }
        out_rest.copy_from_slice(&a[..out_rest.len()]);
    }
}

/// `x / (1 + exp(-steep))`
#[target_feature(enable = "avx2,fma,f16c")]
fn sigmoid_times(x: __m256, steep: __m256) -> __m256 {
    let power = exp(_mm256_xor_ps(steep, _mm256_set1_ps(-0.0)));
    _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1.0), power))
}

#[target_feature(enable = "avx2,fma,f16c")]
fn silu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
    each_eight(gate, up, out, |gate, up| _mm256_mul_ps(sigmoid_times(gate, gate), up));
}

/// `0.5 x (1 + tanh(z)) = x / (1 + exp(-2 z))`
#[target_feature(enable = "avx2,fma,f16c")]
fn gelu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
    const TWICE_SQRT_2_OVER_PI: f32 = 1.595_769_1;
    each_eight(gate, up, out, |gate, up| {
        let square = _mm256_mul_ps(gate, gate);
        let bent = _mm256_fmadd_ps(square, _mm256_set1_ps(0.044_715), _mm256_set1_ps(1.0));
        let steep = _mm256_mul_ps(_mm256_mul_ps(gate, bent), _mm256_set1_ps(TWICE_SQRT_2_OVER_PI));
        _mm256_mul_ps(sigmoid_times(gate, steep), up)
    });
}

#[target_feature(enable = "avx2,fma,f16c")]
fn rope(kind: RopeKind, head: &mut [f32], cos: &[f32], sin: &[f32]) {
    scalar::rope(kind, head, cos, sin);
}
