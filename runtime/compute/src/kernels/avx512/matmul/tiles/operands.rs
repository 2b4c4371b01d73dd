//! The operands of products in tiles: rows of weights unpacked to BF16, and tokens laid out in pairs of columns.

use std::arch::x86_64::*;
use std::ops::Range;

use crate::kernels::avx2::matmul::blocks::{Block, Header, Rows};
use crate::kernels::avx2::matmul::few::fetch;
use crate::kernels::avx512::matmul::sixteen::transposed;
use crate::kernels::avx512::matmul::units::{Wide, pack_bf16, pairs};
use crate::kernels::matmul::{TILE_TOKENS, TokenTile};
use crate::kernels::scratch::Numbers;
use crate::quant::{self, BF16, F16, GROUP};

/// Rows of a tile.
pub(super) const ROWS: usize = 16;

/// 32 columns of sixteen rows in BF16, as a product of tiles takes its first operand.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(in crate::kernels::avx512::matmul) struct Tile(pub(super) [[u16; GROUP]; ROWS]);

// SAFETY: plain numbers, whole cache lines.
unsafe impl Numbers for Tile {}

/// A type whose rows are unpacked for products in tiles.
pub(in crate::kernels::avx512::matmul) trait Tiled {
    /// Tiles for each group of columns: one of weights rounded to BF16, or two whose sums are the weights.
    const PLANES: usize;
    /// Groups of columns that can only be read together.
    const GROUPS: usize;

    /// Unpacks some groups of eight rows to rows `row ..` of tiles, [`Self::PLANES`] for each group.
    ///
    /// # Safety
    /// The rows have these columns, of which the groups are a part; the processor supports AVX-512 with BF16.
    unsafe fn unpack(rows: &Rows, columns: usize, groups: Range<usize>, tiles: &mut [Tile], row: usize);
}

/// Quantised types that are multiplied in tiles. The others are rare, or take longer to unpack; the list keeps the executable small.
macro_rules! tiled {
    ($($name:ident)+) => {
        $(impl Tiled for quant::$name {
            const PLANES: usize = 1;
            const GROUPS: usize = <Self as quant::Block>::GROUPS;

            #[inline]
            unsafe fn unpack(rows: &Rows, columns: usize, groups: Range<usize>, tiles: &mut [Tile], row: usize) {
                // SAFETY: upheld by the caller.
                unsafe { unpack_blocks::<Self>(rows, columns, groups, tiles, row) };
            }
        })+
    };
}

tiled!(Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2K Q3K Q4K Q5K Q6K IQ4NL IQ4XS MXFP4);

impl Tiled for BF16 {
    const PLANES: usize = 1;
    const GROUPS: usize = 1;

    #[inline]
    unsafe fn unpack(rows: &Rows, columns: usize, groups: Range<usize>, tiles: &mut [Tile], row: usize) {
        // SAFETY: upheld by the caller.
        unsafe { unpack_plain::<Self, 1>(rows, columns, groups, tiles, row) };
    }
}

/// Eleven bits of mantissa are those of two BF16.
impl Tiled for F16 {
    const PLANES: usize = 2;
    const GROUPS: usize = 1;

    #[inline]
    unsafe fn unpack(rows: &Rows, columns: usize, groups: Range<usize>, tiles: &mut [Tile], row: usize) {
        // SAFETY: upheld by the caller.
        unsafe { unpack_plain::<Self, 2>(rows, columns, groups, tiles, row) };
    }
}

/// [`Tiled::unpack`] of whole blocks.
#[inline(never)]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
unsafe fn unpack_blocks<B: Block>(rows: &Rows, columns: usize, groups: Range<usize>, tiles: &mut [Tile], row: usize) {
    const {
        let most = match B::MAX_LEVEL {
            Some(most) => most - B::ZERO,
            None => 127,
        };
        assert!(most <= 127, "levels are read as i8");
    }
    let mut header = Header::new();
    let (first, far) = (groups.start / B::GROUPS, columns / (GROUP * B::GROUPS) * B::BYTES);
    let count = groups.len() / B::GROUPS;
    for (index, tiles) in tiles.chunks_exact_mut(B::GROUPS).take(count).enumerate() {
        // SAFETY: the caller guarantees the blocks, and that the processor has what their readers need.
        unsafe {
            let blocks = rows.map(|row| row.add((first + index) * B::BYTES));
            // The same columns of the next eight rows, row by row.
            let (ahead, at) = (8 * index / count, 8 * index % count);
            let next = rows[0].wrapping_add((8 + ahead) * far + (first + at) * B::BYTES);
            B::header(&blocks, &mut header);
            for (group, tile) in tiles.iter_mut().enumerate() {
                let bytes = 8 * B::BYTES / B::GROUPS;
                fetch(next.wrapping_add(group * bytes), 8 * far, bytes, 0, 1);
                let halves = [half_of::<B>(&header, group, 0), half_of::<B>(&header, group, 1)];
                for (lane, (&block, place)) in blocks.iter().zip(&mut tile.0[row..]).enumerate() {
                    let levels = _mm256_sub_epi8(B::levels(block, group), _mm256_set1_epi8(B::ZERO as i8));
                    let levels = [_mm256_castsi256_si128(levels), _mm256_extracti128_si256::<1>(levels)];
                    let [first, second] = [0, 1].map(|half| {
                        let Half { scale, offset } = &halves[half];
                        let level = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(levels[half]));
                        match B::OFFSET {
                            true => _mm512_fmadd_ps(level, _mm512_set1_ps(scale[lane]), _mm512_set1_ps(offset[lane])),
                            false => _mm512_mul_ps(level, _mm512_set1_ps(scale[lane])),
                        }
                    });
                    _mm512_store_ps(place.as_mut_ptr().cast(), pairs(first, second));
                }
            }
        }
    }
}

