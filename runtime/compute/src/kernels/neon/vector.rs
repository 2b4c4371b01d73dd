//! Eight f32 in two NEON registers.
//!
//! As many lanes as AVX2 has, added up in the same order. Two registers also keep processors busy that wait for each
//! instruction's result.

use std::arch::aarch64::*;
use std::arch::asm;

use half::f16;

use crate::kernels::vector::Vector;

#[derive(Clone, Copy)]
pub(super) struct F32x8(float32x4_t, float32x4_t);

/// Both registers of `$a` (and `$b`, `$c`) through an intrinsic.
macro_rules! both {
    ($function:ident, $($operand:expr),+) => {
        unsafe { F32x8($function($($operand.0),+), $function($($operand.1),+)) }
    };
}

// SAFETY: each method is a few instructions of NEON, which every aarch64 target is compiled with; loads and stores ask for no
// alignment and touch exactly the lanes.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all of them, above")]
unsafe impl Vector for F32x8 {
    const LANES: usize = 8;
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        unsafe { Self(vdupq_n_f32(value), vdupq_n_f32(value)) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { Self(vld1q_f32(from), vld1q_f32(from.add(4))) }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> Self {
        unsafe { widen(vld1q_u16(from.cast())) }
    }
    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        unsafe {
            let wide = vmovl_s8(vld1_s8(from));
            Self(vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide))), vcvtq_f32_s32(vmovl_high_s16(wide)))
        }
    }
    #[inline(always)]
    unsafe fn load_nibbles(from: *const u8) -> [Self; 2] {
        unsafe {
            let bytes = vld1_u8(from);
            [whole(vand_u8(bytes, vdup_n_u8(15))), whole(vshr_n_u8::<4>(bytes))]
        }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe {
            vst1q_f32(to, self.0);
            vst1q_f32(to.add(4), self.1);
        }
    }
    #[inline(always)]
    unsafe fn store_f16(self, to: *mut f16) {
        unsafe { vst1q_u16(to.cast(), narrow(self)) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        both!(vaddq_f32, self, other)
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        both!(vsubq_f32, self, other)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        both!(vmulq_f32, self, other)
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        both!(vdivq_f32, self, other)
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        both!(vfmaq_f32, term, self, factor)
    }
    // The instructions for these would pass on what is no number.
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        both!(larger, self, other)
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        both!(smaller, self, other)
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        both!(vrndnq_f32, self)
    }
    #[inline(always)]
    unsafe fn power_of_two(self) -> Self {
        both!(power_of_two, self)
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        unsafe {
            let four = vaddq_f32(self.0, self.1);
            vpadds_f32(vadd_f32(vget_low_f32(four), vget_high_f32(four)))
        }
    }
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        unsafe {
            let mut lanes = [0.0; 4];
            vst1q_f32(lanes.as_mut_ptr(), larger(self.0, self.1));
            let larger = |a: f32, b: f32| if a > b { a } else { b };
            larger(larger(lanes[0], lanes[2]), larger(lanes[1], lanes[3]))
        }
    }
    #[inline(always)]
    unsafe fn transpose_eight(from: *const f16, stride: usize, columns: usize, to: *mut f32, to_stride: usize) {
        unsafe { transpose_eight(from, stride, columns, to, to_stride) }
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn larger(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    vbslq_f32(vcgtq_f32(a, b), a, b)
}

#[inline]
#[target_feature(enable = "neon")]
fn smaller(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    vbslq_f32(vcltq_f32(a, b), a, b)
}

#[inline]
#[target_feature(enable = "neon")]
fn power_of_two(exponent: float32x4_t) -> float32x4_t {
    let exponent = vaddq_s32(vcvtq_s32_f32(exponent), vdupq_n_s32(127));
    vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent))
}

/// Eight bytes to f32.
#[inline]
#[target_feature(enable = "neon")]
fn whole(bytes: uint8x8_t) -> F32x8 {
    let wide = vmovl_u8(bytes);
    F32x8(vcvtq_f32_u32(vmovl_u16(vget_low_u16(wide))), vcvtq_f32_u32(vmovl_high_u16(wide)))
}

