//! F32, F16 and BF16 weights times f32 activations on NEON.
//!
//! Each (row, token) has eight sums in two registers, lane = column modulo 8, reduced at the end by [`store`]. With one token,
//! four rows are read in place. With more, 256 columns of eight rows at a time are widened into a strip and reused for a block of
//! tokens, in tiles of four rows × three tokens: 24 of the 32 registers hold sums. Strip and tile stay in L1; partial sums wait
//! in L2 for the next columns.

use std::arch::aarch64::*;
use std::ops::Range;

use super::super::vector::widen;
use crate::kernels::matmul::Chunk;
use crate::kernels::scratch::{Numbers, with_scratch};
use crate::quant::{BF16, F16, F32, Plain};

/// Rows per tile.
const ROWS: usize = 4;
/// Tokens per tile.
const TILE: usize = 3;
/// Row tiles per strip.
const TILES: usize = 2;
/// Accumulator lanes per row and token.
const LANES: usize = 8;
/// Columns per strip.
const WIDTH: usize = 256;
/// Tokens that reuse a strip.
const TOKENS: usize = 128;

/// Eight columns, or their sums.
type Eight = [float32x4_t; 2];

/// A thread's working memory: the strip, eight columns at a time, and the sums of a block of tokens.
#[derive(Clone, Copy)]
struct Scratch {
    strip: [[[Eight; WIDTH / LANES]; ROWS]; TILES],
    sums: [[[Eight; ROWS]; TILES]; TOKENS],
}

// SAFETY: plain vectors of numbers.
unsafe impl Numbers for Scratch {}

/// Reader of a plain type for NEON.
pub(super) trait Wide: Plain {
    /// Eight elements as f32.
    ///
    /// # Safety
    /// They are readable.
    unsafe fn load(from: *const u8) -> Eight;
}

impl Wide for F32 {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn load(from: *const u8) -> Eight {
        // SAFETY: upheld by the caller.
        unsafe { eight(from.cast()) }
    }
}

impl Wide for F16 {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn load(from: *const u8) -> Eight {
        // SAFETY: upheld by the caller.
        widen(unsafe { vreinterpretq_u16_u8(vld1q_u8(from)) }).parts()
    }
}

impl Wide for BF16 {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn load(from: *const u8) -> Eight {
        // SAFETY: upheld by the caller.
        let bits = unsafe { vreinterpretq_u16_u8(vld1q_u8(from)) };
        let wide = [vshll_n_u16::<16>(vget_low_u16(bits)), vshll_high_n_u16::<16>(bits)];
        wide.map(|bits| vreinterpretq_f32_u32(bits))
    }
}

/// Eight f32.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn eight(from: *const f32) -> Eight {
    // SAFETY: the caller guarantees them there; alignment is not required.
    unsafe { [vld1q_f32(from), vld1q_f32(from.add(4))] }
}

/// The table's function for type `P`.
///
/// # Safety
/// See [`crate::kernels::matmul::RowsKernel`].
pub(super) unsafe fn rows<P: Wide>(chunk: &Chunk<'_>) {
    let tokens = chunk.x.tokens();
    if tokens == 1 {
        for first in chunk.rows.clone().step_by(ROWS) {
            // SAFETY: the row's bytes are readable, the rows belong to this chunk.
            unsafe { one_token::<P>(chunk, first) };
        }
        return;
    }
    with_scratch::<Scratch, _>(1, |scratch| {
        let scratch = &mut scratch[0];
        for block in (0..tokens).step_by(TOKENS) {
            let block = block..(block + TOKENS).min(tokens);
            for first in chunk.rows.clone().step_by(TILES * ROWS) {
                // SAFETY: the rows belong to this chunk, the tokens exist.
                unsafe { strip_rows::<P>(chunk, first, block.clone(), scratch) };
            }
        }
    });
}

/// Eight rows of a block of tokens.
#[target_feature(enable = "neon")]
unsafe fn strip_rows<P: Wide>(chunk: &Chunk<'_>, first: usize, block: Range<usize>, scratch: &mut Scratch) {
    let columns = chunk.weight.columns;
    for start in (0..columns).step_by(WIDTH) {
        let width = (columns - start).min(WIDTH);
        for row in 0..TILES * ROWS {
            let bytes = &chunk.row((first + row).min(chunk.rows.end - 1))[start * P::BYTES..][..width * P::BYTES];
            fill::<P>(bytes, &mut scratch.strip[row / ROWS][row % ROWS]);
        }
        for token in block.clone().step_by(TILE) {
            let place = token - block.start;
            // SAFETY: the strip was just filled, the tokens exist, and their sums have slots.
            unsafe {
                match block.end - token {
                    1 => tile::<1>(chunk, start, width, token, place, scratch),
                    2 => tile::<2>(chunk, start, width, token, place, scratch),
                    _ => tile::<TILE>(chunk, start, width, token, place, scratch),
                }
            }
        }
    }
    for token in block.clone() {
        for tile in 0..TILES {
            // SAFETY: the sums were filled in by the tiles; the rows belong to this chunk.
            unsafe { store(chunk, token, first + tile * ROWS, scratch.sums[token - block.start][tile]) };
        }
    }
}

