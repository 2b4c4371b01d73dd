//! How AVX2 reads 32 columns of each quantised type: a row's levels as bytes, the scales of eight rows as lanes.
//!
//! A new type is one implementation of [`Block`], in the file of its family. The layouts themselves are described in `quant`,
//! whose [`quant::Block`] also says all that is not particular to AVX2.

mod fp4;
mod iq1;
mod iq2;
mod iq3;
mod iq4;
mod k;
mod legacy;
mod ternary;

use std::arch::x86_64::*;

use crate::quant::{self, Form, grids::SIGNS};

/// Eight rows whose blocks are read together; a missing row is replaced by a duplicate of another.
pub(in crate::kernels) type Rows = [*const u8; 8];

/// What eight rows' blocks hold besides the levels: lane = row, index = group of the block.
pub(in crate::kernels) struct Header {
    pub(in crate::kernels) scale: [__m256; 8],
    /// If [`Block::OFFSET`].
    pub(in crate::kernels) offset: [__m256; 8],
    /// If [`Block::HALVES`]: the integer scales of both halves of the group, as a pair of i16.
    pub(in crate::kernels) halves: [__m256i; 8],
    /// If [`Block::APART`]: the scale of the second half; `scale` is the first's.
    pub(in crate::kernels) upper_scale: [__m256; 8],
    /// The same for the offset.
    pub(in crate::kernels) upper_offset: [__m256; 8],
}

impl Header {
    #[target_feature(enable = "avx2")]
    pub(in crate::kernels) fn new() -> Self {
        let (zeros, zero) = (_mm256_setzero_ps(), _mm256_setzero_si256());
        Header {
            scale: [zeros; 8],
            offset: [zeros; 8],
            halves: [zero; 8],
            upper_scale: [zeros; 8],
            upper_offset: [zeros; 8],
        }
    }
}

/// Reader of a quantised type for AVX2.
///
/// Levels are unsigned where they can be, since `maddubs` needs them: readers add the zero point, and products subtract what it
/// adds to them.
pub(in crate::kernels) trait Block: quant::Block {
    /// The zero point is subtracted by the f32 offset, which is fastest, instead of in the integers, which is exact: it matters
    /// where levels are often 0 beside a large scale.
    const ZERO_IN_OFFSET: bool = false;

    /// Each half of a group has its own integer scale.
    const HALVES: bool = <Self::Form as Form>::HALVES;
    /// Each half of a group has its own f32 scale and, if [`Block::OFFSET`], offset.
    const APART: bool = <Self::Form as Form>::APART;
    /// Groups add an f32 offset to every weight.
    const OFFSET: bool = <Self::Form as Form>::OFFSET || Self::ZERO_IN_OFFSET;
    /// What readers add to levels to make them unsigned; even if [`Block::HALVES`], as `tile` needs it.
    const RAISE: i32 = Self::ZERO_POINT + if Self::HALVES { Self::ZERO_POINT % 2 } else { 0 };
    /// Upper bound of unsigned levels; `None` for signed levels, of which a pair of products would not fit an i16 otherwise.
    const MAX_LEVEL: Option<i32> = {
        let max = *Self::LEVELS.end() as i32 + Self::RAISE;
        if 2 * 127 * max <= i16::MAX as i32 { Some(max) } else { None }
    };
    /// The zero point, subtracted in the integers; if [`Block::HALVES`], even and at most 32.
    const ZERO: i32 = if Self::ZERO_IN_OFFSET || Self::MAX_LEVEL.is_none() { 0 } else { Self::RAISE };

    /// How many column pairs' products can be summed in an i16; no more than the four of a half.
    const SUMS: usize = match Self::MAX_LEVEL {
        None => 1,
        Some(max) => {
            let products = i16::MAX as i32 / (2 * 127 * max);
            if products >= 4 {
                4
            } else if products >= 2 {
                2
            } else {
                1
            }
        }
    };

    /// Reads a block's header of each row: everything besides the levels.
    ///
    /// # Safety
    /// Each row points to a block; the processor supports AVX2, FMA and F16C.
    unsafe fn header(rows: &Rows, header: &mut Header);

