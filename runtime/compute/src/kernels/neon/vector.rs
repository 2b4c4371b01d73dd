//! Eight f32 in two NEON registers.
//!
//! As many lanes as AVX2, reduced in the same order. Using two registers also hides instruction latency.

use std::arch::aarch64::*;
use std::arch::asm;

use half::f16;

use crate::kernels::vector::Vector;

#[derive(Clone, Copy)]
pub(super) struct F32x8(float32x4_t, float32x4_t);

/// Applies an intrinsic to both registers of `$a` (and `$b`, `$c`).
macro_rules! both {
    ($function:ident, $($operand:expr),+) => {
        unsafe { F32x8($function($($operand.0),+), $function($($operand.1),+)) }
    };
}

// SAFETY: each method is a few NEON instructions, available on every aarch64 target; loads and stores need no alignment and touch
// exactly the lanes.
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
    // The dedicated instructions would propagate NaN.
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

/// Four f16 to f32. The f16 intrinsics are newer than the oldest supported compiler; the instruction is not.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn widen_four(bits: uint16x4_t) -> float32x4_t {
    let wide;
    // SAFETY: one register-only ARMv8.0 instruction.
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
