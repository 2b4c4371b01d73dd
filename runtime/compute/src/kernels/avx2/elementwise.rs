//! Element-wise operations on AVX2.

use super::vector::F32x8;
use crate::kernels::elementwise::{Activation, ElementwiseKernels, lanes};

/// Defines functions compiled with these features that call the generic one of the same name.
macro_rules! with_features {
    ($features:literal: $($name:ident$(::<$vector:ident>)?($($argument:ident: $type:ty),+);)+) => {
        $(#[target_feature(enable = $features)]
        unsafe fn $name($($argument: $type),+) {
            // SAFETY: compiled with the features of the vector; the rest is upheld by the caller.
            #[allow(unused_unsafe, reason = "the plain forms are safe")]
            unsafe { lanes::$name$(::<$vector>)?($($argument),+) }
        })+
    };
}

pub(in crate::kernels) const KERNELS: ElementwiseKernels = ElementwiseKernels {
    rms_norm,
    layer_norm,
    l2_norm,
    softmax,
    activate,
    gate,
    swiglu_oai,
    softcap,
    add,
    add_scaled,
    multiply,
    scale,
    clamp,
    rope_normal,
    rope_neox,
};

with_features! { "avx2,fma":
    rms_norm::<F32x8>(x: &[f32], weight: Option<&[f32]>, bias: Option<&[f32]>, eps: f32, out: &mut [f32]);
    layer_norm::<F32x8>(x: &[f32], weight: Option<&[f32]>, bias: Option<&[f32]>, eps: f32, out: &mut [f32]);
    l2_norm::<F32x8>(x: &[f32], eps: f32, out: &mut [f32]);
    softmax::<F32x8>(x: &mut [f32]);
    activate::<F32x8>(activation: Activation, x: &[f32], out: &mut [f32]);
    gate::<F32x8>(activation: Activation, gate: &[f32], up: &[f32], out: &mut [f32]);
    swiglu_oai::<F32x8>(gate: &[f32], up: &[f32], alpha: f32, limit: f32, out: &mut [f32]);
    softcap::<F32x8>(x: &mut [f32], cap: f32);
}

with_features! { "avx2":
    add(x: &mut [f32], y: &[f32]);
    add_scaled(x: &mut [f32], y: &[f32], factor: f32);
    multiply(x: &mut [f32], y: &[f32]);
    scale(x: &mut [f32], factor: f32);
    clamp(x: &mut [f32], low: f32, high: f32);
    rope_normal(x: &mut [f32], cos: &[f32], sin: &[f32]);
    rope_neox(x: &mut [f32], cos: &[f32], sin: &[f32]);
}
