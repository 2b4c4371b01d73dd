//! How NEON reads 32 columns of each quantised type: a row's levels as signed bytes, the scales of four rows as lanes.
//!
//! A new type is one implementation of [`Block`], in the file of its family. The layouts themselves are described in `quant`,
//! whose [`quant::Block`] also says all that is not particular to NEON.

mod fp4;
mod iq1;
mod iq2;
mod iq3;
mod iq4;
mod k;
mod legacy;
mod ternary;

use std::arch::aarch64::*;

use crate::kernels::neon::vector::widen_four;
use crate::quant;

/// Four rows whose blocks are read together; a missing row is replaced by a duplicate of another.
pub(super) type Rows = [*const u8; 4];

/// What a group of four rows holds besides the levels: lane = row, index = half of the group.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Weights {
    /// The second half's only if [`quant::Form::APART`].
    pub(super) scale: [float32x4_t; 2],
    /// If [`quant::Form::OFFSET`]; the second half's only if [`quant::Form::APART`].
    pub(super) offset: [float32x4_t; 2],
    /// If [`quant::Form::HALVES`].
    pub(super) multipliers: [int32x4_t; 2],
}

/// The groups of a block.
pub(super) struct Header([Weights; 8]);

impl Header {
    #[target_feature(enable = "neon")]
    pub(super) fn new() -> Self {
        let (zero, none) = (vdupq_n_f32(0.0), vdupq_n_s32(0));
        Header([Weights { scale: [zero; 2], offset: [zero; 2], multipliers: [none; 2] }; 8])
    }

    /// One scale for all groups of a block.
    #[inline]
    fn set_scale(&mut self, scale: float32x4_t) {
        self.0.iter_mut().for_each(|weights| weights.scale[0] = scale);
    }
}

impl std::ops::Index<usize> for Header {
    type Output = Weights;
    /// A block has at most eight groups: a remainder replaces the bounds check.
    #[inline]
    fn index(&self, group: usize) -> &Weights {
        &self.0[group % 8]
    }
}

impl std::ops::IndexMut<usize> for Header {
    #[inline]
    fn index_mut(&mut self, group: usize) -> &mut Weights {
        &mut self.0[group % 8]
    }
}

/// Reader of a quantised type for NEON. Products are compiled once per form, not per type.
pub(super) trait Block: quant::Block {
    /// Reads a block's header of each row: everything besides the levels.
    ///
    /// # Safety
    /// Each row points to a block.
    unsafe fn header(rows: &Rows, header: &mut Header);

    /// The levels of a group of the block, half by half in column order.
    ///
    /// # Safety
    /// As above.
    unsafe fn levels(block: *const u8, group: usize) -> [int8x16_t; 2];
}

/// The f16 at `offset` of each row.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn f16_of(rows: &Rows, offset: usize) -> float32x4_t {
    // SAFETY: the caller guarantees a block at each row, of which `offset` leaves at least two bytes.
    let bits = rows.map(|row| unsafe { row.add(offset).cast::<u16>().read_unaligned() });
    // SAFETY: four values.
    widen_four(unsafe { vld1_u16(bits.as_ptr()) })
}

/// 32 bytes.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn load_32(bytes: *const u8) -> [uint8x16_t; 2] {
    // SAFETY: the caller guarantees them there.
    unsafe { [vld1q_u8(bytes), vld1q_u8(bytes.add(16))] }
}

/// 16 bytes of nibbles: the low ones, then the high ones.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn nibbles(bytes: *const u8) -> [uint8x16_t; 2] {
    // SAFETY: the caller guarantees 16 bytes there.
    let both = unsafe { vld1q_u8(bytes) };
    [vandq_u8(both, vdupq_n_u8(15)), vshrq_n_u8::<4>(both)]
}

/// The bits from `shift` on that `mask` covers.
#[inline]
#[target_feature(enable = "neon")]
fn bits_from(bytes: uint8x16_t, shift: usize, mask: u8) -> uint8x16_t {
    vandq_u8(vshlq_u8(bytes, vdupq_n_s8(-(shift as i8))), vdupq_n_u8(mask))
}

/// Extracts one of four groups whose bit pairs share 32 bytes.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn bit_pairs(bytes: *const u8, group: usize) -> [uint8x16_t; 2] {
    // SAFETY: the caller guarantees 64 bytes there.
    unsafe { load_32(bytes.add(32 * (group / 4))) }.map(|bytes| bits_from(bytes, 2 * (group % 4), 3))
}

