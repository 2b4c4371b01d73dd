//! Strips: sixteen rows unpacked for tiles that reuse them over many tokens.
//!
//! A group of 32 columns becomes eight pairs of vectors, each with four columns of every row, so that broadcasting four
//! activations multiplies all rows at once. AVX-512 reads the same strip, a pair of vectors as one.

use std::arch::x86_64::*;
use std::ops::Range;

use super::blocks::{Block, Header, Rows, transpose};
use super::few::fetch;
use crate::kernels::matmul::Chunk;
use crate::kernels::scratch::{Numbers, with_two_scratches};
use crate::quant::GROUP;

/// Rows per strip: two vectors of them.
const STRIP: usize = 16;

/// One group of 32 columns of a strip's rows, as a tile reads it. `[vector of rows]` where there are two.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(in crate::kernels) struct StripGroup {
    /// Quads of columns; a vector holds one quad of eight rows, both vectors together of sixteen.
    pub(in crate::kernels) levels: [[__m256i; 2]; 8],
    pub(in crate::kernels) scale: [__m256; 2],
    pub(in crate::kernels) offset: [__m256; 2],
    /// Integer scales of both halves, each duplicated as i16 in its word. If halves have separate scales: the bits of the second
    /// half's scale and offset; the first's are `scale` and `offset`.
    pub(in crate::kernels) halves: [[__m256i; 2]; 2],
}

impl StripGroup {
    /// Scale and offset of a half of its own.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn apart(&self, half: usize, vector: usize) -> (__m256, __m256) {
        match half {
            0 => (self.scale[vector], self.offset[vector]),
            _ => (_mm256_castsi256_ps(self.halves[0][vector]), _mm256_castsi256_ps(self.halves[1][vector])),
        }
    }
}

// SAFETY: plain vectors of numbers, in whole cache lines.
unsafe impl Numbers for StripGroup {}

/// Maximum groups of columns unpacked at once: 24 KB of the strip plus as much of eight tokens stay in L1, and 2 KB per token in
/// L2.
///
/// Measured on AVX-512 with 256 tokens (Q8_0, one thread, G operations/s): 2048 columns, 322 in one part and 357 like this; 8192
/// columns, whose activations exceed L2, 225 and 325.
const PART: usize = 32;

/// Rows whose partial sums are kept until the next part.
const WAITING_ROWS: usize = 128;

/// The sums of a strip's rows for one token.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(in crate::kernels) struct Sums(pub(in crate::kernels) [f32; STRIP]);

// SAFETY: plain numbers, a whole cache line.
unsafe impl Numbers for Sums {}

/// Bytes that [`for_each_piece`] needs for this many columns and tokens.
pub(in crate::kernels) fn thread_bytes(columns: usize, tokens: usize) -> usize {
    let groups = columns / GROUP;
    let waiting = if groups > PART { WAITING_ROWS / STRIP * tokens } else { 0 };
    groups.min(PART) * size_of::<StripGroup>() + waiting * size_of::<Sums>()
}

/// Some columns of a strip, with its rows' sums.
pub(in crate::kernels) struct Piece<'a> {
    /// The first row.
    pub(in crate::kernels) first: usize,
    /// The first group.
    pub(in crate::kernels) group: usize,
    pub(in crate::kernels) strip: &'a mut [StripGroup],
    /// Partial sums by token; empty if all columns are done at once.
    pub(in crate::kernels) sums: &'a mut [Sums],
    /// These are the last columns.
    pub(in crate::kernels) ends: bool,
}

impl Piece<'_> {
    /// These are the first columns.
    #[inline]
    pub(in crate::kernels) fn begins(&self) -> bool {
        self.group == 0
    }
}

