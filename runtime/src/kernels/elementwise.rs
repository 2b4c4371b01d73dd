//! Operations on rows of activations that mix nothing between tokens: norms, gates, rotation.
//!
//! A table works on one row (or a stretch of one); here rows are shared out over the threads where there are several.

use super::Kernels;
use super::threads::{Disjoint, Threads};

/// Which elements of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeKind {
    /// `(2i, 2i + 1)`
    Normal,
    /// `(i, i + n_rot / 2)`
    Neox,
}

/// What a table gives for elementwise work. Slices of a call have one length, but for `rope`, whose `cos` and `sin` are half
/// as long as what they turn.
///
/// Each is unsafe to call because the processor must have what the table needs.
pub struct ElementwiseKernels {
    /// `out = x / sqrt(mean(x²) + eps) * weight`
    pub(crate) rms_norm: unsafe fn(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]),
    /// `out = gate / (1 + exp(-gate)) * up`
    pub(crate) silu_mul: unsafe fn(gate: &[f32], up: &[f32], out: &mut [f32]),
    /// `out = gelu(gate) * up`, the tanh form
    pub(crate) gelu_mul: unsafe fn(gate: &[f32], up: &[f32], out: &mut [f32]),
    /// Turns one head in place.
    pub(crate) rope: unsafe fn(kind: RopeKind, head: &mut [f32], cos: &[f32], sin: &[f32]),
}

/// Elements below which threads cost more than they bring.
const SHARED_ELEMENTS: usize = 16_384;

/// Calls `work(start of the part, the part of out)` for whole rows of `columns`, on all threads where it pays.
fn by_rows(threads: &Threads, out: &mut [f32], columns: usize, work: &(dyn Fn(usize, &mut [f32]) + Sync)) {
    if out.len() < SHARED_ELEMENTS {
        return work(0, out);
    }
    let rows = out.len() / columns;
    let out = Disjoint::new(out);
    threads.run_ranges(rows, SHARED_ELEMENTS.div_ceil(4 * columns), &|rows| {
        let part = rows.start * columns..rows.end * columns;
        // SAFETY: ranges of rows do not overlap.
        work(part.start, unsafe { out.part(part) });
    });
}

/// Root-mean-square norm of every row of `x`, `(tokens, weight.len())`.
///
/// # Panics
/// If the sizes do not fit.
pub fn rms_norm(k: &Kernels, threads: &Threads, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let columns = weight.len();
    assert!(x.len() == out.len() && x.len().is_multiple_of(columns), "rows of {columns}");
    by_rows(threads, out, columns, &|start, out| {
        for (x, out) in x[start..start + out.len()].chunks_exact(columns).zip(out.chunks_exact_mut(columns)) {
            // SAFETY: the table was checked against the processor; one length.
            unsafe { (k.elementwise.rms_norm)(x, weight, eps, out) };
        }
    });
}

/// `out = silu(gate) * up`
///
/// # Panics
/// If the sizes do not fit.
pub fn silu_mul(k: &Kernels, threads: &Threads, gate: &[f32], up: &[f32], out: &mut [f32]) {
    gated(threads, k.elementwise.silu_mul, gate, up, out);
}

/// `out = gelu(gate) * up`, the tanh form
///
/// # Panics
/// If the sizes do not fit.
pub fn gelu_mul(k: &Kernels, threads: &Threads, gate: &[f32], up: &[f32], out: &mut [f32]) {
    gated(threads, k.elementwise.gelu_mul, gate, up, out);
}

type Gate = unsafe fn(&[f32], &[f32], &mut [f32]);

fn gated(threads: &Threads, kernel: Gate, gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(gate.len() == out.len() && up.len() == out.len(), "gate, up and out of one length");
    by_rows(threads, out, 1, &|start, out| {
        let part = start..start + out.len();
        // SAFETY: the table was checked against the processor; one length.
        unsafe { kernel(&gate[part.clone()], &up[part], out) };
    });
}

/// Turns the first `n_rot` elements of every head of `x`, `(tokens, heads * head_dim)`. `cos_sin` is `(tokens, n_rot)`: the
/// cosines of the pairs, then their sines.
///
/// # Panics
/// If the sizes do not fit.
#[allow(clippy::too_many_arguments, reason = "the shape of the operation")]
pub fn rope(
    k: &Kernels,
    threads: &Threads,
    kind: RopeKind,
    x: &mut [f32],
    heads: usize,
    head_dim: usize,
    n_rot: usize,
    cos_sin: &[f32],
) {
    let columns = heads * head_dim;
    assert!(n_rot.is_multiple_of(2) && n_rot <= head_dim, "{n_rot} of {head_dim} elements turn");
    assert_eq!(x.len() / columns * n_rot, cos_sin.len(), "a row of cosines and sines a token");
    if n_rot == 0 {
        return;
    }
    by_rows(threads, x, columns, &|start, x| {
        let angles = cos_sin[start / columns * n_rot..].chunks_exact(n_rot);
        for (row, angles) in x.chunks_exact_mut(columns).zip(angles) {
            let (cos, sin) = angles.split_at(n_rot / 2);
            for head in row.chunks_exact_mut(head_dim) {
                // SAFETY: the table was checked against the processor; `cos` and `sin` are half of what turns.
                unsafe { (k.elementwise.rope)(kind, &mut head[..n_rot], cos, sin) };
            }
        }
    });
}
