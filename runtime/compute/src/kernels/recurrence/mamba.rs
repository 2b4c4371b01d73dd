//! Selective state spaces: Mamba (Gu and Dao, arXiv:2312.00752) and Mamba-2 (Dao and Gu, arXiv:2405.21060), in recurrent form.
//!
//! `dt = ln(1 + e^dt)`, `h = h e^(dt A) + B x dt`, `y = Σ h C + D x`. In Mamba a channel has `states` state elements, each with
//! its own `A`; in Mamba-2 the `head_dim` channels of a head share an `A`, and heads of a group share `B` and `C`. `A` is
//! negative.

use super::{Columns, SequenceRun, Shape, Unit, for_units, rows_end};
use crate::kernels::Kernels;
use crate::kernels::threads::Threads;

/// Channels per unit.
pub(in crate::kernels) const CHANNELS: usize = 64;

/// A step of Mamba.
#[derive(Clone, Copy)]
pub struct Mamba1<'a> {
    /// `(rows, channels)`
    pub x: Columns<'a>,
    /// Time steps before softplus, `(rows, channels)`.
    pub dt: Columns<'a>,
    /// Added to `dt`: one value per channel.
    pub dt_bias: Option<&'a [f32]>,
    /// `(rows, states)`
    pub b: Columns<'a>,
    /// `(rows, states)`
    pub c: Columns<'a>,
    /// `(channels, states)`, negative.
    pub a: &'a [f32],
    /// One value per channel.
    pub d: Option<&'a [f32]>,
    /// Number of channels.
    pub channels: usize,
    /// State elements per channel.
    pub states: usize,
}

impl Mamba1<'_> {
    /// Elements in a sequence's state.
    pub fn state_len(&self) -> usize {
        self.channels * self.states
    }
}

/// A step of Mamba-2.
#[derive(Clone, Copy)]
pub struct Mamba2<'a> {
    /// `(rows, heads × head_dim)`
    pub x: Columns<'a>,
    /// Time steps before softplus, `(rows, heads)`.
    pub dt: Columns<'a>,
    /// Added to `dt`: one value per head.
    pub dt_bias: Option<&'a [f32]>,
    /// `(rows, groups × states)`
    pub b: Columns<'a>,
    /// `(rows, groups × states)`
    pub c: Columns<'a>,
    /// One value per head, negative.
    pub a: &'a [f32],
    /// One value per head.
    pub d: Option<&'a [f32]>,
    /// Number of heads.
    pub heads: usize,
    /// Channels per head.
    pub head_dim: usize,
    /// Head `h` uses `B` and `C` of group `h / (heads / groups)`.
    pub groups: usize,
    /// State elements per channel.
    pub states: usize,
}

impl Mamba2<'_> {
    /// Elements in a sequence's state.
    pub fn state_len(&self) -> usize {
        self.heads * self.head_dim * self.states
    }

    /// The columns of a head's group in `b` and `c`.
    pub(in crate::kernels) fn group(&self, head: usize) -> std::ops::Range<usize> {
        let group = head / (self.heads / self.groups);
        group * self.states..(group + 1) * self.states
    }
}

/// Writes to `out`, `(rows, channels)`; rows in no run are left unchanged.
///
/// # Panics
/// If shapes do not match, or two runs share rows.
pub fn mamba1(kernels: &Kernels, threads: &Threads, call: &Mamba1<'_>, runs: &mut [SequenceRun<'_>], out: &mut [f32]) {
    let (rows, channels, states) = (rows_end(runs), call.channels, call.states);
    call.x.check("x", rows, channels);
    call.dt.check("dt", rows, channels);
    call.b.check("B", rows, states);
    call.c.check("C", rows, states);
    assert_eq!(call.a.len(), channels * states, "A of {channels} channels with {states} states");
    let fits = |values: Option<&[f32]>| values.is_none_or(|values| values.len() == channels);
    assert!(fits(call.d) && fits(call.dt_bias), "D and the bias of dt have a value a channel");
    let shape = Shape { state: call.state_len(), columns: channels, parts: channels, grain: CHANNELS };
    // SAFETY: tables are handed out only on processors that support them; shapes were checked.
    for_units(threads, &shape, runs, out, &|unit| unsafe { (kernels.recurrence.mamba1)(call, unit) });
}