/// Four f16 to f32. The intrinsics for f16 are younger than the compilers this is built with; the instruction is not.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn widen_four(bits: uint16x4_t) -> float32x4_t {
    let wide;
    // SAFETY: one instruction of ARMv8.0 between registers.
    unsafe {
        asm!("fcvtl {0:v}.4s, {1:v}.4h", out(vreg) wide, in(vreg) bits, options(pure, nomem, nostack, preserves_flags))
    };
    wide
}

/// Eight f16 to f32.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn widen(bits: uint16x8_t) -> F32x8 {
    let high;
    // SAFETY: as in `widen_four`.
    unsafe {
        asm!("fcvtl2 {0:v}.4s, {1:v}.8h", out(vreg) high, in(vreg) bits, options(pure, nomem, nostack, preserves_flags))
    };
    F32x8(widen_four(vget_low_u16(bits)), high)
}

/// f32 to the nearest f16, ties to even.
#[inline]
#[target_feature(enable = "neon")]
fn narrow(value: F32x8) -> uint16x8_t {
    let mut bits: uint16x8_t;
    // SAFETY: as in `widen_four`.
    unsafe {
        asm!(
            "fcvtn {0:v}.4h, {1:v}.4s",
            "fcvtn2 {0:v}.8h, {2:v}.4s",
            out(vreg) bits,
            in(vreg) value.0,
            in(vreg) value.1,
            options(pure, nomem, nostack, preserves_flags)
        )
    };
    bits
}

impl F32x8 {
    /// The registers.
    #[inline]
    pub(super) fn parts(self) -> [float32x4_t; 2] {
        [self.0, self.1]
    }
}

/// [`Vector::transpose_eight`]: eight columns at a time, then one.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn transpose_eight(from: *const f16, stride: usize, columns: usize, to: *mut f32, to_stride: usize) {
    let mut column = 0;
    // SAFETY: reads 8 rows of `columns` elements and writes `columns` rows of 8, as the caller promises they are there.
    unsafe {
        while column + 8 <= columns {
            let mut rows = [vdupq_n_u16(0); 8];
            for (row, bits) in rows.iter_mut().enumerate() {
                *bits = vld1q_u16(from.add(row * stride + column).cast());
            }
            for (index, bits) in transpose_16(rows).into_iter().enumerate() {
                widen(bits).store(to.add((column + index) * to_stride));
            }
            column += 8;
        }
        for column in column..columns {
            for row in 0..8 {
                *to.add(column * to_stride + row) = (*from.add(row * stride + column)).to_f32();
            }
        }
    }
}

/// Rows and columns of 8 × 8 elements of 16 bits exchanged.
#[inline]
#[target_feature(enable = "neon")]
fn transpose_16(rows: [uint16x8_t; 8]) -> [uint16x8_t; 8] {
    let [a, b, c, d, e, f, g, h] = rows;
    let pairs = |a, b| [vtrn1q_u16(a, b), vtrn2q_u16(a, b)].map(|pair| vreinterpretq_u32_u16(pair));
    let ([ab0, ab1], [cd0, cd1], [ef0, ef1], [gh0, gh1]) = (pairs(a, b), pairs(c, d), pairs(e, f), pairs(g, h));
    let quads = |a, b| [vtrn1q_u32(a, b), vtrn2q_u32(a, b)].map(|quad| vreinterpretq_u64_u32(quad));
    let ([front0, front2], [front1, front3]) = (quads(ab0, cd0), quads(ab1, cd1));
    let ([back0, back2], [back1, back3]) = (quads(ef0, gh0), quads(ef1, gh1));
    [
        vtrn1q_u64(front0, back0),
        vtrn1q_u64(front1, back1),
        vtrn1q_u64(front2, back2),
        vtrn1q_u64(front3, back3),
        vtrn2q_u64(front0, back0),
        vtrn2q_u64(front1, back1),
        vtrn2q_u64(front2, back2),
        vtrn2q_u64(front3, back3),
    ]
    .map(|row| vreinterpretq_u16_u64(row))
}
