//! Sixteen rows of quantised weights, read in place.
//!
//! A group is transposed in registers into the eight vectors of a strip, four columns of every row in each, and multiplied there
//! with a few tokens: no horizontal sums, no stores; apart from its products a token costs the same as in a tile. (Strips are
//! unpacked by `avx2`: its shuffles have two ports, 512-bit ones have one.)

use std::arch::x86_64::*;
use std::mem::offset_of;

use super::integer::Scaling;
use crate::kernels::avx2::matmul::blocks::{Block, Header, Rows};
use crate::kernels::avx2::matmul::few;
use crate::kernels::matmul::Chunk;
use crate::quant;

/// Maximum tokens that share one read of sixteen rows.
pub(super) const MOST: usize = 8;

/// Sixteen rows in two sets of eight.
pub(super) type Octets = [Rows; 2];

/// The rows from `first` on.
pub(super) fn octets(chunk: &Chunk<'_>, first: usize) -> Octets {
    [chunk.pointers(first), chunk.pointers(first + 8)]
}

/// The same rows, `offset` bytes further on.
#[inline]
pub(super) unsafe fn rows_at(octets: &Octets, offset: usize) -> Octets {
    // SAFETY: the caller guarantees that many bytes in each row.
    octets.map(|rows| rows.map(|row| unsafe { row.add(offset) }))
}

/// A quantised type read sixteen rows at a time.
pub(super) trait Sixteen: Block {
    /// Up to this many tokens are left to the eight-row path.
    ///
    /// For most types it is as fast up to four tokens (2048 × 2048 weights from memory, this path against that: Q4_K 2 % slower,
    /// Q5_K 5 % faster, Q6_K, whose scales `madd` applies, 15 % slower); types that are cheap to transpose gain from two on (Q4_1
    /// 10 %, with four 12 %). A single token is memory-bound on any path, and that path prefetches in smaller pieces (2 to 17 %).
    const EIGHT_ROWS: usize;

    /// Up to this many are multiplied like this: [`MOST`], or, where a strip is as fast or halves have separate scales, no more
    /// than with eight rows.
    const SIXTEEN_ROWS: usize = MOST;

    /// The levels of a group of each row's block: each vector holds four columns of every row.
    ///
    /// # Safety
    /// See [`Block::levels`]; the processor supports AVX-512 F, BW, VL and DQ.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn quads(rows: &Octets, group: usize) -> [__m512i; 8] {
        let mut levels = [_mm256_setzero_si256(); 16];
        for (place, &row) in levels.iter_mut().zip(rows.as_flattened()) {
            // SAFETY: upheld by the caller.
            *place = unsafe { Self::levels(row, group) };
        }
        turned(levels)
    }
}

/// Transposes sixteen rows of as many 32-bit words.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) fn transposed(rows: [__m512i; 16]) -> [__m512i; 16] {
    let mut columns = [_mm512_setzero_si512(); 16];
    let (front, back) = columns.split_at_mut(8);
    front.copy_from_slice(&turned(rows.map(|row| _mm512_castsi512_si256(row))));
    back.copy_from_slice(&turned(rows.map(|row| _mm512_extracti64x4_epi64::<1>(row))));
    columns
}

/// Transposes rows of eight 32-bit words.
#[inline]
#[target_feature(enable = "avx512f")]
fn turned(rows: [__m256i; 16]) -> [__m512i; 8] {
    let mut pairs = [_mm512_setzero_si512(); 8];
    for (index, pair) in pairs.iter_mut().enumerate() {
        // Rows 0 and 4, 1 and 5, …: `four_by_four` then yields them in order.
        let front = index / 4 * 8 + index % 4;
        *pair = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(rows[front]), rows[front + 4]);
    }
    let [first, second, third, fourth] = four_by_four([pairs[0], pairs[1], pairs[2], pairs[3]]);
    let [fifth, sixth, seventh, eighth] = four_by_four([pairs[4], pairs[5], pairs[6], pairs[7]]);
    let lower = |front, back| _mm512_shuffle_i64x2::<0b10_00_10_00>(front, back);
    let upper = |front, back| _mm512_shuffle_i64x2::<0b11_01_11_01>(front, back);
    [
        lower(first, fifth),
        lower(second, sixth),
        lower(third, seventh),
        lower(fourth, eighth),
        upper(first, fifth),
        upper(second, sixth),
        upper(third, seventh),
        upper(fourth, eighth),
    ]
}