/// Writes to `out`, `(rows, heads × head_dim)`; rows in no run are left unchanged.
///
/// # Panics
/// If shapes do not match, or two runs share rows.
pub fn mamba2(kernels: &Kernels, threads: &Threads, call: &Mamba2<'_>, runs: &mut [SequenceRun<'_>], out: &mut [f32]) {
    let (rows, heads, columns) = (rows_end(runs), call.heads, call.heads * call.head_dim);
    assert!(call.groups > 0 && heads.is_multiple_of(call.groups), "{heads} heads in {} groups", call.groups);
    call.x.check("x", rows, columns);
    call.dt.check("dt", rows, heads);
    call.b.check("B", rows, call.groups * call.states);
    call.c.check("C", rows, call.groups * call.states);
    let fits = |values: Option<&[f32]>| values.is_none_or(|values| values.len() == heads);
    assert!(fits(Some(call.a)) && fits(call.d) && fits(call.dt_bias), "A, D and the bias of dt have a value a head");
    let shape = Shape { state: call.state_len(), columns, parts: heads, grain: 1 };
    // SAFETY: as in `mamba1`.
    for_units(threads, &shape, runs, out, &|unit| unsafe { (kernels.recurrence.mamba2)(call, unit) });
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(in crate::kernels) mod lanes {
    //! The vector forms: lanes are elements of a channel's state.

    use super::{CHANNELS, Mamba1, Mamba2, Unit};
    use crate::kernels::elementwise::functions::{Function, Softplus};
    use crate::kernels::elementwise::lanes::map_in_place;
    use crate::kernels::one::One;
    use crate::kernels::vector::{Vector, exp};

    /// # Safety
    /// See [`Vector`]; shapes as [`super::mamba1`] checks them, and no other thread holds the unit's parts.
    #[inline(always)]
    pub(in crate::kernels) unsafe fn mamba1<V: Vector>(call: &Mamba1<'_>, unit: &Unit<'_>) {
        let (part, states, width) = (unit.part.clone(), call.states, unit.part.len());
        // SAFETY: this unit's channels and rows; the rest is upheld by the caller.
        unsafe {
            let state = unit.state.part(part.start * states..part.end * states);
            let a = &call.a[part.start * states..part.end * states];
            for row in unit.rows.clone() {
                let mut steps = [0.0; CHANNELS];
                let steps = &mut steps[..width];
                steps.copy_from_slice(call.dt.row(row, part.clone()));
                if let Some(bias) = call.dt_bias {
                    steps.iter_mut().zip(&bias[part.clone()]).for_each(|(dt, bias)| *dt += bias);
                }
                map_in_place::<V, _>(&Softplus, steps);
                let x = call.x.row(row, part.clone());
                let (b, c) = (call.b.row(row, 0..states), call.c.row(row, 0..states));
                let out = unit.out.part(row * call.channels + part.start..row * call.channels + part.end);
                for channel in 0..width {
                    let own = channel * states..(channel + 1) * states;
                    let dt = steps[channel];
                    let y = channel_step::<V>(&mut state[own.clone()], &a[own], b, c, dt, x[channel] * dt);
                    out[channel] = call.d.map_or(y, |d| y + d[part.start + channel] * x[channel]);
                }
            }
        }
    }

    /// One row of one channel; returns its output.
    #[inline(always)]
    unsafe fn channel_step<V: Vector>(h: &mut [f32], a: &[f32], b: &[f32], c: &[f32], dt: f32, x_dt: f32) -> f32 {
        let whole = h.len() / V::LANES * V::LANES;
        // SAFETY: all slices are as long as `h`.
        unsafe {
            let mut sum = V::splat(0.0);
            for at in (0..whole).step_by(V::LANES) {
                sum = element_step::<V>(h.as_mut_ptr(), a.as_ptr(), b.as_ptr(), c.as_ptr(), at, dt, x_dt, sum);
            }
            let mut rest = One::splat(0.0);
            for at in whole..h.len() {
                rest = element_step::<One>(h.as_mut_ptr(), a.as_ptr(), b.as_ptr(), c.as_ptr(), at, dt, x_dt, rest);
            }
            sum.sum() + rest.sum()
        }
    }

    #[inline(always)]
    #[allow(clippy::too_many_arguments, reason = "registers")]
    unsafe fn element_step<V: Vector>(
        h: *mut f32,
        a: *const f32,
        b: *const f32,
        c: *const f32,
        at: usize,
        dt: f32,
        x_dt: f32,
        sum: V,
    ) -> V {
        // SAFETY: the caller guarantees as many elements there.
        unsafe {
            let decay = exp(V::load(a.add(at)).mul(V::splat(dt)));
            let new = V::load(h.add(at)).mul_add(decay, V::load(b.add(at)).mul(V::splat(x_dt)));
            new.store(h.add(at));
            new.mul_add(V::load(c.add(at)), sum)
        }
    }

    /// Channels that share the loads of `B` and `C`, with independent sums to hide latency.
    const TOGETHER: usize = 4;

    /// # Safety
    /// See [`mamba1`].
    #[inline(always)]
    pub(in crate::kernels) unsafe fn mamba2<V: Vector>(call: &Mamba2<'_>, unit: &Unit<'_>) {
        let &Mamba2 { head_dim, states, .. } = call;
        let (head, columns) = (unit.part.start, call.heads * head_dim);
        let size = head_dim * states;
        // SAFETY: this unit's head and rows; the rest is upheld by the caller.
        unsafe {
            let state = unit.state.part(head * size..(head + 1) * size);
            for row in unit.rows.clone() {
                let dt = call.dt.row(row, head..head + 1)[0] + call.dt_bias.map_or(0.0, |bias| bias[head]);
                let dt = Softplus.of(One::splat(dt)).sum();
                let decay = exp(One::splat(dt * call.a[head])).sum();
                let x = call.x.row(row, head * head_dim..(head + 1) * head_dim);
                let (b, c) = (call.b.row(row, call.group(head)), call.c.row(row, call.group(head)));
                let out = unit.out.part(row * columns + head * head_dim..row * columns + (head + 1) * head_dim);
                let mut first = 0;
                while first < head_dim {
                    let h = &mut state[first * states..];
                    if head_dim - first >= TOGETHER {
                        channels::<V, TOGETHER>(h, b, c, decay, dt, &x[first..], &mut out[first..]);
                        first += TOGETHER;
                    } else {
                        channels::<V, 1>(h, b, c, decay, dt, &x[first..], &mut out[first..]);
                        first += 1;
                    }
                }
                if let Some(d) = call.d {
                    out.iter_mut().zip(x).for_each(|(out, x)| *out += d[head] * x);
                }
            }
        }
    }

    /// One row of `N` channels of a head.
    #[inline(always)]
    unsafe fn channels<V: Vector, const N: usize>(
        h: &mut [f32],
        b: &[f32],
        c: &[f32],
        decay: f32,
        dt: f32,
        x: &[f32],
        out: &mut [f32],
    ) {
        let states = b.len();
        let x: [f32; N] = std::array::from_fn(|channel| x[channel] * dt);
        assert!(h.len() >= N * states && c.len() == states);
        let whole = states / V::LANES * V::LANES;
        // SAFETY: within the slices, by the above.
        unsafe {
            let (mut sums, mut rest) = ([V::splat(0.0); N], [One::splat(0.0); N]);
            for at in (0..whole).step_by(V::LANES) {
                shared_step::<V, N>(h, b, c, at, decay, &x, &mut sums);
            }
            for at in whole..states {
                shared_step::<One, N>(h, b, c, at, decay, &x, &mut rest);
            }
            for channel in 0..N {
                out[channel] = sums[channel].sum() + rest[channel].sum();
            }
        }
    }

    #[inline(always)]
    unsafe fn shared_step<V: Vector, const N: usize>(
        h: &mut [f32],
        b: &[f32],
        c: &[f32],
        at: usize,
        decay: f32,
        x: &[f32; N],
        sums: &mut [V; N],
    ) {
        // SAFETY: `channels` has a vector there.
        unsafe {
            let (decay, states) = (V::splat(decay), b.len());
            let (b, c) = (V::load(b.as_ptr().add(at)), V::load(c.as_ptr().add(at)));
            for channel in 0..N {
                let h = h.as_mut_ptr().add(channel * states + at);
                let new = V::load(h).mul_add(decay, b.mul(V::splat(x[channel])));
                new.store(h);
                sums[channel] = new.mul_add(c, sums[channel]);
            }
        }
    }
}