    /// The levels of a group of the block, in column order.
    ///
    /// # Safety
    /// As above.
    unsafe fn levels(block: *const u8, group: usize) -> __m256i;
}

/// The f16 at `offset` of each row.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn f16_of(rows: &Rows, offset: usize) -> __m256 {
    // SAFETY: the caller guarantees a block at each row, of which `offset` leaves at least two bytes.
    let bits = rows.map(|row| unsafe { row.add(offset).cast::<i16>().read_unaligned() });
    let bits = _mm_setr_epi16(bits[0], bits[1], bits[2], bits[3], bits[4], bits[5], bits[6], bits[7]);
    _mm256_cvtph_ps(bits)
}

/// Two adjacent f16 of each row.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn f16_pairs_of(rows: &Rows, offset: usize) -> (__m256, __m256) {
    // SAFETY: upheld by the caller.
    f16_pairs(unsafe { words_of(rows, offset) })
}

/// The lower and the upper f16 of each word.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn f16_pairs(words: __m256i) -> (__m256, __m256) {
    let apart = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15));
    // Per half, four lower then four upper f16; then all eight lower ones into the lower half.
    let apart = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_shuffle_epi8(words, apart));
    (_mm256_cvtph_ps(_mm256_castsi256_si128(apart)), _mm256_cvtph_ps(_mm256_extracti128_si256::<1>(apart)))
}

/// Sixteen bytes of each row, transposed by 32-bit word.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn four_words_of(rows: &Rows, offset: usize) -> [__m256i; 4] {
    // SAFETY: the caller guarantees a block at each row, of which `offset` leaves at least sixteen bytes.
    let load = |row: usize| unsafe {
        let [front, back] = [rows[row], rows[row + 4]].map(|row| _mm_loadu_si128(row.add(offset).cast()));
        _mm256_set_m128i(back, front)
    };
    let (ae, bf, cg, dh) = (load(0), load(1), load(2), load(3));
    let (low, high) = (_mm256_unpacklo_epi32(ae, bf), _mm256_unpacklo_epi32(cg, dh));
    let (third, fourth) = (_mm256_unpackhi_epi32(ae, bf), _mm256_unpackhi_epi32(cg, dh));
    [
        _mm256_unpacklo_epi64(low, high),
        _mm256_unpackhi_epi64(low, high),
        _mm256_unpacklo_epi64(third, fourth),
        _mm256_unpackhi_epi64(third, fourth),
    ]
}

/// 16 bytes of nibbles: the low ones, then the high ones.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn nibbles(bytes: *const u8) -> __m256i {
    // SAFETY: the caller guarantees 16 bytes there.
    let twice = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(bytes.cast()) });
    let shifted = _mm256_srlv_epi64(twice, _mm256_setr_epi64x(0, 0, 4, 4));
    _mm256_and_si256(shifted, _mm256_set1_epi8(15))
}

/// A 32-bit word of each row.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn words_of(rows: &Rows, offset: usize) -> __m256i {
    // SAFETY: the caller guarantees a block at each row, of which `offset` leaves at least four bytes.
    let words = rows.map(|row| unsafe { row.add(offset).cast::<i32>().read_unaligned() });
    _mm256_setr_epi32(words[0], words[1], words[2], words[3], words[4], words[5], words[6], words[7])
}

/// A 16-bit word of each row, zero-extended.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn half_words_of(rows: &Rows, offset: usize) -> __m256i {
    // SAFETY: the caller guarantees a block at each row, of which `offset` leaves at least two bytes.
    let words = rows.map(|row| i32::from(unsafe { row.add(offset).cast::<u16>().read_unaligned() }));
    _mm256_setr_epi32(words[0], words[1], words[2], words[3], words[4], words[5], words[6], words[7])
}

