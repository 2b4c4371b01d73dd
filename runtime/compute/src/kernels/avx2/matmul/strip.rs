//! Strips: sixteen rows unpacked for tiles that reuse them over many tokens.
//!
//! A group of 32 columns becomes eight pairs of vectors, each with four columns of every row, so that a broadcast of four
//! activations meets all rows at once. AVX-512 reads the same strip, a pair of vectors as one.

use std::arch::x86_64::*;

use super::blocks::{Block, Header, Rows, transpose};
use super::few::fetch;
use crate::kernels::matmul::Chunk;
use crate::kernels::scratch::{Numbers, with_scratch};
use crate::quant::GROUP;

/// Rows in a strip: two vectors of them.
const STRIP: usize = 16;

/// One group of 32 columns of a strip's rows, as a tile reads it. `[vector of rows]` where there are two.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(in crate::kernels) struct StripGroup {
    /// Columns four by four; in a vector eight rows of such four. Both vectors together are sixteen rows.
    pub(in crate::kernels) levels: [[__m256i; 2]; 8],
    pub(in crate::kernels) scale: [__m256; 2],
    pub(in crate::kernels) offset: [__m256; 2],
    /// Integer scales of the first half and of the second, each twice as i16 in its word. Where halves are apart: the bits of
    /// scale and offset of the second half, and the first's are `scale` and `offset`.
    pub(in crate::kernels) halves: [[__m256i; 2]; 2],
}

impl StripGroup {
    /// Scale and offset of a half that is apart.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn apart(&self, half: usize, vector: usize) -> (__m256, __m256) {
        match half {
            0 => (self.scale[vector], self.offset[vector]),
            _ => (_mm256_castsi256_ps(self.halves[0][vector]), _mm256_castsi256_ps(self.halves[1][vector])),
        }
    }
}

// SAFETY: vectors of numbers, in whole cache lines.
unsafe impl Numbers for StripGroup {}

/// Unpacks the chunk's rows strip by strip, and calls `each` with the first row and the strip. With `UNSIGNED`, 128 is added to
/// levels that are signed: what `vpdpbusd` takes, once for all tokens.
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernels) fn for_each_strip<B: Block, const UNSIGNED: bool>(
    chunk: &Chunk<'_>,
    mut each: impl FnMut(usize, &[StripGroup]),
) {
    let blocks = chunk.weight.columns / (B::GROUPS * GROUP);
    with_scratch::<StripGroup, _>(blocks * B::GROUPS, |strip| {
        for first in chunk.rows.clone().step_by(STRIP) {
            for vector in 0..2 {
                // SAFETY: the rows' pointers are followed by `blocks` blocks each; the strip has a place for every group.
                unsafe { unpack::<B, UNSIGNED>(&pointers(chunk, first + 8 * vector), vector, blocks, strip) };
            }
            each(first, strip);
        }
    });
}

/// Calls `$tile::<$B, T>(chunk, first, token, strip)` for all tokens of every strip ([`for_each_strip`]), each time with the largest `T` of the falling
/// list, which ends with 1, that is left. A macro, since a function given as an argument would lose its instruction set.
macro_rules! for_each_tile {
    ($chunk:ident, $B:ident, unsigned: $unsigned:literal, $tile:ident, [$($count:literal)+]) => {
        for_each_strip::<$B, $unsigned>($chunk, |first, strip| {
            let tokens = $chunk.x.tokens();
            let mut token = 0;
            while token < tokens {
                // SAFETY: the tokens exist, and have as many groups as the strip; the rows are this chunk's.
                unsafe {
                    $(if tokens - token >= $count {
                        $tile::<$B, $count>($chunk, first, token, strip);
                        token += $count;
                        continue;
                    })+
                }
            }
        })
    };
}
pub(in crate::kernels) use for_each_tile;

/// Eight rows from `first` on; past the chunk's last, the last again.
pub(in crate::kernels) fn pointers(chunk: &Chunk<'_>, first: usize) -> Rows {
    std::array::from_fn(|row| chunk.row((first + row).min(chunk.rows.end - 1)).as_ptr())
}

/// Unpacks eight rows into one of the vectors of a strip.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn unpack<B: Block, const UNSIGNED: bool>(rows: &Rows, vector: usize, blocks: usize, strip: &mut [StripGroup]) {
    let mut header = Header::new();
    for block in 0..blocks {
        // SAFETY: the caller has `blocks` blocks at each row, and places in the strip.
        unsafe {
            // With few tokens this is most of the time, and bound by memory.
            let ahead = rows[0].wrapping_add(8 * (blocks + block) * B::BYTES);
            let rows = rows.map(|row| row.add(block * B::BYTES));
            B::header(&rows, &mut header);
            for group in 0..B::GROUPS {
                let bytes = 8 * B::BYTES / B::GROUPS;
                fetch(ahead.wrapping_add(group * bytes), 8 * blocks * B::BYTES, bytes, 0, 1);
                let place = strip.get_unchecked_mut(block * B::GROUPS + group);
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
