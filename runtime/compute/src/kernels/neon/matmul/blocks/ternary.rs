//! TQ1_0 and TQ2_0.

use std::arch::aarch64::*;
use std::mem::offset_of;

use super::{Block, Header, Rows, bit_pairs, f16_of, from_zero, load_32};
use crate::quant::{TQ1_0, TQ2_0};

impl Block for TQ1_0 {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: upheld by the caller, as in all of the following.
        header.set_scale(unsafe { f16_of(rows, offset_of!(Self, scale)) });
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn levels(block: *const u8, group: usize) -> [int8x16_t; 2] {
        // SAFETY: see above; a row of powers for each group.
        let (bytes, powers) = unsafe {
            let bytes = match group {
                0..5 => load_32(block.add(offset_of!(Self, groups))),
                5 | 6 => [vld1q_u8(block.add(offset_of!(Self, halves))); 2],
                _ => {
                    let four = vdupq_n_u32(block.add(offset_of!(Self, eighths)).cast::<u32>().read_unaligned());
                    [vld1q_u8(block.add(offset_of!(Self, halves))), vreinterpretq_u8_u32(four)]
                }
            };
            (bytes, load_32(POWERS[group % 8].as_ptr()))
        };
        [0, 1].map(|half| {
            let front = vmulq_u8(bytes[half], powers[half]);
            // The digit, ⌊3 × front / 256⌋, is how many of the thresholds 86 and 171 the front reaches; a comparison gives −1.
            let reaches = |limit| vreinterpretq_s8_u8(vcgeq_u8(front, vdupq_n_u8(limit)));
            vsubq_s8(vsubq_s8(vdupq_n_s8(-1), reaches(86)), reaches(171))
        })
    }
}

impl Block for TQ2_0 {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: see above.
        header.set_scale(unsafe { f16_of(rows, offset_of!(Self, scale)) });
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn levels(block: *const u8, group: usize) -> [int8x16_t; 2] {
        // SAFETY: see above.
        from_zero::<Self>(unsafe { bit_pairs(block.add(offset_of!(Self, pairs)), group) })
    }
}

/// Per group, the power that brings its digit to the front of each byte: see `quant::ternary`.
static POWERS: [[u8; 32]; 8] = {
    let mut powers = [[1; 32]; 8];
    let mut group = 0;
    while group < 8 {
        let mut column = 0;
        while column < 32 {
            let digit = match (group, column) {
                (0..5, _) => group,
                (5..7, _) => 2 * (group - 5) + column / 16,
                (_, 0..16) => 4,
                _ => (column - 16) / 4,
            };
            powers[group][column] = 3u8.pow(digit as u32);
            column += 1;
        }
        group += 1;
    }
    powers
};
