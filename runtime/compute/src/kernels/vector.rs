//! A vector of f32, as much of one as attention and the elementwise operations need, so that each algorithm is written once.
//!
//! Every instruction set implements [`Vector`] and calls the generic code from a function that has its target features enabled;
//! all of it is `inline(always)`, so that it is compiled there and nowhere else. Nothing here chooses an instruction set.
//!
//! The one idea: `exp` by splitting off a power of two. With `n` the nearest integer to `x / ln 2`, `e^x = 2^n e^r` and
//! `|r| <= ln 2 / 2`, where a short polynomial is enough; `2^n` is put together from the exponent's bits.

use half::f16;

/// Some f32 side by side.
///
/// # Safety
/// Every method may be called only on a processor with the implementation's instruction set, and from code that is compiled
/// with it; pointers must be good for the lanes that are read or written (no alignment is asked for).
#[allow(clippy::missing_safety_doc, reason = "said once, for all of them")]
pub(super) unsafe trait Vector: Copy {
    /// How many; a power of two, at most 16.
    const LANES: usize;
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn load_f16(from: *const f16) -> Self;
    unsafe fn load_i8(from: *const i8) -> Self;
    /// The low nibbles of so many bytes as there are lanes, and the high ones: 0 to 15.
    unsafe fn load_nibbles(from: *const u8) -> [Self; 2];
    unsafe fn store(self, to: *mut f32);
    unsafe fn store_f16(self, to: *mut f16);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// `self * factor + term`, rounded once.
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self;
    /// The larger; `other` where either is no number.
    unsafe fn max(self, other: Self) -> Self;
    /// The smaller; `other` where either is no number.
    unsafe fn min(self, other: Self) -> Self;
    /// To the nearest integer, ties to even.
    unsafe fn round(self) -> Self;
    /// 2 to the power of `self`, which holds integers in -127..=128: 0 for -127 and infinity for 128.
    unsafe fn power_of_two(self) -> Self;
    /// Sum of all lanes, in an order of its own that is always the same.
    unsafe fn sum(self) -> f32;
    /// The largest lane.
    unsafe fn largest(self) -> f32;
}

/// Minimax polynomials of our own fit: relative errors 3.1e-9 and 2.0e-9 before rounding.
const EXP: [f32; 5] = [0.001_381_458_1, 0.008_368_725, 0.041_668_39, 0.166_665_21, 0.499_999_94];
const EXP2: [f32; 6] =
    [0.000_153_533_62, 0.001_339_887_5, 0.009_618_437, 0.055_503_324, 0.240_226_48, std::f32::consts::LN_2];
/// ln 2 in two parts, the first with so few bits that its product with an exponent is exact.
const LN_2: [f32; 2] = [0.693_359_4, -0.000_212_194_44];

/// e^x to about one unit in the last place; 0 below 2^-126.5, infinity from 2^127.5 on.
#[inline(always)]
pub(super) unsafe fn exp<V: Vector>(x: V) -> V {
    // SAFETY: the caller upholds `Vector`'s contract; no memory is touched.
    unsafe {
        let (rest, n) = exp_parts(x);
        rest.add(V::splat(1.0)).mul(n.power_of_two())
    }
}

/// e^x - 1 to about two units in the last place, also near 0; infinity from 2^127.5 on.
#[inline(always)]
pub(super) unsafe fn exp_m1<V: Vector>(x: V) -> V {
    // SAFETY: as in `exp`.
    unsafe {
        let (rest, n) = exp_parts(x);
        let power = n.power_of_two();
        rest.mul_add(power, power.sub(V::splat(1.0)))
    }
}

/// `(m, n)` such that e^x = (1 + m) 2^n, with `n` whole and `m` near 0.
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

/// 2^x to about one unit in the last place; 0 below 2^-126.5, infinity from 2^127.5 on.
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

/// tanh x as `1 - 2 / (e^2x + 1)`: absolute error near 1e-7, which is what a score's cap needs.
#[inline(always)]
pub(super) unsafe fn tanh<V: Vector>(x: V) -> V {
    // SAFETY: as in `exp`.
    unsafe {
        let one = V::splat(1.0);
        one.sub(V::splat(2.0).div(exp(x.add(x)).add(one)))
    }
}
