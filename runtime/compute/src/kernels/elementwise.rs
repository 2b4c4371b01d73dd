//! The operations between matrix products: norms, gated activations, sums, rotary positions.
//!
//! Each takes a whole batch and hands tokens, or stretches of elements, to the threads where there are several tokens. A sum over
//! a token's columns is one thread's, in lanes that depend on the column alone, so a token gets the same bits in any batch.
//! Not here: what an operation's numbers mean to a model.
//!
//! The one idea: an element's arithmetic is the same in the middle of a slice and at its end; tails go through the same vector
//! code by way of a small buffer.

pub(super) mod lanes;
#[cfg(test)]
mod tests;

use super::Kernels;
use super::threads::{Disjoint, Threads};

/// Elements that one thread takes at least: some microseconds of work.
const GRAIN: usize = 8192;

/// Which elements of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeKind {
    /// `(2i, 2i + 1)`
    Normal,
    /// `(i, i + n_rot / 2)`
    Neox,
}

/// What a table gives for one token's row, or a stretch of elements. All slices of a call have one length.
pub struct ElementwiseKernels {
    /// `x / sqrt(mean(x²) + eps) * weight`
    pub(crate) rms_norm: unsafe fn(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]),
    /// `(x - mean(x)) / sqrt(variance(x) + eps) * weight + bias`
    #[allow(clippy::type_complexity, reason = "the shape of the operation")]
    pub(crate) layer_norm: unsafe fn(x: &[f32], weight: &[f32], bias: Option<&[f32]>, eps: f32, out: &mut [f32]),
    /// `silu(gate) * up`
    pub(crate) silu_mul: unsafe fn(gate: &[f32], up: &[f32], out: &mut [f32]),
    /// `gelu(gate) * up`
    pub(crate) gelu_mul: unsafe fn(gate: &[f32], up: &[f32], out: &mut [f32]),
    /// `x += y`
    pub(crate) add: unsafe fn(x: &mut [f32], y: &[f32]),
    /// `x *= factor`
    pub(crate) scale: unsafe fn(x: &mut [f32], factor: f32),
    /// Turns pairs `(x[2i], x[2i + 1])` of one head: `x` is twice as long as `cos` and `sin`.
    pub(crate) rope_normal: unsafe fn(x: &mut [f32], cos: &[f32], sin: &[f32]),
    /// Turns pairs `(x[i], x[i + cos.len()])` of one head.
    pub(crate) rope_neox: unsafe fn(x: &mut [f32], cos: &[f32], sin: &[f32]),
}

/// RMS norm of every token: `x / sqrt(mean(x²) + eps) * weight`. `x` and `out` are `(tokens, weight.len())`.
///
/// # Panics
/// If lengths do not fit.
pub fn rms_norm(kernels: &Kernels, threads: &Threads, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    rows(threads, x, weight.len(), out, &|x, out| {
        // SAFETY: a table is handed out only where the processor has what it needs; `rows` gives slices of one length.
        unsafe { (kernels.elementwise.rms_norm)(x, weight, eps, out) }
    });
}

/// Layer norm of every token, `(x - mean) / sqrt(variance + eps) * weight + bias`. `x` and `out` are `(tokens, weight.len())`.
///
/// # Panics
/// If lengths do not fit.
pub fn layer_norm(
    kernels: &Kernels,
    threads: &Threads,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    eps: f32,
    out: &mut [f32],
) {
    assert!(bias.is_none_or(|bias| bias.len() == weight.len()), "weight and bias of a norm differ in length");
    rows(threads, x, weight.len(), out, &|x, out| {
        // SAFETY: as in `rms_norm`.
        unsafe { (kernels.elementwise.layer_norm)(x, weight, bias, eps, out) }
    });
}

/// `out = silu(gate) * up`, with `silu(x) = x / (1 + e^-x)`.
///
/// # Panics
/// If lengths differ.
pub fn silu_mul(kernels: &Kernels, threads: &Threads, gate: &[f32], up: &[f32], out: &mut [f32]) {
    gated(threads, kernels.elementwise.silu_mul, gate, up, out);
}