/// Subtracts the type's zero point from unsigned levels.
#[inline]
#[target_feature(enable = "neon")]
fn from_zero<B: quant::Block>(levels: [uint8x16_t; 2]) -> [int8x16_t; 2] {
    levels.map(|levels| vsubq_s8(vreinterpretq_s8_u8(levels), vdupq_n_s8(B::ZERO_POINT as i8)))
}

/// Expands 16 bits to 16 byte masks.
#[inline]
#[target_feature(enable = "neon")]
fn mask_of(bits: [u8; 2]) -> uint8x16_t {
    let spread = vcombine_u8(vdup_n_u8(bits[0]), vdup_n_u8(bits[1]));
    let bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201));
    vtstq_u8(spread, bit)
}

/// Looks up each byte, 0 to 15, in the table.
#[inline]
#[target_feature(enable = "neon")]
fn look_up(table: &[i8; 16], indices: [uint8x16_t; 2]) -> [int8x16_t; 2] {
    // SAFETY: the table has 16 bytes.
    let table = unsafe { vld1q_s8(table.as_ptr()) };
    indices.map(|indices| vqtbl1q_s8(table, indices))
}

/// Four grid points of eight columns; a column is negative if its bit is set.
#[inline]
#[target_feature(enable = "neon")]
fn with_signs(points: [u64; 4], signs: [u8; 4]) -> [int8x16_t; 2] {
    [0, 2].map(|first| {
        let magnitudes = vcombine_s8(vcreate_s8(points[first]), vcreate_s8(points[first + 1]));
        let minus = vreinterpretq_s8_u8(mask_of([signs[first], signs[first + 1]]));
        vsubq_s8(veorq_s8(magnitudes, minus), minus)
    })
}

/// Decodes scales of a few bits that stand for odd numbers: 2 × bits + 1.
#[inline]
#[target_feature(enable = "neon")]
fn odd(bits: uint8x8_t) -> uint8x8_t {
    vorr_u8(vshl_n_u8::<1>(bits), vdup_n_u8(1))
}

/// The same for the upper four bits of a word of each row, as floats.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn odd_top_nibbles(rows: &Rows, offset: usize) -> float32x4_t {
    // SAFETY: the caller guarantees a block at each row, of which `offset` leaves at least four bytes.
    let words = rows.map(|row| unsafe { row.add(offset).cast::<u32>().read_unaligned() });
    // SAFETY: four values.
    let bits = vshrq_n_u32::<28>(unsafe { vld1q_u32(words.as_ptr()) });
    vcvtq_f32_u32(vorrq_u32(vshlq_n_u32::<1>(bits), vdupq_n_u32(1)))
}

/// The nibbles of a word, lowest first.
#[inline]
#[target_feature(enable = "neon")]
fn eight_nibbles(word: u32) -> uint8x8_t {
    let bytes = vcreate_u8(u64::from(word));
    // Each byte twice, the second copy shifted right by four.
    let shifted = vshl_u8(vzip1_u8(bytes, bytes), vcreate_s8(0xfc00_fc00_fc00_fc00));
    vand_u8(shifted, vdup_n_u8(15))
}

/// Eight bytes of each row.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn bytes_at(rows: &Rows, offset: usize) -> [uint8x8_t; 4] {
    // SAFETY: the caller guarantees a block at each row, of which `offset` leaves at least eight bytes.
    rows.map(|row| unsafe { vld1_u8(row.add(offset)) })
}

/// Eight signed bytes of each row, transposed by index to lanes.
#[inline]
#[target_feature(enable = "neon")]
fn lanes_of(rows: [uint8x8_t; 4]) -> [int32x4_t; 8] {
    let [a, b, c, d] = rows.map(|row| vcombine_s8(vreinterpret_s8_u8(row), vdup_n_s8(0)));
    let (ab, cd) = (vreinterpretq_s16_s8(vzip1q_s8(a, b)), vreinterpretq_s16_s8(vzip1q_s8(c, d)));
    let (front, back) = (vreinterpretq_s8_s16(vzip1q_s16(ab, cd)), vreinterpretq_s8_s16(vzip2q_s16(ab, cd)));
    let pairs = [vmovl_s8(vget_low_s8(front)), vmovl_high_s8(front), vmovl_s8(vget_low_s8(back)), vmovl_high_s8(back)];
    let [p, q, r, s] = pairs;
    [
        vmovl_s16(vget_low_s16(p)),
        vmovl_high_s16(p),
        vmovl_s16(vget_low_s16(q)),
        vmovl_high_s16(q),
        vmovl_s16(vget_low_s16(r)),
        vmovl_high_s16(r),
        vmovl_s16(vget_low_s16(s)),
        vmovl_high_s16(s),
    ]
}
