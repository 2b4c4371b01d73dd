//! The operations between matrix products: norms, activations, sums, rotary positions.
//!
//! Each takes a whole batch and distributes tokens, or ranges of elements, over the threads if there are several tokens. A sum
//! over a token's columns is done by one thread, in lanes that depend on the column alone, so a token gets the same bits in any
//! batch. What an operation's values mean to a model is not known here.
//!
//! The one idea: an element's arithmetic is the same in the middle of a slice and at its end; tails go through the same vector
//! code via a small buffer.

mod activations;
pub(super) mod functions;
pub(super) mod lanes;
mod norms;
mod rope;
#[cfg(test)]
mod tests;

use std::ops::Range;

use super::Kernels;
use super::threads::Threads;

pub use activations::{Activation, activate, gate, gelu_mul, silu_mul, softcap, swiglu_oai};
pub use norms::{Norm, NormKind, layer_norm, norm, rms_norm, softmax};
pub use rope::{Heads, RopeKind, rope, rope_heads};

/// Minimum elements per thread: a few microseconds of work.
const GRAIN: usize = 8192;

/// A norm of one row, with optional weight and bias.
pub(crate) type NormKernel =
    unsafe fn(x: &[f32], weight: Option<&[f32]>, bias: Option<&[f32]>, eps: f32, out: &mut [f32]);

/// A table's entries for one token's row, or a range of elements. All slices of a call have equal length.
pub struct ElementwiseKernels {
    /// `x / sqrt(mean(x²) + eps) * weight + bias`
    pub(crate) rms_norm: NormKernel,
    /// `(x - mean(x)) / sqrt(variance(x) + eps) * weight + bias`
    pub(crate) layer_norm: NormKernel,
    /// `x / max(sqrt(sum(x²)), eps)`
    pub(crate) l2_norm: unsafe fn(x: &[f32], eps: f32, out: &mut [f32]),
    /// `e^x / sum(e^x)`
    pub(crate) softmax: unsafe fn(x: &mut [f32]),
    /// `activation(x)`
    pub(crate) activate: unsafe fn(activation: Activation, x: &[f32], out: &mut [f32]),
    /// `activation(gate) * up`
    pub(crate) gate: unsafe fn(activation: Activation, gate: &[f32], up: &[f32], out: &mut [f32]),
    /// See [`swiglu_oai`].
    #[allow(clippy::type_complexity, reason = "the shape of the operation")]
    pub(crate) swiglu_oai: unsafe fn(gate: &[f32], up: &[f32], alpha: f32, limit: f32, out: &mut [f32]),
    /// `cap * tanh(x / cap)`
    pub(crate) softcap: unsafe fn(x: &mut [f32], cap: f32),
    /// `x += y`
    pub(crate) add: unsafe fn(x: &mut [f32], y: &[f32]),
    /// `x += y * factor`, each rounded
    pub(crate) add_scaled: unsafe fn(x: &mut [f32], y: &[f32], factor: f32),
    /// `x *= y`
    pub(crate) multiply: unsafe fn(x: &mut [f32], y: &[f32]),
    /// `x *= factor`
    pub(crate) scale: unsafe fn(x: &mut [f32], factor: f32),
    /// `min(max(x, low), high)`
    pub(crate) clamp: unsafe fn(x: &mut [f32], low: f32, high: f32),
    /// Rotates pairs `(x[2i], x[2i + 1])` of one head: `x` is twice as long as `cos` and `sin`.
    pub(crate) rope_normal: unsafe fn(x: &mut [f32], cos: &[f32], sin: &[f32]),
    /// Rotates pairs `(x[i], x[i + cos.len()])` of one head.
    pub(crate) rope_neox: unsafe fn(x: &mut [f32], cos: &[f32], sin: &[f32]),
}

/// `x += y`.
///
/// # Panics
/// If lengths differ.
pub fn add(kernels: &Kernels, threads: &Threads, x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "summands differ in length");
    threads.run_rows(x, 1, GRAIN, &|range, x| {
        // SAFETY: tables are handed out only on processors that support them; slices of one length.
        unsafe { (kernels.elementwise.add)(x, &y[range]) }
    });
}

/// `x *= y`.
///
/// # Panics
/// If lengths differ.
pub fn multiply(kernels: &Kernels, threads: &Threads, x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "factors differ in length");
    threads.run_rows(x, 1, GRAIN, &|range, x| {
        // SAFETY: as in `add`.
        unsafe { (kernels.elementwise.multiply)(x, &y[range]) }
    });
}

/// Multiplies each run of `width` elements of `x` by its own factor: `x` is `(factors.len(), width)`.
///
/// # Panics
/// If lengths do not match.
pub fn multiply_rows(kernels: &Kernels, threads: &Threads, x: &mut [f32], factors: &[f32], width: usize) {
    assert_eq!(x.len(), factors.len() * width, "{} factors of {width} elements each", factors.len());
    for_rows(threads, x, width, width, &|range, x| {
        for (row, factor) in x.chunks_exact_mut(width).zip(&factors[range]) {
            // SAFETY: as in `add`.
            unsafe { (kernels.elementwise.scale)(row, *factor) }
        }
    });
}

/// `x *= factor`.
pub fn scale(kernels: &Kernels, threads: &Threads, x: &mut [f32], factor: f32) {
    threads.run_rows(x, 1, GRAIN, &|_, x| {
        // SAFETY: as in `add`.
        unsafe { (kernels.elementwise.scale)(x, factor) }
    });
}

/// `x = min(max(x, low), high)`; NaN is kept.
pub fn clamp(kernels: &Kernels, threads: &Threads, x: &mut [f32], low: f32, high: f32) {
    threads.run_rows(x, 1, GRAIN, &|_, x| {
        // SAFETY: as in `add`.
        unsafe { (kernels.elementwise.clamp)(x, low, high) }
    });
}

/// Calls `work(range, rows)` for ranges of the rows of `x`, `(rows, columns)`, on any thread. A row costs about as much as `cost`
/// sums: few are not worth another thread.
///
/// # Panics
/// If `x` is not whole rows.
pub fn for_rows(
    threads: &Threads,
    x: &mut [f32],
    columns: usize,
    cost: usize,
    work: &(dyn Fn(Range<usize>, &mut [f32]) + Sync),
) {
    threads.run_rows(x, columns, GRAIN.div_ceil(cost.max(1)), work);
}