/// `out = gelu(gate) * up`, with the form by tanh that models with gated GELU were trained with:
/// `gelu(x) = x / 2 * (1 + tanh(sqrt(2 / π) (x + 0.044715 x³)))`.
///
/// # Panics
/// If lengths differ.
pub fn gelu_mul(kernels: &Kernels, threads: &Threads, gate: &[f32], up: &[f32], out: &mut [f32]) {
    gated(threads, kernels.elementwise.gelu_mul, gate, up, out);
}

/// `x += y`.
///
/// # Panics
/// If lengths differ.
pub fn add(kernels: &Kernels, threads: &Threads, x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "summands differ in length");
    let length = x.len();
    let x = Disjoint::new(x);
    threads.run_ranges(length, GRAIN, &|range| {
        // SAFETY: `run_ranges` hands out disjoint ranges; the table as in `rms_norm`.
        unsafe { (kernels.elementwise.add)(x.part(range.clone()), &y[range]) }
    });
}

/// `x *= factor`.
pub fn scale(kernels: &Kernels, threads: &Threads, x: &mut [f32], factor: f32) {
    let length = x.len();
    let x = Disjoint::new(x);
    threads.run_ranges(length, GRAIN, &|range| {
        // SAFETY: as in `add`.
        unsafe { (kernels.elementwise.scale)(x.part(range), factor) }
    });
}

/// Turns the first `n_rot` elements of every head of `x`, `(tokens, heads * head_dim)`, by the angles in `cos_sin`: a row a token
/// of `n_rot / 2` cosines, then as many sines.
///
/// # Panics
/// If lengths do not fit, or `n_rot` is odd or larger than a head.
#[allow(clippy::too_many_arguments, reason = "an operation's plain numbers; a struct would only be unpacked again")]
pub fn rope(
    kernels: &Kernels,
    threads: &Threads,
    kind: RopeKind,
    x: &mut [f32],
    heads: usize,
    head_dim: usize,
    n_rot: usize,
    cos_sin: &[f32],
) {
    let columns = heads * head_dim;
    if x.is_empty() || n_rot == 0 {
        return;
    }
    let tokens = x.len() / columns;
    assert!(n_rot.is_multiple_of(2) && n_rot <= head_dim, "{n_rot} elements to turn in a head of {head_dim}");
    assert!(x.len() == tokens * columns && cos_sin.len() == tokens * n_rot, "{tokens} tokens of {columns} columns");
    let x = Disjoint::new(x);
    let turn = match kind {
        RopeKind::Normal => kernels.elementwise.rope_normal,
        RopeKind::Neox => kernels.elementwise.rope_neox,
    };
    threads.run_ranges(tokens, GRAIN.div_ceil(columns), &|range| {
        for token in range {
            let (cos, sin) = cos_sin[token * n_rot..][..n_rot].split_at(n_rot / 2);
            // SAFETY: ranges of tokens are disjoint; the table as in `rms_norm`, and the lengths are what it asks for.
            unsafe {
                let row = x.part(token * columns..(token + 1) * columns);
                row.chunks_exact_mut(head_dim).for_each(|head| turn(&mut head[..n_rot], cos, sin));
            }
        }
    });
}

/// `work(row of x, row of out)` for every token.
fn rows(threads: &Threads, x: &[f32], columns: usize, out: &mut [f32], work: &(dyn Fn(&[f32], &mut [f32]) + Sync)) {
    assert!(x.len() == out.len(), "{} elements in, {} out", x.len(), out.len());
    if x.is_empty() {
        return;
    }
    assert!(columns > 0 && x.len().is_multiple_of(columns), "{} elements are no rows of {columns}", x.len());
    let out = Disjoint::new(out);
    threads.run_ranges(x.len() / columns, GRAIN.div_ceil(columns), &|range| {
        for token in range {
            let row = token * columns..(token + 1) * columns;
            // SAFETY: ranges of tokens are disjoint.
            work(&x[row.clone()], unsafe { out.part(row) });
        }
    });
}

fn gated(threads: &Threads, kernel: unsafe fn(&[f32], &[f32], &mut [f32]), gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(gate.len() == up.len() && gate.len() == out.len(), "gate, up and out differ in length");
    let out = Disjoint::new(out);
    threads.run_ranges(gate.len(), GRAIN / 4, &|range| {
        // SAFETY: `run_ranges` hands out disjoint ranges; the table as in `rms_norm`.
        unsafe { kernel(&gate[range.clone()], &up[range.clone()], out.part(range)) }
    });
}
