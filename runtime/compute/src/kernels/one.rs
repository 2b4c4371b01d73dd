//! A "vector" of one f32, with the rounding of the real ones.
//!
//! The tail of a row runs through the same generic code with this type, so that an element gets the same bits at any position.
//! Only for tables whose instruction set has fused multiply-add: elsewhere that is a slow library call.

use half::f16;

use super::vector::Vector;

#[derive(Clone, Copy)]
pub(super) struct One(f32);

// SAFETY: plain arithmetic; loads and stores touch exactly one element.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all of them, above")]
unsafe impl Vector for One {
    const LANES: usize = 1;
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self(value)
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { from.read_unaligned() })
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> Self {
        Self(unsafe { from.read_unaligned() }.to_f32())
    }
    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        Self(f32::from(unsafe { from.read() }))
    }
    #[inline(always)]
    unsafe fn load_nibbles(from: *const u8) -> [Self; 2] {
        let byte = unsafe { from.read() };
        [Self(f32::from(byte & 15)), Self(f32::from(byte >> 4))]
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { to.write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn store_f16(self, to: *mut f16) {
        unsafe { to.write_unaligned(f16::from_f32(self.0)) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(self.0 * other.0)
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        Self(self.0 / other.0)
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        Self(self.0.mul_add(factor.0, term.0))
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        if self.0 > other.0 { self } else { other }
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        if self.0 < other.0 { self } else { other }
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        Self(self.0.round_ties_even())
    }
    #[inline(always)]
    unsafe fn power_of_two(self) -> Self {
        Self(f32::from_bits(((self.0 as i32).wrapping_add(127) as u32) << 23))
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        self.0
    }
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        self.0
    }
}
