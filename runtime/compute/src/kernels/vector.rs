//! A vector of f32 with the operations that attention and elementwise need, so that each algorithm is written once.
//!
//! Every instruction set implements [`Vector`] and calls the generic code from a function with its target features enabled; all
//! of it is `inline(always)`, so it is compiled there and nowhere else. Nothing here chooses an instruction set.
//!
//! The one idea: `exp` by splitting off a power of two. With `n` the integer nearest to `x / ln 2`, `e^x = 2^n e^r` and `|r| <=
//! ln 2 / 2`, where a short polynomial suffices; `2^n` is assembled from exponent bits.

use half::f16;

/// Several f32 side by side.
///
/// # Safety
/// Methods may only be called on a processor with the implementation's instruction set, from code compiled with it; pointers must
/// be valid for the lanes read or written (alignment is not required).
#[allow(clippy::missing_safety_doc, reason = "said once, for all of them")]
pub(super) unsafe trait Vector: Copy {
    /// Number of lanes; a power of two, at most 16.
    const LANES: usize;
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn load_f16(from: *const f16) -> Self;
    unsafe fn load_i8(from: *const i8) -> Self;
    /// The low and high nibbles, 0 to 15, of one byte per lane.
    unsafe fn load_nibbles(from: *const u8) -> [Self; 2];
    unsafe fn store(self, to: *mut f32);
    unsafe fn store_f16(self, to: *mut f16);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// `self * factor + term`, rounded once.
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self;
    /// The larger; `other` if either is NaN.
    unsafe fn max(self, other: Self) -> Self;
    /// The smaller; `other` if either is NaN.
    unsafe fn min(self, other: Self) -> Self;
    /// To the nearest integer, ties to even.
    unsafe fn round(self) -> Self;
    /// 2 to the power of `self`, integers in -127..=128: 0 for -127, infinity for 128.
    unsafe fn power_of_two(self) -> Self;
    /// Sum of all lanes, in a fixed order.
    unsafe fn sum(self) -> f32;
    /// The largest lane.
    unsafe fn largest(self) -> f32;
}

/// Minimax polynomials fitted for this crate: relative errors 3.1e-9 and 2.0e-9 before rounding.
const EXP: [f32; 5] = [0.001_381_458_1, 0.008_368_725, 0.041_668_39, 0.166_665_21, 0.499_999_94];
const EXP2: [f32; 6] =
    [0.000_153_533_62, 0.001_339_887_5, 0.009_618_437, 0.055_503_324, 0.240_226_48, std::f32::consts::LN_2];
/// ln 2 in two parts, the first short enough that its product with an exponent is exact.
const LN_2: [f32; 2] = [0.693_359_4, -0.000_212_194_44];

/// e^x to about one ULP; 0 below 2^-126.5, infinity from 2^127.5 on.
#[inline(always)]
pub(super) unsafe fn exp<V: Vector>(x: V) -> V {
    // SAFETY: the caller upholds `Vector`'s contract; no memory is touched.
    unsafe {
        let (rest, n) = exp_parts(x);
        rest.add(V::splat(1.0)).mul(n.power_of_two())
    }
}

/// e^x - 1 to about two ULP, also near 0; infinity from 2^127.5 on.
#[inline(always)]
pub(super) unsafe fn exp_m1<V: Vector>(x: V) -> V {
    // SAFETY: as in `exp`.
    unsafe {
        let (rest, n) = exp_parts(x);
        let power = n.power_of_two();
        rest.mul_add(power, power.sub(V::splat(1.0)))
    }
}

/// `(m, n)` such that e^x = (1 + m) 2^n, with integer `n` and `m` near 0.
#[inline(always)]
unsafe fn exp_parts<V: Vector>(x: V) -> (V, V) {
    // SAFETY: as in `exp`.
    unsafe {
        // Bounds whose exponents round to -127 and 128.
        let x = V::splat(-88.2).max(V::splat(89.0).min(x));
        let n = x.mul(V::splat(std::f32::consts::LOG2_E)).round();
        let r = n.mul_add(V::splat(-LN_2[1]), n.mul_add(V::splat(-LN_2[0]), x));
        let mut p = V::splat(EXP[0]);
        for c in &EXP[1..] {
            p = p.mul_add(r, V::splat(*c));
        }
        // r + r² p
        (r.mul(r).mul_add(p, r), n)
    }
}

/// 2^x to about one ULP; 0 below 2^-126.5, infinity from 2^127.5 on.
#[inline(always)]
pub(super) unsafe fn exp2<V: Vector>(x: V) -> V {
    // SAFETY: as in `exp`.
    unsafe {
        let x = V::splat(-127.0).max(V::splat(128.0).min(x));
        let n = x.round();
        let f = x.sub(n);
        let mut p = V::splat(EXP2[0]);
        for c in &EXP2[1..] {
            p = p.mul_add(f, V::splat(*c));
        }
        p.mul_add(f, V::splat(1.0)).mul(n.power_of_two())
    }
}

/// tanh x as `1 - 2 / (e^2x + 1)`: absolute error near 1e-7, enough for softcapping scores.
#[inline(always)]
pub(super) unsafe fn tanh<V: Vector>(x: V) -> V {
    // SAFETY: as in `exp`.
    unsafe {
        let one = V::splat(1.0);
        one.sub(V::splat(2.0).div(exp(x.add(x)).add(one)))
    }
}
