//! Recurrences in plain code, one state element at a time.

use super::elementwise::activated;
use crate::kernels::elementwise::Activation;
use crate::kernels::recurrence::{
    Convolution, GatedDelta, Mamba1, Mamba2, RecurrenceKernels, SiluRow, Unit, convolve_plain,
};

pub(super) const KERNELS: RecurrenceKernels = RecurrenceKernels { convolve, mamba1, mamba2, gated_delta };

/// # Safety
/// No other thread holds the unit's parts, here and below.
unsafe fn convolve(call: &Convolution<'_>, unit: &Unit<'_>) {
    // SAFETY: upheld by the caller.
    unsafe { convolve_plain::<OneByOne>(call, unit) }
}

struct OneByOne;

impl SiluRow for OneByOne {
    unsafe fn silu(x: &mut [f32]) {
        x.iter_mut().for_each(|x| *x = activated(Activation::Silu, *x));
    }
}

fn softplus(x: f32) -> f32 {
    activated(Activation::Softplus, x)
}

/// # Safety
/// See [`convolve`].
unsafe fn mamba1(call: &Mamba1<'_>, unit: &Unit<'_>) {
    let states = call.states;
    for row in unit.rows.clone() {
        let (b, c) = (call.b.row(row, 0..states), call.c.row(row, 0..states));
        for channel in unit.part.clone() {
            let x = call.x.row(row, channel..channel + 1)[0];
            let dt =
                softplus(call.dt.row(row, channel..channel + 1)[0] + call.dt_bias.map_or(0.0, |bias| bias[channel]));
            let mut y = 0.0;
            // SAFETY: this unit's channel, in this unit's rows.
            let (h, out) = unsafe {
                let at = row * call.channels + channel;
                (unit.state.part(channel * states..(channel + 1) * states), unit.out.part(at..at + 1))
            };
            for (n, h) in h.iter_mut().enumerate() {
                *h = *h * (dt * call.a[channel * states + n]).exp() + b[n] * (x * dt);
                y += *h * c[n];
            }
            out[0] = call.d.map_or(y, |d| y + d[channel] * x);
        }
    }
}

/// # Safety
/// See [`convolve`].
unsafe fn mamba2(call: &Mamba2<'_>, unit: &Unit<'_>) {
    let (head, dim, states) = (unit.part.start, call.head_dim, call.states);
    // SAFETY: this unit's head.
    let state = unsafe { unit.state.part(head * dim * states..(head + 1) * dim * states) };
    for row in unit.rows.clone() {
        let dt = softplus(call.dt.row(row, head..head + 1)[0] + call.dt_bias.map_or(0.0, |bias| bias[head]));
        let decay = (dt * call.a[head]).exp();
        let (b, c) = (call.b.row(row, call.group(head)), call.c.row(row, call.group(head)));
        let x = call.x.row(row, head * dim..(head + 1) * dim);
        let first = (row * call.heads + head) * dim;
        // SAFETY: this unit's columns in this unit's rows.
        let out = unsafe { unit.out.part(first..first + dim) };
        for (channel, h) in state.chunks_exact_mut(states).enumerate() {
            let mut y = 0.0;
            for (n, h) in h.iter_mut().enumerate() {
                *h = *h * decay + b[n] * (x[channel] * dt);
                y += *h * c[n];
            }
            out[channel] = call.d.map_or(y, |d| y + d[head] * x[channel]);
        }
    }
}

/// # Safety
/// See [`convolve`].
unsafe fn gated_delta(call: &GatedDelta<'_>, unit: &Unit<'_>) {
    let (head, dim, size) = (unit.part.start, call.value_dim, call.key_dim * call.value_dim);
    // SAFETY: this unit's head.
    let state = unsafe { unit.state.part(head * size..(head + 1) * size) };
    let mut delta = vec![0.0; dim];
    for row in unit.rows.clone() {
        let (q, k) = (call.q.row(row, call.key(head)), call.k.row(row, call.key(head)));
        let (decay, beta) = (call.g.row(row, head..head + 1)[0].exp(), call.beta.row(row, head..head + 1)[0]);
        delta.fill(0.0);
        for (state, k) in state.chunks_exact_mut(dim).zip(k) {
            for (state, found) in state.iter_mut().zip(&mut delta) {
                *state *= decay;
                *found += *state * k;
            }
        }
        let v = call.v.row(row, head * dim..(head + 1) * dim);
        delta.iter_mut().zip(v).for_each(|(delta, v)| *delta = (v - *delta) * beta);
        let first = (row * call.value_heads + head) * dim;
        // SAFETY: this unit's columns in this unit's rows.
        let out = unsafe { unit.out.part(first..first + dim) };
        out.fill(0.0);
        for ((state, q), k) in state.chunks_exact_mut(dim).zip(q).zip(k) {
            for ((state, delta), out) in state.iter_mut().zip(&delta).zip(&mut *out) {
                *state += k * delta;
                *out += *state * q;
            }
        }
    }
}
