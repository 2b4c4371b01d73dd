//! The vectorised element-wise operations, for every instruction set, and plain forms of those that need no intrinsics.
//!
//! `add`, `scale`, `rope` and the like are plain Rust: the compiler vectorises them inside the function with the target features,
//! bit-identically everywhere, since it neither reorders sums nor fuses operations by itself.

use super::Activation;
use super::functions::{
    ExpMinus, Function, Gating, Gelu, GeluErf, GeluQuick, Relu, ReluSquared, Sigmoid, Silu, SoftCap, Softplus,
    SwigluOai, Tanh, Times,
};
use crate::kernels::scan;
use crate::kernels::vector::Vector;

/// Accumulators of a sum over columns: column `c` belongs to lane `c % (SUMS * LANES)`.
const SUMS: usize = 4;

/// Sum over `x` of `map(x - shift)`, where `map` is the square or the identity.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "registers, not memory")]
unsafe fn sum<V: Vector, const SQUARES: bool>(x: &[f32], shift: f32) -> f32 {
    // SAFETY: whole vectors within `x`; the caller upholds `Vector`'s contract.
    unsafe {
        let mut sums = [V::splat(0.0); SUMS];
        let shift = V::splat(shift);
        let whole = x.len() / V::LANES;
        for first in (0..whole).step_by(SUMS) {
            // A constant index each, which keeps the sums in registers.
            for index in 0..SUMS {
                if first + index < whole {
                    let value = V::load(x.as_ptr().add((first + index) * V::LANES)).sub(shift);
                    let sum = sums[index];
                    sums[index] = if SQUARES { value.mul_add(value, sum) } else { sum.add(value) };
                }
            }
        }
        let mut total = sums[0].add(sums[1]).add(sums[2].add(sums[3])).sum();
        let mut lanes = [0.0; 16];
        shift.store(lanes.as_mut_ptr());
        for value in &x[whole * V::LANES..] {
            let value = value - lanes[0];
            total += if SQUARES { value * value } else { value };
        }
        total
    }
}

/// See [`super::ElementwiseKernels`], as for everything below.
///
/// # Safety
/// See [`Vector`]; slices of equal length.
#[inline(always)]
pub(in crate::kernels) unsafe fn rms_norm<V: Vector>(
    x: &[f32],
    weight: Option<&[f32]>,
    bias: Option<&[f32]>,
    eps: f32,
    out: &mut [f32],
) {
    // SAFETY: upheld by the caller.
    let squares = unsafe { sum::<V, true>(x, 0.0) };
    let factor = 1.0 / (squares / x.len() as f32 + eps).sqrt();
    affine(x, 0.0, factor, weight, bias, out);
}

#[inline(always)]
pub(in crate::kernels) unsafe fn layer_norm<V: Vector>(
    x: &[f32],
    weight: Option<&[f32]>,
    bias: Option<&[f32]>,
    eps: f32,
    out: &mut [f32],
) {
    // SAFETY: upheld by the caller.
    let (mean, variance) = unsafe {
        let mean = sum::<V, false>(x, 0.0) / x.len() as f32;
        (mean, sum::<V, true>(x, mean) / x.len() as f32)
    };
    affine(x, mean, 1.0 / (variance + eps).sqrt(), weight, bias, out);
}

#[inline(always)]
pub(in crate::kernels) unsafe fn l2_norm<V: Vector>(x: &[f32], eps: f32, out: &mut [f32]) {
    // SAFETY: upheld by the caller.
    let norm = unsafe { sum::<V, true>(x, 0.0) }.sqrt();
    affine(x, 0.0, 1.0 / norm.max(eps), None, None, out);
}

/// `(x - shift) * factor * weight + bias`
#[inline(always)]
fn affine(x: &[f32], shift: f32, factor: f32, weight: Option<&[f32]>, bias: Option<&[f32]>, out: &mut [f32]) {
    match weight {
        Some(weight) => {
            for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
                *out = (x - shift) * factor * weight;
            }
        }
        None => out.iter_mut().zip(x).for_each(|(out, x)| *out = (x - shift) * factor),
    }
    if let Some(bias) = bias {
        add(out, bias);
    }
}

/// Calls `$then` with an activation's function.
macro_rules! with_function {
    ($activation:expr, $function:ident => $then:expr) => {
        with_function!(@match $activation, $function, $then,
            Silu Gelu GeluErf GeluQuick Relu ReluSquared Sigmoid Tanh Softplus)
    };
    (@match $activation:expr, $function:ident, $then:expr, $($name:ident)+) => {
        match $activation {
            $(Activation::$name => {
                let $function = $name;
                $then
            })+
        }
    };
}

#[inline(always)]
pub(in crate::kernels) unsafe fn activate<V: Vector>(activation: Activation, x: &[f32], out: &mut [f32]) {
    // SAFETY: upheld by the caller; two slices of equal length at least.
    unsafe {
        let length = x.len().min(out.len());
        with_function!(activation, function => map::<V, _>(&function, x.as_ptr(), out.as_mut_ptr(), length));
    }
}

