//! Q2_K to Q6_K.

use std::arch::aarch64::*;
use std::mem::offset_of;

use super::{Block, Header, Rows, bit_pairs, bits_from, f16_of, from_zero, lanes_of, load_32};
use crate::quant::{Q2K, Q3K, Q4K, Q5K, Q6K};

impl Block for Q2K {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: upheld by the caller, as in all of the following.
        let (scale, minimum, bytes) = unsafe {
            (
                f16_of(rows, offset_of!(Self, scale)),
                f16_of(rows, offset_of!(Self, minimum)),
                rows.map(|row| vld1q_u8(row.add(offset_of!(Self, scales)))),
            )
        };
        let minus = vnegq_f32(minimum);
        let low = lanes_of_halves(bytes.map(|bytes| vandq_u8(bytes, vdupq_n_u8(15))));
        let high = lanes_of_halves(bytes.map(|bytes| vshrq_n_u8::<4>(bytes)));
        for half in 0..2 {
            for group in 0..8 {
                header[group].scale[half] = vmulq_f32(scale, vcvtq_f32_s32(low[half][group]));
                header[group].offset[half] = vmulq_f32(minus, vcvtq_f32_s32(high[half][group]));
            }
        }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn levels(block: *const u8, group: usize) -> [int8x16_t; 2] {
        // SAFETY: see above.
        from_zero::<Self>(unsafe { bit_pairs(block.add(offset_of!(Self, pairs)), group) })
    }
}

impl Block for Q3K {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: see above.
        header.set_scale(unsafe { f16_of(rows, offset_of!(Self, scale)) });
        let scales = rows.map(|row| {
            // SAFETY: see above.
            let (low, high) = unsafe {
                (
                    row.add(offset_of!(Self, scales)).cast::<u64>().read_unaligned(),
                    u64::from(row.add(offset_of!(Self, scales) + 8).cast::<u32>().read_unaligned()),
                )
            };
            // Scale n has its lower nibble in byte n % 8 and its upper bit pair in byte n % 4: see `quant::k`.
            let (nibbles, bits) = (0x0f0f_0f0f_0f0f_0f0f, 0x3030_3030);
            let front = low & nibbles | (high << 4 & bits) | (high << 2 & bits) << 32;
            let back = low >> 4 & nibbles | (high & bits) | (high >> 2 & bits) << 32;
            vsubq_u8(vcombine_u8(vcreate_u8(front), vcreate_u8(back)), vdupq_n_u8(32))
        });
        set_multipliers(scales, header);
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn levels(block: *const u8, group: usize) -> [int8x16_t; 2] {
        // SAFETY: see above.
        let (low, bits) = unsafe {
            (bit_pairs(block.add(offset_of!(Self, pairs)), group), load_32(block.add(offset_of!(Self, thirds))))
        };
        let third = bits.map(|bits| vshlq_n_u8::<2>(bits_from(bits, group, 1)));
        from_zero::<Self>([vorrq_u8(low[0], third[0]), vorrq_u8(low[1], third[1])])
    }
}

impl Block for Q4K {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: see above.
        unsafe { six_bit_header(rows, header) }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn levels(block: *const u8, group: usize) -> [int8x16_t; 2] {
        // SAFETY: see above.
        from_zero::<Self>(unsafe { k_nibbles(block.add(offset_of!(Self, nibbles)), group) })
    }
}

impl Block for Q5K {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: see above.
        unsafe { six_bit_header(rows, header) }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn levels(block: *const u8, group: usize) -> [int8x16_t; 2] {
        // SAFETY: see above.
        let (low, bits) = unsafe {
            (k_nibbles(block.add(offset_of!(Self, nibbles)), group), load_32(block.add(offset_of!(Self, fifths))))
        };
        let fifth = bits.map(|bits| vshlq_n_u8::<4>(bits_from(bits, group, 1)));
        from_zero::<Self>([vorrq_u8(low[0], fifth[0]), vorrq_u8(low[1], fifth[1])])
    }
}

