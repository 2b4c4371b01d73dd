//! Gated delta rule (Yang, Kautz and Hatamizadeh, arXiv:2412.06464) in recurrent form: the linear attention of Qwen3-Next.
//!
//! A head's state `S`, `(key_dim, value_dim)`, is an associative memory of values by key. For each row: `S = S e^g`; `delta = (v
//! - Sᵀk) beta`; `S = S + k deltaᵀ`; `out = Sᵀq`. The caller normalises keys and queries and scales queries.

use super::{Columns, SequenceRun, Shape, Unit, for_units, rows_end};
use crate::kernels::Kernels;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::kernels::one::One;
use crate::kernels::threads::Threads;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::kernels::vector::{Vector, exp};

/// Which key head a value head uses if there are more value heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyHeads {
    /// Adjacent value heads share one: `head / (value_heads / key_heads)`. Used by Qwen3-Next files.
    Grouped,
    /// Keys repeat: `head % key_heads`. Used by Qwen3.5 files, whose value heads the converter reorders.
    Tiled,
}

/// A step of the gated delta rule.
#[derive(Clone, Copy)]
pub struct GatedDelta<'a> {
    /// `(rows, key_heads × key_dim)`
    pub q: Columns<'a>,
    /// `(rows, key_heads × key_dim)`
    pub k: Columns<'a>,
    /// `(rows, value_heads × value_dim)`
    pub v: Columns<'a>,
    /// Log decays, `(rows, value_heads)`.
    pub g: Columns<'a>,
    /// `(rows, value_heads)`, 0 to 1.
    pub beta: Columns<'a>,
    /// Number of key heads.
    pub key_heads: usize,
    /// Number of value heads, a multiple of `key_heads`.
    pub value_heads: usize,
    /// Elements per key.
    pub key_dim: usize,
    /// Elements per value.
    pub value_dim: usize,
    /// How value heads map to key heads.
    pub mapping: KeyHeads,
}

impl GatedDelta<'_> {
    /// Elements in a sequence's state.
    pub fn state_len(&self) -> usize {
        self.value_heads * self.key_dim * self.value_dim
    }

    /// The columns of a value head's key in `q` and `k`.
    pub(in crate::kernels) fn key(&self, head: usize) -> std::ops::Range<usize> {
        let key = match self.mapping {
            KeyHeads::Grouped => head / (self.value_heads / self.key_heads),
            KeyHeads::Tiled => head % self.key_heads,
        };
        key * self.key_dim..(key + 1) * self.key_dim
    }
}

/// Writes to `out`, `(rows, value_heads × value_dim)`; rows in no run are left unchanged.
///
/// # Panics
/// If shapes do not match, or two runs share rows.
pub fn gated_delta(
    kernels: &Kernels,
    threads: &Threads,
    call: &GatedDelta<'_>,
    runs: &mut [SequenceRun<'_>],
    out: &mut [f32],
) {
    let (rows, keys, heads) = (rows_end(runs), call.key_heads, call.value_heads);
    assert!(keys > 0 && heads.is_multiple_of(keys), "{heads} value heads with {keys} keys");
    let columns = heads * call.value_dim;
    call.q.check("q", rows, keys * call.key_dim);
    call.k.check("k", rows, keys * call.key_dim);
    call.v.check("v", rows, columns);
    call.g.check("g", rows, heads);
    call.beta.check("beta", rows, heads);
    let shape = Shape { state: call.state_len(), columns, parts: heads, grain: 1 };
    // SAFETY: tables are handed out only on processors that support them; shapes were checked.
    for_units(threads, &shape, runs, out, &|unit| unsafe { (kernels.recurrence.gated_delta)(call, unit) });
}

/// Lanes are elements of a value, so their number does not affect the result. A few state columns at a time stay in L1 for all
/// rows.
///
/// # Safety
/// See [`Vector`]; shapes as [`gated_delta`] checks them, and no other thread holds the unit's parts.
#[inline(always)]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(in crate::kernels) unsafe fn lanes<V: Vector>(call: &GatedDelta<'_>, unit: &Unit<'_>) {
    /// Vectors with independent sums, to hide latency.
    const TOGETHER: usize = 4;
    let mut column = 0;
    // SAFETY: whole vectors within a value; the rest is upheld by the caller.
    unsafe {
        while call.value_dim - column >= TOGETHER * V::LANES {
            rows::<V, TOGETHER>(call, unit, column);
            column += TOGETHER * V::LANES;
        }
        while call.value_dim - column >= V::LANES {
            rows::<V, 1>(call, unit, column);
            column += V::LANES;
        }
        while column < call.value_dim {
            rows::<One, 1>(call, unit, column);
            column += 1;
        }
    }
}

/// All rows of a run, for `N` vectors of the values' elements.
#[inline(always)]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
unsafe fn rows<V: Vector, const N: usize>(call: &GatedDelta<'_>, unit: &Unit<'_>, column: usize) {
    let (head, dim, columns) = (unit.part.start, call.value_dim, call.value_heads * call.value_dim);
    let (own, size) = (head * dim + column..head * dim + column + N * V::LANES, call.key_dim * dim);
    // SAFETY: this unit's head and rows, and columns that exist.
    unsafe {
        let state = &mut unit.state.part(head * size..(head + 1) * size)[column..];
        for row in unit.rows.clone() {
            let (q, k) = (call.q.row(row, call.key(head)), call.k.row(row, call.key(head)));
            let decay = exp(One::splat(call.g.row(row, head..head + 1)[0])).sum();
            let beta = call.beta.row(row, head..head + 1)[0];
            let v = call.v.row(row, own.clone());
            let out = unit.out.part(row * columns + own.start..row * columns + own.end);
            step::<V, N>(state.as_mut_ptr(), dim, q, k, v, decay, beta, out);
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments, clippy::needless_range_loop, reason = "the operands of the operation; registers")]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
unsafe fn step<V: Vector, const N: usize>(
    state: *mut f32,
    stride: usize,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    decay: f32,
    beta: f32,
    out: &mut [f32],
) {
    // SAFETY: state has `key_dim` rows of `N` vectors; values and output have `N` vectors each.
    unsafe {
        let decay = V::splat(decay);
        let mut found = [V::splat(0.0); N];
        for (row, k) in k.iter().enumerate() {
            for n in 0..N {
                let element = V::load(state.add(row * stride + n * V::LANES));
                found[n] = element.mul_add(V::splat(*k), found[n]);
            }
        }
        let mut delta = [V::splat(0.0); N];
        for n in 0..N {
            let value = V::load(v.as_ptr().add(n * V::LANES));
            delta[n] = value.sub(found[n].mul(decay)).mul(V::splat(beta));
        }
        let mut sums = [V::splat(0.0); N];
        for (row, (q, k)) in q.iter().zip(k).enumerate() {
            for n in 0..N {
                let place = state.add(row * stride + n * V::LANES);
                let new = V::load(place).mul_add(decay, delta[n].mul(V::splat(*k)));
                new.store(place);
                sums[n] = new.mul_add(V::splat(*q), sums[n]);
            }
        }
        for (n, sum) in sums.into_iter().enumerate() {
            sum.store(out.as_mut_ptr().add(n * V::LANES));
        }
    }
}
