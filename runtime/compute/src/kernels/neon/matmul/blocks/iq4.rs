//! IQ4_NL and IQ4_XS: nibbles index sixteen levels.

use std::arch::aarch64::*;
use std::mem::offset_of;

use super::{Block, Header, Rows, eight_nibbles, f16_of, lanes_of, look_up, nibbles};
use crate::quant::{IQ4_CODES, IQ4NL, IQ4XS};

impl Block for IQ4NL {
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
        look_up(&IQ4_CODES, unsafe { nibbles(block.add(offset_of!(Self, nibbles))) })
    }
}

impl Block for IQ4XS {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: see above.
        let scale = unsafe { f16_of(rows, offset_of!(Self, scale)) };
        let scales = lanes_of(rows.map(|row| {
            // SAFETY: see above.
            let (high, low) = unsafe {
                (
                    row.add(offset_of!(Self, upper)).cast::<u16>().read_unaligned(),
                    row.add(offset_of!(Self, lower)).cast::<u32>().read_unaligned(),
                )
            };
            // Shift each bit pair to bits 4 and 5.
            // SAFETY: eight numbers.
            let shifts = unsafe { vld1q_s16([4, 2, 0, -2, -4, -6, -8, -10].as_ptr()) };
            let high = vmovn_u16(vshlq_u16(vdupq_n_u16(high), shifts));
            let bits = vorr_u8(eight_nibbles(low), vand_u8(high, vdup_n_u8(0x30)));
            vsub_u8(bits, vdup_n_u8(32))
        }));
        for (group, scales) in scales.into_iter().enumerate() {
            header[group].scale[0] = vmulq_f32(scale, vcvtq_f32_s32(scales));
        }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn levels(block: *const u8, group: usize) -> [int8x16_t; 2] {
        // SAFETY: see above.
        look_up(&IQ4_CODES, unsafe { nibbles(block.add(offset_of!(Self, nibbles) + 16 * group)) })
    }
}