impl Block for Q6K {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: see above.
        unsafe {
            header.set_scale(f16_of(rows, offset_of!(Self, scale)));
            set_multipliers(rows.map(|row| vld1q_u8(row.add(offset_of!(Self, scales)))), header);
        }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn levels(block: *const u8, group: usize) -> [int8x16_t; 2] {
        let (half, part) = (group / 4, group % 4);
        // SAFETY: see above.
        let (low, high) = unsafe {
            (
                load_32(block.add(offset_of!(Self, nibbles) + 64 * half + 32 * (part % 2))),
                load_32(block.add(offset_of!(Self, pairs) + 32 * half)),
            )
        };
        let low = low.map(|low| bits_from(low, 4 * (part / 2), 15));
        let high = high.map(|high| vshlq_n_u8::<4>(bits_from(high, 2 * part, 3)));
        from_zero::<Self>([vorrq_u8(low[0], high[0]), vorrq_u8(low[1], high[1])])
    }
}

/// Each 32 bytes hold two groups: the even one in the low nibbles, the odd one in the high nibbles.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn k_nibbles(bytes: *const u8, group: usize) -> [uint8x16_t; 2] {
    // SAFETY: the caller guarantees 128 bytes there.
    unsafe { load_32(bytes.add(32 * (group / 2))) }.map(|both| bits_from(both, 4 * (group % 2), 15))
}

/// Sixteen bytes of each row, for the halves of eight groups, transposed to lanes: `[half][group]`.
#[inline]
#[target_feature(enable = "neon")]
fn lanes_of_halves(rows: [uint8x16_t; 4]) -> [[int32x4_t; 8]; 2] {
    [
        lanes_of(rows.map(|row| vget_low_u8(vuzp1q_u8(row, row)))),
        lanes_of(rows.map(|row| vget_low_u8(vuzp2q_u8(row, row)))),
    ]
}

/// Sixteen signed scales of each row.
#[inline]
#[target_feature(enable = "neon")]
fn set_multipliers(scales: [uint8x16_t; 4], header: &mut Header) {
    for (half, lanes) in lanes_of_halves(scales).into_iter().enumerate() {
        for (group, lanes) in lanes.into_iter().enumerate() {
            header[group].multipliers[half] = lanes;
        }
    }
}

/// Scales and minimums of Q4_K or Q5_K.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn six_bit_header(rows: &Rows, header: &mut Header) {
    // SAFETY: upheld by the caller.
    let (scale, minimum) = unsafe { (f16_of(rows, offset_of!(Q4K, scale)), f16_of(rows, offset_of!(Q4K, minimum))) };
    let bytes = rows.map(|row| {
        // SAFETY: a block is longer than 16 bytes.
        let word = |offset: usize| {
            u64::from(unsafe { row.add(offset_of!(Q4K, scales) + offset).cast::<u32>().read_unaligned() })
        };
        let (first, second, third) = (word(0), word(4), word(8));
        // Groups 0..4 in the lower four bytes, 4..8 in the upper four: see `quant::k`.
        let scales = first & 0x3f3f_3f3f | (third & 0x0f0f_0f0f | first >> 2 & 0x3030_3030) << 32;
        let minimums = second & 0x3f3f_3f3f | (third >> 4 & 0x0f0f_0f0f | second >> 2 & 0x3030_3030) << 32;
        [scales, minimums]
    });
    let [scales, minimums] = [0, 1].map(|which| lanes_of(bytes.map(|bytes| vcreate_u8(bytes[which]))));
    let minus = vnegq_f32(minimum);
    for group in 0..8 {
        header[group].scale[0] = vmulq_f32(scale, vcvtq_f32_s32(scales[group]));
        header[group].offset[0] = vmulq_f32(minus, vcvtq_f32_s32(minimums[group]));
    }
}
