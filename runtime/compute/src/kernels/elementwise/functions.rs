//! Vectorised scalar functions: activations, and their building blocks.
//!
//! Each is branch-free and accurate to a few ULP wherever its value matters, also where the textbook form cancels: tanh near 0,
//! softplus and the tails of GELU far below 0.
//!
//! The one idea: everything reduces to `exp`, or `exp(x) - 1` ([`exp_m1`]), and a short polynomial.

use crate::kernels::vector::{Vector, exp, exp_m1};

/// A function of one value.
pub(in crate::kernels) trait Function {
    /// # Safety
    /// See [`Vector`].
    unsafe fn of<V: Vector>(&self, x: V) -> V;
}

/// A function of a gate and the value it gates.
pub(in crate::kernels) trait Gating {
    /// # Safety
    /// See [`Vector`].
    unsafe fn of<V: Vector>(&self, gate: V, up: V) -> V;
}

/// `sqrt(2 / π)` and `0.044715 sqrt(2 / π)`, doubled: `gelu(x) = x / (1 + e^-(2u))`.
const GELU: [f32; 2] = [1.595_769, 0.071_354_814];

/// `ln(1 + u) = 2 s P(s²)` with `s = u / (2 + u)`, for `u` in 0..=1; minimax, relative error 1e-10.
const LOG: [f32; 6] = [0.122_065_34, 0.106_966_25, 0.143_103_61, 0.199_993_46, 0.333_333_4, 1.0];

/// `erfc(z) = e^(-z²) t P(t)` with `t = 1 / (1 + z / 2)`, for `z` in 0..=10; minimax, relative error 4.3e-8.
const ERFC: [f32; 9] = [
    -0.059_068_964,
    0.284_574_97,
    -0.487_199_88,
    0.278_067_1,
    -0.026_625_62,
    0.202_686_85,
    0.243_103_77,
    0.282_375_3,
    0.282_086_42,
];

/// Defines functions without parameters; their bodies are register operations only.
macro_rules! functions {
    ($($(#[$comment:meta])* $name:ident($x:ident) $body:block)+) => {
        $($(#[$comment])*
        pub(in crate::kernels) struct $name;
        impl Function for $name {
            #[inline(always)]
            unsafe fn of<V: Vector>(&self, $x: V) -> V {
                // SAFETY: register operations.
                unsafe { $body }
            }
        })+
    };
}

functions! {
    /// `x / (1 + e^-x)`
    Silu(x) { x.div(exp(V::splat(-0.0).sub(x)).add(V::splat(1.0))) }
    /// `x / (1 + e^-2u)`, `u` a cubic: the tanh approximation.
    Gelu(x) {
        let slope = x.mul(x).mul_add(V::splat(-GELU[1]), V::splat(-GELU[0]));
        x.div(exp(slope.mul(x)).add(V::splat(1.0)))
    }
    /// `max(x, 0) - |x| erfc(|x| / √2) / 2`
    GeluErf(x) {
        let (zero, one) = (V::splat(0.0), V::splat(1.0));
        let size = zero.sub(x).max(x);
        let t = one.div(size.mul_add(V::splat(0.5 * std::f32::consts::FRAC_1_SQRT_2), one));
        let mut p = V::splat(ERFC[0]);
        for c in &ERFC[1..] {
            p = p.mul_add(t, V::splat(*c));
        }
        // The rounded square, and its rounding error, which an exponent amplifies.
        let half = x.mul(V::splat(-0.5));
        let square = half.mul(x);
        let rest = half.mul_add(x, zero.sub(square));
        let power = exp(square);
        let tail = rest.mul_add(power, power).mul(t).mul(p).mul(V::splat(0.5));
        zero.max(x).sub(size.mul(tail))
    }
    /// `x / (1 + e^(-1.702 x))`
    GeluQuick(x) { x.div(exp(x.mul(V::splat(-1.702))).add(V::splat(1.0))) }
    /// `max(x, 0)`
    Relu(x) { V::splat(0.0).max(x) }
    /// `max(x, 0)²`
    ReluSquared(x) {
        let x = V::splat(0.0).max(x);
        x.mul(x)
    }
    /// `1 / (1 + e^-x)`
    Sigmoid(x) { V::splat(1.0).div(exp(V::splat(-0.0).sub(x)).add(V::splat(1.0))) }
    /// `m / (m + 2)` with `m = e^2x - 1`
    Tanh(x) {
        // Past 10 the result is ±1.
        let x = V::splat(-10.0).max(V::splat(10.0).min(x));
        let m = exp_m1(x.add(x));
        m.div(m.add(V::splat(2.0)))
    }
    /// `max(x, 0) + ln(1 + e^-|x|)`
    Softplus(x) {
        let zero = V::splat(0.0);
        let minus_size = zero.sub(x).min(x);
        let u = exp(minus_size);
        let s = u.div(u.add(V::splat(2.0)));
        let square = s.mul(s);
        let mut p = V::splat(LOG[0]);
        for c in &LOG[1..] {
            p = p.mul_add(square, V::splat(*c));
        }
        s.add(s).mul_add(p, zero.max(x))
    }
}

/// `cap * tanh(x / cap)`
pub(in crate::kernels) struct SoftCap(pub(in crate::kernels) f32);

impl Function for SoftCap {
    #[inline(always)]
    unsafe fn of<V: Vector>(&self, x: V) -> V {
        // SAFETY: register operations.
        unsafe { Tanh.of(x.div(V::splat(self.0))).mul(V::splat(self.0)) }
    }
}

/// `e^(x - shift)`
pub(in crate::kernels) struct ExpMinus(pub(in crate::kernels) f32);

impl Function for ExpMinus {
    #[inline(always)]
    unsafe fn of<V: Vector>(&self, x: V) -> V {
        // SAFETY: register operations.
        unsafe { exp(x.sub(V::splat(self.0))) }
    }
}

/// `function(gate) * up`
pub(in crate::kernels) struct Times<F>(pub(in crate::kernels) F);

impl<F: Function> Gating for Times<F> {
    #[inline(always)]
    unsafe fn of<V: Vector>(&self, gate: V, up: V) -> V {
        // SAFETY: register operations.
        unsafe { self.0.of(gate).mul(up) }
    }
}

/// `g / (1 + e^(-alpha g)) * (u + 1)`, with `g` the clamped gate and `u` the clamped `up`.
pub(in crate::kernels) struct SwigluOai {
    pub(in crate::kernels) alpha: f32,
    pub(in crate::kernels) limit: f32,
}

impl Gating for SwigluOai {
    #[inline(always)]
    unsafe fn of<V: Vector>(&self, gate: V, up: V) -> V {
        // SAFETY: register operations.
        unsafe {
            let (one, limit) = (V::splat(1.0), V::splat(self.limit));
            let gate = limit.min(gate);
            let up = V::splat(-self.limit).max(limit.min(up));
            gate.div(exp(gate.mul(V::splat(-self.alpha))).add(one)).mul(up.add(one))
        }
    }
}
