//! int8 products, three ways: the only difference between the three tables.
//!
//! All are exact: a half group sums sixteen products of levels, at most 128 × 127 each. In a strip, four vectors hold sixteen
//! columns of four rows, in the order that the instruction needs:
//!
//! ```text
//! Widening, Dotprod   4 rows × columns 0-3, 4 rows × columns 4-7, …            four activations are broadcast to the rows
//! I8mm                rows 0, 1 × columns 0-7, the same × 8-15, rows 2, 3 × …    two tokens × columns 0-7, the same × 8-15
//! ```
//!
//! Optional instructions are written in assembly, with an `.arch_extension` each. So they can be inlined into functions compiled
//! for any processor, and run only if the table was selected.

use std::arch::aarch64::*;
use std::arch::asm;

use crate::quant::Form;

/// Sixteen columns of four rows of a strip.
pub(super) type Quads = [int8x16_t; 4];

/// A way to multiply.
///
/// # Safety
/// Methods may only be called on processors that have the instructions.
pub(super) unsafe trait Dot {
    /// Sixteen columns of four rows, row by row, in the order that `tile` reads.
    unsafe fn lay_out(rows: [int8x16_t; 4]) -> Quads;

    /// Eight rows × `T` tokens (at most 4), sixteen columns: `[token][rows 0-3, rows 4-7]`.
    unsafe fn tile<F: Form, const T: usize>(rows: &[Quads; 2], x: &[int8x16_t; T]) -> [[int32x4_t; 2]; T];

    /// Sixteen columns of four rows, in their original order, with one token.
    unsafe fn rows(rows: [int8x16_t; 4], x: int8x16_t) -> int32x4_t;
}

/// `smull` and `smlal`, on every processor: products in i16, sums in i32.
pub(super) struct Widening;
/// `sdot`: four products per lane, added in i32.
pub(super) struct Dotprod;
/// `smmla`: two rows × two tokens × eight columns; single tokens as with [`Dotprod`].
pub(super) struct I8mm;

