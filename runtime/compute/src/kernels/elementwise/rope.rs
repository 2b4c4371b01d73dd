//! Rotary position embedding.

use super::for_rows;
use crate::kernels::Kernels;
use crate::kernels::threads::Threads;

/// Which elements of a head form a rotated pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeKind {
    /// `(2i, 2i + 1)`
    Normal,
    /// `(i, i + n_rot / 2)`
    Neox,
}

/// Where the rotated parts of heads are in a token's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Columns per token, including those of no head.
    pub columns: usize,
    /// Number of heads.
    pub count: usize,
    /// Columns from one head to the next.
    pub stride: usize,
    /// First rotated column of the first head.
    pub first: usize,
}

/// Rotates the first `n_rot` elements of every head of `x`, `(tokens, heads * head_dim)`, by the angles in `cos_sin`: per token a
/// row of `n_rot / 2` cosines, then as many sines.
///
/// # Panics
/// If lengths do not match, or `n_rot` is odd or larger than a head.
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
    let heads = Heads { columns: heads * head_dim, count: heads, stride: head_dim, first: 0 };
    rope_heads(kernels, threads, kind, x, heads, n_rot, cos_sin);
}

/// The same for any part of a head, and for heads that are only part of a row.
///
/// # Panics
/// If lengths do not match, or `n_rot` is odd or larger than a head.
pub fn rope_heads(
    kernels: &Kernels,
    threads: &Threads,
    kind: RopeKind,
    x: &mut [f32],
    heads: Heads,
    n_rot: usize,
    cos_sin: &[f32],
) {
    let Heads { columns, count, stride, first } = heads;
    if x.is_empty() || n_rot == 0 || count == 0 {
        return;
    }
    let tokens = x.len() / columns;
    assert!(n_rot.is_multiple_of(2) && n_rot <= stride, "{n_rot} elements to turn in a head of {stride}");
    assert!(first + (count - 1) * stride + n_rot <= columns, "{heads:?} with {n_rot} elements to turn");
    assert!(x.len() == tokens * columns && cos_sin.len() == tokens * n_rot, "{tokens} tokens of {columns} columns");
    let turn = match kind {
        RopeKind::Normal => kernels.elementwise.rope_normal,
        RopeKind::Neox => kernels.elementwise.rope_neox,
    };
    for_rows(threads, x, columns, columns, &|range, x| {
        let angles = cos_sin[range.start * n_rot..].chunks_exact(n_rot);
        for (row, angles) in x.chunks_exact_mut(columns).zip(angles) {
            let (cos, sin) = angles.split_at(n_rot / 2);
            for head in row[first..].chunks_mut(stride).take(count) {
                // SAFETY: tables are handed out only on processors that support them; lengths were checked.
                unsafe { turn(&mut head[..n_rot], cos, sin) };
            }
        }
    });
}