/// What turns levels of half a group into weights, by row.
struct Half {
    scale: [f32; 8],
    offset: [f32; 8],
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn half_of<B: Block>(header: &Header, group: usize, half: usize) -> Half {
    let (mut scale, mut offset) = (header.scale[group], header.offset[group]);
    if B::APART && half == 1 {
        (scale, offset) = (header.upper_scale[group], header.upper_offset[group]);
    }
    if B::HALVES {
        // A pair of i16: shifted up, then down with its sign.
        let up = _mm_cvtsi32_si128(if half == 0 { 16 } else { 0 });
        let factors = _mm256_srai_epi32::<16>(_mm256_sll_epi32(header.halves[group], up));
        scale = _mm256_mul_ps(scale, _mm256_cvtepi32_ps(factors));
    }
    let mut of = Half { scale: [0.0; 8], offset: [0.0; 8] };
    // SAFETY: eight values each.
    unsafe {
        _mm256_storeu_ps(of.scale.as_mut_ptr(), scale);
        if B::OFFSET {
            _mm256_storeu_ps(of.offset.as_mut_ptr(), offset);
        }
    }
    of
}

/// [`Tiled::unpack`] of single weights, zero past the last column.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
unsafe fn unpack_plain<P: Wide, const PLANES: usize>(
    rows: &Rows,
    columns: usize,
    groups: Range<usize>,
    tiles: &mut [Tile],
    row: usize,
) {
    let first = groups.start;
    for (index, tiles) in tiles.chunks_exact_mut(PLANES).take(groups.len()).enumerate() {
        let column = (first + index) * GROUP;
        for (lane, from) in rows.iter().enumerate() {
            // SAFETY: the caller guarantees these columns of each row.
            let mut rest = unsafe {
                let from = from.add(column * P::BYTES);
                if column + GROUP <= columns {
                    [P::load(from), P::load(from.add(GROUP / 2 * P::BYTES))]
                } else {
                    let mut tail = [0.0; GROUP];
                    P::widen(std::slice::from_raw_parts(from, (columns - column) * P::BYTES), &mut tail);
                    [_mm512_loadu_ps(tail.as_ptr()), _mm512_loadu_ps(tail.as_ptr().add(GROUP / 2))]
                }
            };
            for tile in tiles.iter_mut() {
                let rounded = pairs(rest[0], rest[1]);
                // SAFETY: a row is a cache line.
                unsafe { _mm512_store_ps(tile.0[row + lane].as_mut_ptr().cast(), rounded) };
                let rounded = _mm512_castps_si512(rounded);
                let halves = [_mm512_castsi512_si256(rounded), _mm512_extracti64x4_epi64::<1>(rounded)];
                for (rest, half) in rest.iter_mut().zip(halves) {
                    let widened = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half));
                    *rest = _mm512_sub_ps(*rest, _mm512_castsi512_ps(widened));
                }
            }
        }
    }
}

/// The table's function for [`crate::kernels::matmul::PromptKernels::lay_out`].
///
/// # Safety
/// See there; the processor supports AVX-512 with BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(in crate::kernels::avx512) unsafe fn lay_out(x: &[f32], columns: usize, tiles: &mut [TokenTile]) {
    for (group, tile) in tiles.iter_mut().enumerate() {
        let mut words = [_mm512_setzero_si512(); TILE_TOKENS];
        for (words, x) in words.iter_mut().zip(x.chunks_exact(columns)) {
            let x = &x[group * GROUP..];
            let mut tail = [0.0; GROUP];
            let x = x.first_chunk::<GROUP>().unwrap_or_else(|| {
                tail[..x.len()].copy_from_slice(x);
                &tail
            });
            *words = _mm512_castps_si512(pack_bf16(x));
        }
        for (line, words) in tile.0.iter_mut().zip(transposed(words)) {
            // SAFETY: sixteen words on a cache line.
            unsafe { _mm512_store_si512(line.as_mut_ptr().cast(), words) };
        }
    }
}

#[cfg(test)]
mod tests;