// SAFETY: NEON is in every aarch64 target.
unsafe impl Dot for Widening {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn lay_out(rows: [int8x16_t; 4]) -> Quads {
        transpose(rows)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    #[allow(clippy::needless_range_loop, reason = "registers, not memory")]
    unsafe fn tile<F: Form, const T: usize>(rows: &[Quads; 2], x: &[int8x16_t; T]) -> [[int32x4_t; 2]; T] {
        let mut sums = [[vdupq_n_s32(0); 2]; T];
        for (vector, quads) in rows.iter().enumerate() {
            // Two rows each.
            let (mut low, mut high) = ([vdupq_n_s32(0); T], [vdupq_n_s32(0); T]);
            // An i16 holds two products of any levels, and four if levels are small.
            let step = if F::LARGE { 2 } else { 4 };
            for first in (0..4).step_by(step) {
                for t in 0..T {
                    let four = broadcast_four(x[t], first);
                    let mut front = vmull_s8(vget_low_s8(quads[first]), vget_low_s8(four));
                    let mut back = vmull_high_s8(quads[first], four);
                    for quad in first + 1..first + step {
                        let four = broadcast_four(x[t], quad);
                        front = vmlal_s8(front, vget_low_s8(quads[quad]), vget_low_s8(four));
                        back = vmlal_high_s8(back, quads[quad], four);
                    }
                    low[t] = vpadalq_s16(low[t], front);
                    high[t] = vpadalq_s16(high[t], back);
                }
            }
            for t in 0..T {
                sums[t][vector] = vpaddq_s32(low[t], high[t]);
            }
        }
        sums
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn rows(rows: [int8x16_t; 4], x: int8x16_t) -> int32x4_t {
        let products = rows.map(|row| vpaddlq_s16(vmlal_high_s8(vmull_s8(vget_low_s8(row), vget_low_s8(x)), row, x)));
        add_lanes(products)
    }
}

// SAFETY: per the trait.
unsafe impl Dot for Dotprod {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn lay_out(rows: [int8x16_t; 4]) -> Quads {
        transpose(rows)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn tile<F: Form, const T: usize>(rows: &[Quads; 2], x: &[int8x16_t; T]) -> [[int32x4_t; 2]; T] {
        let mut sums = [[vdupq_n_s32(0); 2]; T];
        macro_rules! add_quad {
            ($quad:literal) => {
                for (vector, quads) in rows.iter().enumerate() {
                    for t in 0..T {
                        // SAFETY: per the trait.
                        unsafe { sums[t][vector] = sdot_lane::<$quad>(sums[t][vector], quads[$quad], x[t]) };
                    }
                }
            };
        }
        add_quad!(0);
        add_quad!(1);
        add_quad!(2);
        add_quad!(3);
        sums
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn rows(rows: [int8x16_t; 4], x: int8x16_t) -> int32x4_t {
        // SAFETY: per the trait.
        add_lanes(rows.map(|row| unsafe { sdot(row, x) }))
    }
}

// SAFETY: per the trait.
unsafe impl Dot for I8mm {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn lay_out(rows: [int8x16_t; 4]) -> Quads {
        let [a, b, c, d] = rows;
        [low_halves(a, b), high_halves(a, b), low_halves(c, d), high_halves(c, d)]
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn tile<F: Form, const T: usize>(rows: &[Quads; 2], x: &[int8x16_t; T]) -> [[int32x4_t; 2]; T] {
        let mut sums = [[vdupq_n_s32(0); 2]; T];
        for first in (0..T).step_by(2) {
            // With an odd number of tokens, the last one is computed twice.
            let second = (first + 1).min(T - 1);
            let (front, back) = (low_halves(x[first], x[second]), high_halves(x[first], x[second]));
            for (vector, quads) in rows.iter().enumerate() {
                // [row 0 token 0, row 0 token 1, row 1 token 0, row 1 token 1] for rows 0 and 1, and for 2 and 3.
                let mut pairs = [vdupq_n_s32(0); 2];
                for (pair, sums) in pairs.iter_mut().enumerate() {
                    // SAFETY: per the trait.
                    unsafe { *sums = smmla(smmla(*sums, quads[2 * pair], front), quads[2 * pair + 1], back) };
                }
                sums[first][vector] = vuzp1q_s32(pairs[0], pairs[1]);
                sums[second][vector] = vuzp2q_s32(pairs[0], pairs[1]);
            }
        }
        sums
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn rows(rows: [int8x16_t; 4], x: int8x16_t) -> int32x4_t {
        // SAFETY: upheld by the caller.
        unsafe { Dotprod::rows(rows, x) }
    }
}

/// Reduces four lanes of four rows to one lane per row.
#[inline]
#[target_feature(enable = "neon")]
fn add_lanes(rows: [int32x4_t; 4]) -> int32x4_t {
    vpaddq_s32(vpaddq_s32(rows[0], rows[1]), vpaddq_s32(rows[2], rows[3]))
}

/// Transposes 4 × 4 words of 32 bits.
#[inline]
#[target_feature(enable = "neon")]
fn transpose(rows: [int8x16_t; 4]) -> Quads {
    let [a, b, c, d] = rows.map(|row| vreinterpretq_s32_s8(row));
    let wide = |word| vreinterpretq_s64_s32(word);
    let (front_ab, back_ab) = (wide(vtrn1q_s32(a, b)), wide(vtrn2q_s32(a, b)));
    let (front_cd, back_cd) = (wide(vtrn1q_s32(c, d)), wide(vtrn2q_s32(c, d)));
    [
        vtrn1q_s64(front_ab, front_cd),
        vtrn1q_s64(back_ab, back_cd),
        vtrn2q_s64(front_ab, front_cd),
        vtrn2q_s64(back_ab, back_cd),
    ]
    .map(|columns| vreinterpretq_s8_s64(columns))
}

#[inline]
#[target_feature(enable = "neon")]
fn low_halves(a: int8x16_t, b: int8x16_t) -> int8x16_t {
    vreinterpretq_s8_s64(vtrn1q_s64(vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b)))
}

#[inline]
#[target_feature(enable = "neon")]
fn high_halves(a: int8x16_t, b: int8x16_t) -> int8x16_t {
    vreinterpretq_s8_s64(vtrn2q_s64(vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b)))
}

/// Four adjacent columns, for all rows.
#[inline]
#[target_feature(enable = "neon")]
fn broadcast_four(x: int8x16_t, quad: usize) -> int8x16_t {
    let words = vreinterpretq_s32_s8(x);
    vreinterpretq_s8_s32(match quad {
        0 => vdupq_laneq_s32::<0>(words),
        1 => vdupq_laneq_s32::<1>(words),
        2 => vdupq_laneq_s32::<2>(words),
        _ => vdupq_laneq_s32::<3>(words),
    })
}

/// Sums of four products, lane by lane.
///
/// # Safety
/// The processor supports the dot product instructions.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn sdot(a: int8x16_t, b: int8x16_t) -> int32x4_t {
    let mut sums = vdupq_n_s32(0);
    // SAFETY: one register-only instruction, which the caller guarantees the processor supports.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {0:v}.4s, {1:v}.16b, {2:v}.16b",
            inout(vreg) sums,
            in(vreg) a,
            in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        )
    };
    sums
}

/// Adds products with four columns of `x` to the sums of four rows.
///
/// # Safety
/// See [`sdot`].
#[inline]
#[target_feature(enable = "neon")]
unsafe fn sdot_lane<const QUAD: usize>(mut sums: int32x4_t, rows: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: as in `sdot`.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {0:v}.4s, {1:v}.16b, {2:v}.4b[{quad}]",
            inout(vreg) sums,
            in(vreg) rows,
            in(vreg) x,
            quad = const QUAD,
            options(pure, nomem, nostack, preserves_flags)
        )
    };
    sums
}

/// Adds the products of 2 × 8 and 8 × 2 levels.
///
/// # Safety
/// The processor supports the 8-bit matrix instructions.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn smmla(mut sums: int32x4_t, rows: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: one register-only instruction, which the caller guarantees the processor supports.
    unsafe {
        asm!(
            ".arch_extension i8mm",
            "smmla {0:v}.4s, {1:v}.16b, {2:v}.16b",
            inout(vreg) sums,
            in(vreg) rows,
            in(vreg) x,
            options(pure, nomem, nostack, preserves_flags)
        )
    };
    sums
}
