//! Activations, alone and as feed-forward gates.

use super::GRAIN;
use crate::kernels::Kernels;
use crate::kernels::threads::Threads;

/// Minimum elements per thread: each costs an exponential.
const ACTIVATION_GRAIN: usize = GRAIN / 4;

/// A function applied to each element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x / (1 + e^-x)`
    Silu,
    /// The tanh approximation, with which most models with gated GELU were trained:
    /// `x / 2 * (1 + tanh(sqrt(2 / π) (x + 0.044715 x³)))`.
    Gelu,
    /// `x / 2 * (1 + erf(x / √2))`
    GeluErf,
    /// `x / (1 + e^(-1.702 x))`
    GeluQuick,
    /// `max(x, 0)`
    Relu,
    /// `max(x, 0)²`
    ReluSquared,
    /// `1 / (1 + e^-x)`
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// `ln(1 + e^x)`
    Softplus,
}

impl Activation {
    /// Every activation.
    pub const ALL: [Self; 9] = [
        Self::Silu,
        Self::Gelu,
        Self::GeluErf,
        Self::GeluQuick,
        Self::Relu,
        Self::ReluSquared,
        Self::Sigmoid,
        Self::Tanh,
        Self::Softplus,
    ];
}

/// `out = activation(x)`.
///
/// # Panics
/// If lengths differ.
pub fn activate(kernels: &Kernels, threads: &Threads, activation: Activation, x: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "input and output of an activation differ in length");
    threads.run_rows(out, 1, ACTIVATION_GRAIN, &|range, out| {
        // SAFETY: tables are handed out only on processors that support them; slices of one length.
        unsafe { (kernels.elementwise.activate)(activation, &x[range], out) }
    });
}

/// `out = activation(gate) * up`.
///
/// # Panics
/// If lengths differ.
pub fn gate(kernels: &Kernels, threads: &Threads, activation: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(gate.len() == up.len() && gate.len() == out.len(), "gate, up and out differ in length");
    threads.run_rows(out, 1, ACTIVATION_GRAIN, &|range, out| {
        // SAFETY: as in `activate`.
        unsafe { (kernels.elementwise.gate)(activation, &gate[range.clone()], &up[range], out) }
    });
}

/// The gate of gpt-oss: `g / (1 + e^(-alpha g)) * (u + 1)`, with `g = min(gate, limit)` and `u = min(max(up, -limit), limit)`.
///
/// # Panics
/// If lengths differ.
pub fn swiglu_oai(
    kernels: &Kernels,
    threads: &Threads,
    gate: &[f32],
    up: &[f32],
    alpha: f32,
    limit: f32,
    out: &mut [f32],
) {
    assert!(gate.len() == up.len() && gate.len() == out.len(), "gate, up and out differ in length");
    threads.run_rows(out, 1, ACTIVATION_GRAIN, &|range, out| {
        // SAFETY: as in `activate`.
        unsafe { (kernels.elementwise.swiglu_oai)(&gate[range.clone()], &up[range], alpha, limit, out) }
    });
}

/// `x = cap * tanh(x / cap)`.
pub fn softcap(kernels: &Kernels, threads: &Threads, x: &mut [f32], cap: f32) {
    threads.run_rows(x, 1, ACTIVATION_GRAIN, &|_, x| {
        // SAFETY: as in `activate`.
        unsafe { (kernels.elementwise.softcap)(x, cap) }
    });
}

/// [`gate`] with [`Activation::Silu`].
///
/// # Panics
/// If lengths differ.
pub fn silu_mul(kernels: &Kernels, threads: &Threads, gate: &[f32], up: &[f32], out: &mut [f32]) {
    self::gate(kernels, threads, Activation::Silu, gate, up, out);
}

/// [`gate`] with [`Activation::Gelu`].
///
/// # Panics
/// If lengths differ.
pub fn gelu_mul(kernels: &Kernels, threads: &Threads, gate: &[f32], up: &[f32], out: &mut [f32]) {
    self::gate(kernels, threads, Activation::Gelu, gate, up, out);
}