#[inline(always)]
pub(in crate::kernels) unsafe fn gate<V: Vector>(activation: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) {
    // SAFETY: upheld by the caller.
    unsafe { with_function!(activation, function => zip::<V, _>(&Times(function), gate, up, out)) }
}

#[inline(always)]
pub(in crate::kernels) unsafe fn swiglu_oai<V: Vector>(
    gate: &[f32],
    up: &[f32],
    alpha: f32,
    limit: f32,
    out: &mut [f32],
) {
    // SAFETY: upheld by the caller.
    unsafe { zip::<V, _>(&SwigluOai { alpha, limit }, gate, up, out) }
}

#[inline(always)]
pub(in crate::kernels) unsafe fn softcap<V: Vector>(x: &mut [f32], cap: f32) {
    // SAFETY: upheld by the caller.
    unsafe { map_in_place::<V, _>(&SoftCap(cap), x) }
}

#[inline(always)]
pub(in crate::kernels) unsafe fn softmax<V: Vector>(x: &mut [f32]) {
    // SAFETY: upheld by the caller.
    unsafe {
        map_in_place::<V, _>(&ExpMinus(scan::largest(x)), x);
        let total = sum::<V, false>(x, 0.0);
        scale(x, 1.0 / total);
    }
}

/// Applies a function to every element.
#[inline(always)]
pub(in crate::kernels) unsafe fn map_in_place<V: Vector, F: Function>(function: &F, x: &mut [f32]) {
    let pointer = x.as_mut_ptr();
    // SAFETY: each element is read before it is overwritten.
    unsafe { map::<V, F>(function, pointer, pointer, x.len()) }
}

/// Applies a function to `length` elements. `to` may equal `from`.
#[inline(always)]
unsafe fn map<V: Vector, F: Function>(function: &F, from: *const f32, to: *mut f32, length: usize) {
    let whole = length / V::LANES * V::LANES;
    // SAFETY: whole vectors within the memory; the tail goes through a buffer of at least one vector.
    unsafe {
        for at in (0..whole).step_by(V::LANES) {
            function.of(V::load(from.add(at))).store(to.add(at));
        }
        if whole < length {
            let (mut buffer, rest) = ([0.0; 16], length - whole);
            from.add(whole).copy_to_nonoverlapping(buffer.as_mut_ptr(), rest);
            function.of(V::load(buffer.as_ptr())).store(buffer.as_mut_ptr());
            to.add(whole).copy_from_nonoverlapping(buffer.as_ptr(), rest);
        }
    }
}

/// Applies a function to the elements of two slices.
#[inline(always)]
unsafe fn zip<V: Vector, F: Gating>(function: &F, gate: &[f32], up: &[f32], out: &mut [f32]) {
    let length = gate.len().min(up.len()).min(out.len());
    let whole = length / V::LANES * V::LANES;
    // SAFETY: whole vectors within the slices; the tail goes through buffers of at least one vector.
    unsafe {
        for at in (0..whole).step_by(V::LANES) {
            let (gate, up) = (V::load(gate.as_ptr().add(at)), V::load(up.as_ptr().add(at)));
            function.of(gate, up).store(out.as_mut_ptr().add(at));
        }
        if whole < length {
            let (mut g, mut u, rest) = ([0.0; 16], [0.0; 16], length - whole);
            g[..rest].copy_from_slice(&gate[whole..length]);
            u[..rest].copy_from_slice(&up[whole..length]);
            function.of(V::load(g.as_ptr()), V::load(u.as_ptr())).store(g.as_mut_ptr());
            out[whole..length].copy_from_slice(&g[..rest]);
        }
    }
}

#[inline(always)]
pub(in crate::kernels) fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

#[inline(always)]
pub(in crate::kernels) fn scale(x: &mut [f32], factor: f32) {
    x.iter_mut().for_each(|x| *x *= factor);
}

#[inline(always)]
pub(in crate::kernels) fn multiply(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x *= y);
}

#[inline(always)]
pub(in crate::kernels) fn add_scaled(x: &mut [f32], y: &[f32], factor: f32) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y * factor);
}

#[inline(always)]
pub(in crate::kernels) fn clamp(x: &mut [f32], low: f32, high: f32) {
    for x in x {
        let raised = if *x < low { low } else { *x };
        *x = if raised > high { high } else { raised };
    }
}

#[inline(always)]
pub(in crate::kernels) fn rope_normal(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    for ((pair, cos), sin) in x.chunks_exact_mut(2).zip(cos).zip(sin) {
        let (a, b) = (pair[0], pair[1]);
        pair[0] = a * cos - b * sin;
        pair[1] = a * sin + b * cos;
    }
}

#[inline(always)]
pub(in crate::kernels) fn rope_neox(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (first, second) = x.split_at_mut(cos.len());
    for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
        (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
    }
}
