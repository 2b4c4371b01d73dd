//! The vector form of the element-wise operations, for every instruction set, and the plain form of those that need none.
//!
//! `add`, `scale` and `rope` are plain Rust: the compiler vectorises them in the function with the instruction set's features, and
//! gives the same bits everywhere, since it neither reorders sums nor fuses what is not written fused.

use crate::kernels::vector::{Vector, exp};

/// Vectors that a sum over columns runs in, side by side: column `c` belongs to lane `c % (SUMS * LANES)`.
const SUMS: usize = 4;

/// `sqrt(2 / π)` and `0.044715 sqrt(2 / π)`, doubled: `gelu(x) = x / (1 + e^-(2u))`.
pub(in crate::kernels) const GELU: [f32; 2] = [1.595_769, 0.071_354_814];

/// Sum over `x` of `map(x - shift)`, which is the square or the value itself.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "registers, not memory")]
unsafe fn sum<V: Vector, const SQUARES: bool>(x: &[f32], shift: f32) -> f32 {
    // SAFETY: whole vectors within `x`, and `Vector`'s promise is the caller's.
    unsafe {
        let mut sums = [V::splat(0.0); SUMS];
        let shift = V::splat(shift);
        let whole = x.len() / V::LANES;
        for first in (0..whole).step_by(SUMS) {
            // A constant index each, so that the sums stay in registers.
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

/// See [`super::ElementwiseKernels`], as for all of the following.
///
/// # Safety
/// As [`Vector`] says; slices of one length.
#[inline(always)]
pub(in crate::kernels) unsafe fn rms_norm<V: Vector>(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    // SAFETY: passed on.
    let squares = unsafe { sum::<V, true>(x, 0.0) };
    let factor = 1.0 / (squares / x.len() as f32 + eps).sqrt();
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * factor * weight;
    }
}

#[inline(always)]
pub(in crate::kernels) unsafe fn layer_norm<V: Vector>(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    eps: f32,
    out: &mut [f32],
) {
    // SAFETY: passed on.
    let (mean, variance) = unsafe {
        let mean = sum::<V, false>(x, 0.0) / x.len() as f32;
        (mean, sum::<V, true>(x, mean) / x.len() as f32)
    };
    let factor = 1.0 / (variance + eps).sqrt();
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = (x - mean) * factor * weight;
    }
    if let Some(bias) = bias {
        out.iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
    }
}

#[inline(always)]
pub(in crate::kernels) unsafe fn silu_mul<V: Vector>(gate: &[f32], up: &[f32], out: &mut [f32]) {
    // SAFETY: passed on.
    unsafe { gated::<V, false>(gate, up, out) }
}

#[inline(always)]
pub(in crate::kernels) unsafe fn gelu_mul<V: Vector>(gate: &[f32], up: &[f32], out: &mut [f32]) {
    // SAFETY: passed on.
    unsafe { gated::<V, true>(gate, up, out) }
}

#[inline(always)]
unsafe fn gated<V: Vector, const GELU_GATE: bool>(gate: &[f32], up: &[f32], out: &mut [f32]) {
    let length = gate.len().min(up.len()).min(out.len());
    let whole = length / V::LANES * V::LANES;
    // SAFETY: whole vectors within the slices; the rest by way of buffers of a vector at least.
    unsafe {
        for at in (0..whole).step_by(V::LANES) {
            let (gate, up) = (V::load(gate.as_ptr().add(at)), V::load(up.as_ptr().add(at)));
            gate_vector::<V, GELU_GATE>(gate, up).store(out.as_mut_ptr().add(at));
        }
        if whole < length {
            let (mut g, mut u, rest) = ([0.0; 16], [0.0; 16], length - whole);
            g[..rest].copy_from_slice(&gate[whole..length]);
            u[..rest].copy_from_slice(&up[whole..length]);
            let result = gate_vector::<V, GELU_GATE>(V::load(g.as_ptr()), V::load(u.as_ptr()));
            result.store(g.as_mut_ptr());
            out[whole..length].copy_from_slice(&g[..rest]);
        }
    }
}

/// `gate / (1 + e^-u) * up`, with `u` the gate itself or GELU's cubic of it.
#[inline(always)]
unsafe fn gate_vector<V: Vector, const GELU_GATE: bool>(gate: V, up: V) -> V {
    // SAFETY: register operations.
    unsafe {
        let minus_u = if GELU_GATE {
            let slope = gate.mul(gate).mul_add(V::splat(-GELU[1]), V::splat(-GELU[0]));
            slope.mul(gate)
        } else {
            V::splat(-0.0).sub(gate)
        };
        gate.div(exp(minus_u).add(V::splat(1.0))).mul(up)
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