/// The elements past a row's last whole eight, zero-padded.
#[target_feature(enable = "neon")]
fn tail<P: Plain>(row: &[u8]) -> Eight {
    let whole = row.len() / (LANES * P::BYTES) * (LANES * P::BYTES);
    let mut tail = [0.0; LANES];
    P::widen(&row[whole..], &mut tail);
    // SAFETY: eight values.
    unsafe { eight(tail.as_ptr()) }
}

/// Elements to f32, zero-padded to a multiple of eight.
#[target_feature(enable = "neon")]
fn fill<P: Wide>(bytes: &[u8], places: &mut [Eight]) {
    let whole = bytes.len() / (LANES * P::BYTES);
    for (index, place) in places[..whole].iter_mut().enumerate() {
        // SAFETY: eight elements end within `bytes`.
        *place = unsafe { P::load(bytes.as_ptr().add(index * LANES * P::BYTES)) };
    }
    if whole * LANES * P::BYTES < bytes.len() {
        places[whole] = tail::<P>(bytes);
    }
}

/// Four rows of one token.
#[target_feature(enable = "neon")]
unsafe fn one_token<P: Wide>(chunk: &Chunk<'_>, first: usize) {
    let x = chunk.x.values(0).as_ptr();
    let rows: [_; ROWS] = std::array::from_fn(|row| chunk.row((first + row).min(chunk.rows.end - 1)));
    let whole = chunk.weight.columns / LANES * LANES;
    let mut sums = [[vdupq_n_f32(0.0); 2]; ROWS];
    // SAFETY: vectors end within the rows; activations are padded to whole vectors.
    unsafe {
        for column in (0..whole).step_by(LANES) {
            let x = eight(x.add(column));
            for (sums, row) in sums.iter_mut().zip(rows) {
                *sums = add_products(*sums, P::load(row.as_ptr().add(column * P::BYTES)), x);
            }
        }
        if whole < chunk.weight.columns {
            let x = eight(x.add(whole));
            for (sums, row) in sums.iter_mut().zip(rows) {
                *sums = add_products(*sums, tail::<P>(row), x);
            }
        }
    }
    // SAFETY: the rows belong to this chunk.
    unsafe { store(chunk, 0, first, sums) };
}

#[inline]
#[target_feature(enable = "neon")]
fn add_products(sums: Eight, weights: Eight, x: Eight) -> Eight {
    [vfmaq_f32(sums[0], weights[0], x[0]), vfmaq_f32(sums[1], weights[1], x[1])]
}

/// A strip's rows × `T` tokens, columns `start .. start + width`: adds to the sums, or initialises them.
#[target_feature(enable = "neon")]
#[allow(clippy::needless_range_loop, reason = "registers, not memory")]
unsafe fn tile<const T: usize>(
    chunk: &Chunk<'_>,
    start: usize,
    width: usize,
    token: usize,
    place: usize,
    scratch: &mut Scratch,
) {
    let x: [*const f32; T] = std::array::from_fn(|t| chunk.x.values(token + t)[start..].as_ptr());
    for tile in 0..TILES {
        let mut sums = [[[vdupq_n_f32(0.0); 2]; ROWS]; T];
        if start > 0 {
            for (t, sums) in sums.iter_mut().enumerate() {
                *sums = scratch.sums[place + t][tile];
            }
        }
        let strip = &scratch.strip[tile];
        for vector in 0..width.div_ceil(LANES) {
            // Register by register, so that those not holding sums are enough.
            for part in 0..2 {
                // SAFETY: activations are padded to whole vectors; a strip is at least `width` wide.
                unsafe {
                    let here = x.map(|x| vld1q_f32(x.add(vector * LANES + 4 * part)));
                    for row in 0..ROWS {
                        let weights = strip[row].get_unchecked(vector)[part];
                        for t in 0..T {
                            sums[t][row][part] = vfmaq_f32(sums[t][row][part], weights, here[t]);
                        }
                    }
                }
            }
        }
        for (t, sums) in sums.into_iter().enumerate() {
            scratch.sums[place + t][tile] = sums;
        }
    }
}

/// Reduces four rows' sums and stores them, or fewer at the end of the chunk.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn store(chunk: &Chunk<'_>, token: usize, first: usize, sums: [Eight; ROWS]) {
    let [a, b, c, d] = sums.map(|[low, high]| vaddq_f32(low, high));
    let totals = vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d));
    let mut lanes = [0.0; ROWS];
    // SAFETY: four lanes to four values; the rows belong to this chunk.
    unsafe {
        vst1q_f32(lanes.as_mut_ptr(), totals);
        chunk.store(token, first, &lanes);
    }
}
