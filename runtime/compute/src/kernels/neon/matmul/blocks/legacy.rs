//! Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0.

use std::arch::aarch64::*;
use std::mem::offset_of;

use super::{Block, Header, Rows, f16_of, from_zero, mask_of, nibbles};
use crate::quant::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};

impl Block for Q4_0 {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: upheld by the caller, as in all of the following.
        header[0].scale[0] = unsafe { f16_of(rows, offset_of!(Self, scale)) };
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn levels(block: *const u8, _: usize) -> [int8x16_t; 2] {
        // SAFETY: see above.
        from_zero::<Self>(unsafe { nibbles(block.add(offset_of!(Self, nibbles))) })
    }
}

impl Block for Q4_1 {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: see above.
        unsafe { scale_and_minimum(rows, header) }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn levels(block: *const u8, _: usize) -> [int8x16_t; 2] {
        // SAFETY: see above.
        from_zero::<Self>(unsafe { nibbles(block.add(offset_of!(Self, nibbles))) })
    }
}

impl Block for Q5_0 {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: see above.
        header[0].scale[0] = unsafe { f16_of(rows, offset_of!(Self, scale)) };
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn levels(block: *const u8, _: usize) -> [int8x16_t; 2] {
        // SAFETY: see above.
        from_zero::<Self>(unsafe { with_fifth_bits(block.add(offset_of!(Self, fifths))) })
    }
}

impl Block for Q5_1 {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: see above.
        unsafe { scale_and_minimum(rows, header) }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn levels(block: *const u8, _: usize) -> [int8x16_t; 2] {
        // SAFETY: see above.
        from_zero::<Self>(unsafe { with_fifth_bits(block.add(offset_of!(Self, fifths))) })
    }
}

impl Block for Q8_0 {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: see above.
        header[0].scale[0] = unsafe { f16_of(rows, offset_of!(Self, scale)) };
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn levels(block: *const u8, _: usize) -> [int8x16_t; 2] {
        // SAFETY: see above.
        unsafe {
            [
                vld1q_s8(block.add(offset_of!(Self, levels)).cast()),
                vld1q_s8(block.add(offset_of!(Self, levels) + 16).cast()),
            ]
        }
    }
}

/// Scale and minimum of Q4_1 or Q5_1, which store them at the same places.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn scale_and_minimum(rows: &Rows, header: &mut Header) {
    // SAFETY: upheld by the caller.
    unsafe {
        header[0].scale[0] = f16_of(rows, offset_of!(Q4_1, scale));
        header[0].offset[0] = f16_of(rows, offset_of!(Q4_1, minimum));
    }
}

/// Four bytes of fifth bits, followed by the nibbles.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn with_fifth_bits(bytes: *const u8) -> [uint8x16_t; 2] {
    // SAFETY: the caller guarantees 20 bytes there.
    let (bits, [low, high]) = unsafe { (bytes.cast::<[u8; 4]>().read(), nibbles(bytes.add(4))) };
    let fifth = |bits| vandq_u8(mask_of(bits), vdupq_n_u8(16));
    [vorrq_u8(low, fifth([bits[0], bits[1]])), vorrq_u8(high, fifth([bits[2], bits[3]]))]
}