/// Unpacks the chunk's rows strip by strip and part by part, and calls `each` with every piece. With `UNSIGNED`, 128 is added to
/// signed levels, as `vpdpbusd` needs, once for all tokens.
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernels) fn for_each_piece<B: Block, const UNSIGNED: bool>(
    chunk: &Chunk<'_>,
    mut each: impl FnMut(&mut Piece<'_>),
) {
    let blocks = chunk.weight.columns / (B::GROUPS * GROUP);
    let parts = (blocks * B::GROUPS).div_ceil(PART);
    // As few parts as possible, of roughly equal length.
    let part = blocks.div_ceil(parts);
    let tokens = chunk.x.tokens();
    let waiting = if parts == 1 { 0 } else { WAITING_ROWS / STRIP * tokens };
    with_two_scratches::<StripGroup, Sums, _>(part * B::GROUPS, waiting, |strip, sums| {
        for block in chunk.rows.clone().step_by(WAITING_ROWS) {
            let rows = block..(block + WAITING_ROWS).min(chunk.rows.end);
            for start in (0..blocks).step_by(part) {
                let columns = start..(start + part).min(blocks);
                let strip = &mut strip[..columns.len() * B::GROUPS];
                for (index, first) in rows.clone().step_by(STRIP).enumerate() {
                    for vector in 0..2 {
                        let octet = chunk.pointers(first + 8 * vector);
                        // SAFETY: each row pointer has `blocks` blocks; the strip has a slot for every group.
                        unsafe { unpack::<B, UNSIGNED>(&octet, vector, blocks, columns.clone(), strip) };
                    }
                    let sums = if waiting == 0 { &mut [] } else { &mut sums[index * tokens..][..tokens] };
                    each(&mut Piece {
                        first,
                        group: start * B::GROUPS,
                        strip: &mut *strip,
                        sums,
                        ends: columns.end == blocks,
                    });
                }
            }
        }
    });
}

/// Calls `$tile::<$B, T>(chunk, piece, token)` for all tokens of every piece ([`for_each_piece`]), each time with the largest
/// remaining `T` from the descending list, which ends with 1. A macro, since a function argument would lose its target features.
macro_rules! for_each_tile {
    ($chunk:ident, $B:ident, unsigned: $unsigned:literal, $tile:ident, [$($count:literal)+]) => {
        for_each_piece::<$B, $unsigned>($chunk, |piece| {
            let tokens = $chunk.x.tokens();
            let mut token = 0;
            while token < tokens {
                // SAFETY: the tokens exist and have the piece's groups; the rows belong to this chunk.
                unsafe {
                    $(if tokens - token >= $count {
                        $tile::<$B, $count>($chunk, piece, token);
                        token += $count;
                        continue;
                    })+
                }
            }
        })
    };
}
pub(in crate::kernels) use for_each_tile;

/// Unpacks the blocks `columns` of eight rows, of `blocks` each, into one vector of the strip. Never inlined: five tables share
/// it.
#[inline(never)]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn unpack<B: Block, const UNSIGNED: bool>(
    rows: &Rows,
    vector: usize,
    blocks: usize,
    columns: Range<usize>,
    strip: &mut [StripGroup],
) {
    let mut header = Header::new();
    let (start, count) = (columns.start, columns.len());
    for (index, block) in columns.enumerate() {
        // SAFETY: the caller guarantees `blocks` blocks at each row, and places in the strip.
        unsafe {
            // With few tokens this dominates and is memory-bound: prefetch the same columns of the next eight rows, row by row.
            let (row, at) = (8 * index / count, 8 * index % count);
            let next = rows[0].wrapping_add(((8 + row) * blocks + start + at) * B::BYTES);
            let rows = rows.map(|row| row.add(block * B::BYTES));
            B::header(&rows, &mut header);
            for group in 0..B::GROUPS {
                let bytes = 8 * B::BYTES / B::GROUPS;
                fetch(next.wrapping_add(group * bytes), 8 * blocks * B::BYTES, bytes, 0, 1);
                let place = strip.get_unchecked_mut(index * B::GROUPS + group);
                let mut levels = [_mm256_setzero_si256(); 8];
                for (levels, &row) in levels.iter_mut().zip(&rows) {
                    *levels = B::levels(row, group);
                    if UNSIGNED && B::MAX_LEVEL.is_none() {
                        *levels = _mm256_xor_si256(*levels, _mm256_set1_epi8(-128));
                    }
                }
                let columns = transpose(levels);
                for (place, columns) in place.levels.iter_mut().zip(columns) {
                    place[vector] = columns;
                }
                place.scale[vector] = header.scale[group];
                if B::OFFSET {
                    place.offset[vector] = header.offset[group];
                }
                if B::APART {
                    place.halves[0][vector] = _mm256_castps_si256(header.upper_scale[group]);
                    place.halves[1][vector] = _mm256_castps_si256(header.upper_offset[group]);
                }
                if B::HALVES {
                    let pairs = header.halves[group];
                    place.halves[0][vector] = _mm256_blend_epi16::<0b1010_1010>(pairs, _mm256_slli_epi32::<16>(pairs));
                    place.halves[1][vector] = _mm256_blend_epi16::<0b0101_0101>(pairs, _mm256_srli_epi32::<16>(pairs));
                }
            }
        }
    }
}