/// Eight bytes of each row, transposed by index.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn bytes_of(rows: &Rows, offset: usize) -> [__m256i; 8] {
    let mut bytes = [_mm256_setzero_si256(); 8];
    for (bytes, row) in bytes.iter_mut().zip(rows) {
        // SAFETY: the caller guarantees a block at each row, of which `offset` leaves at least eight bytes.
        *bytes = _mm256_cvtepu8_epi32(unsafe { _mm_loadl_epi64(row.add(offset).cast()) });
    }
    transpose(bytes)
}

/// Decodes scales of a few bits that stand for odd numbers: 2 × bits + 1.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn odd(bits: __m256i) -> __m256 {
    _mm256_cvtepi32_ps(_mm256_or_si256(_mm256_add_epi32(bits, bits), _mm256_set1_epi32(1)))
}

/// Expands 32 bits to 32 byte masks.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn mask_of(bits: i32) -> __m256i {
    let bits = _mm256_set1_epi32(bits);
    // Replicate each byte eight times, then test one bit in each copy.
    let spread = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
    let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(bits, spread), bit), bit)
}

/// `zero` plus the magnitudes, negated where the mask is set.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn with_signs(magnitudes: __m256i, minus: __m256i, zero: i8) -> __m256i {
    let signed = _mm256_sub_epi8(_mm256_xor_si256(magnitudes, minus), minus);
    _mm256_add_epi8(signed, _mm256_set1_epi8(zero))
}

/// Byte masks of the eight signs that seven bits encode, first column lowest.
static SIGN_MASKS: [u64; 128] = {
    let mut masks = [0; 128];
    let mut column = 0;
    while column < 8 * masks.len() {
        let minus = SIGNS[column / 8] >> (column % 8) & 1;
        masks[column / 8] |= (0xff * minus as u64) << (8 * (column % 8));
        column += 1;
    }
    masks
};

/// Expands four times seven bits to 32 byte masks, set for negative columns.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn sign_masks(bits: u32) -> __m256i {
    let mask = |part: usize| SIGN_MASKS[(bits >> (7 * part)) as usize & 127] as i64;
    _mm256_setr_epi64x(mask(0), mask(1), mask(2), mask(3))
}

/// Looks up each byte, 0 to 15, in the table.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn look_up(table: &[i8; 16], indices: __m256i) -> __m256i {
    // SAFETY: the table has 16 bytes.
    let table = unsafe { _mm_loadu_si128(table.as_ptr().cast()) };
    _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), indices)
}

/// Extracts one of four groups whose bit pairs share 32 bytes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn bit_pairs(bytes: *const u8, group: usize) -> __m256i {
    // SAFETY: the caller guarantees 64 bytes there.
    let four = unsafe { _mm256_loadu_si256(bytes.add(32 * (group / 4)).cast()) };
    let shifted = _mm256_srl_epi16(four, _mm_cvtsi32_si128(2 * (group % 4) as i32));
    _mm256_and_si256(shifted, _mm256_set1_epi8(3))
}

/// Transposes 8 × 8 words of 32 bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernels) fn transpose(rows: [__m256i; 8]) -> [__m256i; 8] {
    let [a, b, c, d, e, f, g, h] = rows;
    let pairs = |a, b| (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let ((ab0, ab1), (cd0, cd1), (ef0, ef1), (gh0, gh1)) = (pairs(a, b), pairs(c, d), pairs(e, f), pairs(g, h));
    let quads = |a, b| (_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
    let ((front0, front1), (front2, front3)) = (quads(ab0, cd0), quads(ab1, cd1));
    let ((back0, back1), (back2, back3)) = (quads(ef0, gh0), quads(ef1, gh1));
    [
        _mm256_permute2x128_si256::<0x20>(front0, back0),
        _mm256_permute2x128_si256::<0x20>(front1, back1),
        _mm256_permute2x128_si256::<0x20>(front2, back2),
        _mm256_permute2x128_si256::<0x20>(front3, back3),
        _mm256_permute2x128_si256::<0x31>(front0, back0),
        _mm256_permute2x128_si256::<0x31>(front1, back1),
        _mm256_permute2x128_si256::<0x31>(front2, back2),
        _mm256_permute2x128_si256::<0x31>(front3, back3),
    ]
}

#[cfg(test)]
mod tests;
