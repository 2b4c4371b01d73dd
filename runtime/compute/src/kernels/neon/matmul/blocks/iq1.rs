//! IQ1_S and IQ1_M.

use std::arch::aarch64::*;
use std::mem::offset_of;

use super::{Block, Header, Rows, f16_of, lanes_of, odd};
use crate::kernels::neon::vector::widen_four;
use crate::quant::{IQ1M, IQ1S, grids::IQ1};

impl Block for IQ1S {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: upheld by the caller, as in everything below; 16 bytes of words.
        let (scale, words) = unsafe {
            (
                f16_of(rows, offset_of!(Self, scale)),
                rows.map(|row| vreinterpretq_u16_u8(vld1q_u8(row.add(offset_of!(Self, words))))),
            )
        };
        let scales = lanes_of(words.map(|words| {
            let bits = vand_u8(vmovn_u16(vshrq_n_u16::<12>(words)), vdup_n_u8(7));
            odd(bits)
        }));
        let directions = lanes_of(words.map(|words| vmovn_u16(vshrq_n_u16::<15>(words))));
        for (group, (factor, direction)) in scales.into_iter().zip(directions).enumerate() {
            let scale = vmulq_f32(scale, vcvtq_f32_s32(factor));
            // Levels start at −1, shifted up or down by an eighth.
            let zero = vfmsq_n_f32(vdupq_n_f32(-0.875), vcvtq_f32_s32(direction), 0.25);
            header[group].scale[0] = scale;
            header[group].offset[0] = vmulq_f32(scale, zero);
        }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn levels(block: *const u8, group: usize) -> [int8x16_t; 2] {
        // SAFETY: see above.
        unsafe {
            let upper = usize::from(block.add(offset_of!(Self, words) + 2 * group).cast::<u16>().read_unaligned());
            points(block.add(offset_of!(Self, indices) + 4 * group), [upper << 8, upper << 5, upper << 2, upper >> 1])
        }
    }
}

impl Block for IQ1M {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: see above.
        let words = rows.map(|row| unsafe { row.add(offset_of!(Self, words)).cast::<u64>().read_unaligned() });
        let bits = words
            .map(|words| (words >> 12 & 0xf | words >> 24 & 0xf0 | words >> 36 & 0xf00 | words >> 48 & 0xf000) as u16);
        // SAFETY: four values.
        let scale = widen_four(unsafe { vld1_u16(bits.as_ptr()) });
        header.set_scale(vmulq_n_f32(scale, 0.125));
        for (half, shifts) in SHIFTS.iter().enumerate() {
            // Word n holds the scales of groups 2n and 2n + 1.
            let scales = lanes_of(words.map(|words| {
                let words = vcreate_u16(words);
                let twice = vcombine_u16(vzip1_u16(words, words), vzip2_u16(words, words));
                // SAFETY: eight numbers.
                let shifts = unsafe { vld1q_s16(shifts.as_ptr()) };
                odd(vand_u8(vmovn_u16(vshlq_u16(twice, shifts)), vdup_n_u8(7)))
            }));
            for (group, scales) in scales.into_iter().enumerate() {
                header[group].multipliers[half] = scales;
            }
        }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn levels(block: *const u8, group: usize) -> [int8x16_t; 2] {
        // SAFETY: see above.
        let (points, upper) = unsafe {
            let upper = usize::from(block.add(offset_of!(Self, upper) + 2 * group).cast::<u16>().read_unaligned());
            (
                points(block.add(offset_of!(Self, indices) + 4 * group), [upper << 8, upper << 4, upper, upper >> 4]),
                upper,
            )
        };
        // Point in eighths, starting at −1: 8 × (point − 1), plus or minus one.
        let zero = |part: usize| vdup_n_s8(if upper >> (4 * part) & 8 == 0 { -7 } else { -9 });
        let zeros = [vcombine_s8(zero(0), zero(1)), vcombine_s8(zero(2), zero(3))];
        [vaddq_s8(vshlq_n_s8::<3>(points[0]), zeros[0]), vaddq_s8(vshlq_n_s8::<3>(points[1]), zeros[1])]
    }
}

/// Per half, the shifts to the three scale bits of a word's first group and of its second.
static SHIFTS: [[i16; 8]; 2] = [[0, -6, 0, -6, 0, -6, 0, -6], [-3, -9, -3, -9, -3, -9, -3, -9]];

/// Four grid points, from the low bytes of their indices and words that contain the upper three bits.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn points(indices: *const u8, upper: [usize; 4]) -> [int8x16_t; 2] {
    // SAFETY: the caller guarantees four bytes there.
    let indices = unsafe { indices.cast::<[u8; 4]>().read() };
    let point = |part: usize| vcreate_s8(IQ1[usize::from(indices[part]) | upper[part] & 0x700]);
    [vcombine_s8(point(0), point(1)), vcombine_s8(point(2), point(3))]
}