/// Transposes 4 × 4 words of 32 bits within each 128 bits.
#[inline]
#[target_feature(enable = "avx512f")]
fn four_by_four([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let (low, high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
    let (third, fourth) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
    [
        _mm512_unpacklo_epi64(low, high),
        _mm512_unpackhi_epi64(low, high),
        _mm512_unpacklo_epi64(third, fourth),
        _mm512_unpackhi_epi64(third, fourth),
    ]
}

/// Sixteen bytes of each row, transposed by 32-bit word.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
unsafe fn four_words_of(rows: &Octets, offset: usize) -> [__m512i; 4] {
    let mut fours = [_mm512_setzero_si512(); 4];
    for (row, place) in fours.iter_mut().enumerate() {
        // SAFETY: the caller guarantees a block at each row, of which `offset` leaves at least sixteen bytes.
        unsafe {
            let load = |row: *const u8| _mm_loadu_si128(row.add(offset).cast());
            let [front, back] = rows;
            let four = _mm512_castsi128_si512(load(front[row]));
            let four = _mm512_inserti32x4::<1>(four, load(front[row + 4]));
            let four = _mm512_inserti32x4::<2>(four, load(back[row]));
            *place = _mm512_inserti32x4::<3>(four, load(back[row + 4]));
        }
    }
    four_by_four(fours)
}

/// Sixteen bytes of nibbles per row: the low ones are the first half of a group, the high ones the second.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
unsafe fn nibbles(rows: &Octets, offset: usize) -> [__m512i; 8] {
    // SAFETY: upheld by the caller.
    let [a, b, c, d] = unsafe { four_words_of(rows, offset) };
    let low = |words| _mm512_and_si512(words, _mm512_set1_epi8(15));
    let high = |words| low(_mm512_srli_epi32::<4>(words));
    [low(a), low(b), low(c), low(d), high(a), high(b), high(c), high(d)]
}

/// Types whose blocks are a single group of nibbles.
macro_rules! nibbles {
    ($($name:ident)+) => {$(
        impl Sixteen for quant::$name {
            const EIGHT_ROWS: usize = 1;

            #[inline]
            #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
            unsafe fn quads(rows: &Octets, _: usize) -> [__m512i; 8] {
                // SAFETY: upheld by the caller.
                unsafe { nibbles(rows, offset_of!(Self, nibbles)) }
            }
        }
    )+};
}

nibbles!(Q4_0 Q4_1);

/// Types unpacked row by row.
macro_rules! by_rows {
    ($eight_rows:expr, $sixteen_rows:expr; $($name:ident)+) => {
        $(impl Sixteen for quant::$name {
            const EIGHT_ROWS: usize = $eight_rows;
            const SIXTEEN_ROWS: usize = $sixteen_rows;
        })+
    };
}

by_rows!(1, MOST; Q8_0 IQ4NL IQ4XS MXFP4);
by_rows!(few::FEW, MOST; Q5_0 Q5_1 Q4K Q5K Q6K);
by_rows!(few::FEW, few::FEW; Q2K Q3K IQ1S IQ1M IQ2XXS IQ2XS IQ2S IQ3XXS IQ3S TQ1_0 TQ2_0 NVFP4);

/// The levels of a group of the block at `rows`, as products need them: signed ones get 128 added if `UNSIGNED`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn levels<B: Sixteen, const UNSIGNED: bool>(rows: &Octets, group: usize) -> [__m512i; 8] {
    // SAFETY: upheld by the caller.
    let mut quads = unsafe { B::quads(rows, group) };
    if UNSIGNED && B::MAX_LEVEL.is_none() {
        for quad in &mut quads {
            *quad = _mm512_xor_si512(*quad, _mm512_set1_epi8(-128));
        }
    }
    quads
}

/// A group's header of sixteen rows: everything besides the levels.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) fn scaling<B: Block>([front, back]: &[Header; 2], group: usize) -> Scaling {
    let floats = |front, back| _mm512_insertf32x8::<1>(_mm512_castps256_ps512(front), back);
    let scale = floats(front.scale[group], back.scale[group]);
    let offset = floats(front.offset[group], back.offset[group]);
    let halves = if B::HALVES {
        let pairs = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(front.halves[group]), back.halves[group]);
        // As in `strip`: each scale duplicated as i16 in its word.
        let lower = _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff));
        let upper = _mm512_srli_epi32::<16>(pairs);
        [_mm512_or_si512(lower, _mm512_slli_epi32::<16>(pairs)), _mm512_or_si512(upper, _mm512_slli_epi32::<16>(upper))]
    } else {
        [_mm512_setzero_si512(); 2]
    };
    Scaling { scale, offset, halves }
}
