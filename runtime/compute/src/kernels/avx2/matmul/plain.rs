//! F32, F16 and BF16 weights times f32 activations with AVX2 and FMA.
//!
//! A (row, token) has one vector of sums, lane = column modulo 8, added up at the end by [`store`]. With one token, four rows are
//! read where they lie. With more, 512 columns of eight rows at a time are widened into a strip and used for a block of tokens,
//! in tiles of four rows × three tokens: twelve vectors of sums, so that two FMA units of four cycles' latency always have work,
//! and seven loads for twelve FMAs. Strip and tile stay in the first cache; sums wait in the second for the next columns.

use std::arch::x86_64::*;
use std::ops::Range;

use crate::kernels::matmul::Chunk;
use crate::kernels::scratch::{Numbers, with_scratch};
use crate::quant::Plain;
pub(super) use crate::quant::{BF16, F16, F32};

/// Rows in a tile.
const ROWS: usize = 4;
/// Tokens in a tile.
const TILE: usize = 3;
/// Tiles of rows in a strip.
const TILES: usize = 2;
/// Columns in a vector.
const LANES: usize = 8;
/// Columns in a strip.
const WIDTH: usize = 512;
/// Tokens that a strip is used for.
const TOKENS: usize = 128;

/// Sums of a token with a strip's rows.
type Sums = [[__m256; ROWS]; TILES];

/// What a thread works with: the strip, vector by vector of columns, and the sums of a block of tokens.
#[derive(Clone, Copy)]
struct Scratch {
    strip: [[[__m256; WIDTH / LANES]; ROWS]; TILES],
    sums: [Sums; TOKENS],
}

// SAFETY: vectors of numbers.
unsafe impl Numbers for Scratch {}

/// A plain type as AVX2 reads it.
pub(super) trait Wide: Plain {
    /// Eight elements as f32.
    ///
    /// # Safety
    /// They lie there; the processor has AVX2 and F16C.
    unsafe fn load(from: *const u8) -> __m256;
}

impl Wide for F32 {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load(from: *const u8) -> __m256 {
        // SAFETY: passed on from the caller.
        unsafe { _mm256_loadu_ps(from.cast()) }
    }
}

impl Wide for F16 {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load(from: *const u8) -> __m256 {
        // SAFETY: passed on from the caller.
        _mm256_cvtph_ps(unsafe { _mm_loadu_si128(from.cast()) })
    }
}

impl Wide for BF16 {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load(from: *const u8) -> __m256 {
        // SAFETY: passed on from the caller.
        let bits = _mm256_cvtepu16_epi32(unsafe { _mm_loadu_si128(from.cast()) });
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
    }
}

/// The table's function for type `P`.
///
/// # Safety
/// As for [`crate::kernels::matmul::RowsKernel`]; the processor has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn rows<P: Wide>(chunk: &Chunk<'_>) {
    let tokens = chunk.x.tokens();
    if tokens == 1 {
        for first in chunk.rows.clone().step_by(ROWS) {
            // SAFETY: the row's bytes lie there, the rows are this chunk's.
            unsafe { one_token::<P>(chunk, first) };
        }
        return;
    }
    with_scratch::<Scratch, _>(1, |scratch| {
        let scratch = &mut scratch[0];
        for block in (0..tokens).step_by(TOKENS) {
            let block = block..(block + TOKENS).min(tokens);
            for first in chunk.rows.clone().step_by(TILES * ROWS) {
                // SAFETY: the rows are this chunk's, the tokens exist.
                unsafe { strip_rows::<P>(chunk, first, block.clone(), scratch) };
            }
        }
    });
}

/// Eight rows of a block of tokens.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn strip_rows<P: Wide>(chunk: &Chunk<'_>, first: usize, block: Range<usize>, scratch: &mut Scratch) {
    let columns = chunk.weight.columns;
    for start in (0..columns).step_by(WIDTH) {
        let width = (columns - start).min(WIDTH);
        for row in 0..TILES * ROWS {
            let bytes = &chunk.row((first + row).min(chunk.rows.end - 1))[start * P::BYTES..][..width * P::BYTES];
            // SAFETY: the place in the strip has room for so many columns.
            unsafe { widen::<P>(bytes, (&raw mut scratch.strip[row / ROWS][row % ROWS]).cast()) };
        }
        for token in block.clone().step_by(TILE) {
            let place = token - block.start;
            // SAFETY: the strip was just filled, the tokens exist, and their sums have a place.
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
            // SAFETY: the sums were filled in by the tiles; the rows are this chunk's.
            unsafe { store(chunk, token, first + tile * ROWS, scratch.sums[token - block.start][tile]) };
        }
    }
}

/// The elements past the last whole vector of a row, and zeros.
fn tail<P: Plain>(row: &[u8]) -> [f32; LANES] {
    let whole = row.len() / (LANES * P::BYTES) * (LANES * P::BYTES);
    let mut tail = [0.0; LANES];
    P::widen(&row[whole..], &mut tail);
    tail
}

/// Elements to f32, with zeros up to a multiple of eight.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn widen<P: Wide>(bytes: &[u8], place: *mut f32) {
    let columns = bytes.len() / P::BYTES;
    // SAFETY: a vector ends within `bytes`, and the caller has room for them, rounded up to whole vectors.
    unsafe {
        for column in (0..columns / LANES * LANES).step_by(LANES) {
            _mm256_storeu_ps(place.add(column), P::load(bytes.as_ptr().add(column * P::BYTES)));
        }
        if !columns.is_multiple_of(LANES) {
            let place = place.add(columns / LANES * LANES);
            _mm256_storeu_ps(place, _mm256_loadu_ps(tail::<P>(bytes).as_ptr()));
        }
    }
}

/// Four rows of one token.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn one_token<P: Wide>(chunk: &Chunk<'_>, first: usize) {
    let x = chunk.x.values(0).as_ptr();
    let rows: [_; ROWS] = std::array::from_fn(|row| chunk.row((first + row).min(chunk.rows.end - 1)));
    let whole = chunk.weight.columns / LANES * LANES;
    let mut sums = [_mm256_setzero_ps(); ROWS];
    // SAFETY: vectors end within the rows; activations are padded to whole vectors.
    unsafe {
        for column in (0..whole).step_by(LANES) {
            let x = _mm256_loadu_ps(x.add(column));
            for (sums, row) in sums.iter_mut().zip(rows) {
                *sums = _mm256_fmadd_ps(P::load(row.as_ptr().add(column * P::BYTES)), x, *sums);
            }
        }
        if whole < chunk.weight.columns {
            let x = _mm256_loadu_ps(x.add(whole));
            for (sums, row) in sums.iter_mut().zip(rows) {
                *sums = _mm256_fmadd_ps(_mm256_loadu_ps(tail::<P>(row).as_ptr()), x, *sums);
            }
        }
    }
    // SAFETY: the rows are this chunk's.
    unsafe { store(chunk, 0, first, sums) };
}

/// A strip's rows × `T` tokens, columns `start .. start + width`: adds to the sums, or starts them.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile<const T: usize>(
    chunk: &Chunk<'_>,
    start: usize,
    width: usize,
    token: usize,
    place: usize,
    scratch: &mut Scratch,
) {
    let mut x = [std::ptr::null(); T];
    for (t, x) in x.iter_mut().enumerate() {
        *x = chunk.x.values(token + t)[start..].as_ptr();
    }
    for tile in 0..TILES {
        let mut sums = [[_mm256_setzero_ps(); ROWS]; T];
        // SAFETY: the caller has filled in the strip, and the sums where there are columns before these; activations are padded
        // to whole vectors.
        unsafe {
            if start > 0 {
                for (t, sums) in sums.iter_mut().enumerate() {
                    *sums = scratch.sums[place + t][tile];
                }
            }
            let strip = &scratch.strip[tile];
            for vector in 0..width.div_ceil(LANES) {
                let mut here = [_mm256_setzero_ps(); T];
                for (here, x) in here.iter_mut().zip(x) {
                    *here = _mm256_loadu_ps(x.add(vector * LANES));
                }
                for (row, weights) in strip.iter().enumerate() {
                    let weights = *weights.get_unchecked(vector);
                    for (sums, &x) in sums.iter_mut().zip(&here) {
                        sums[row] = _mm256_fmadd_ps(weights, x, sums[row]);
                    }
                }
            }
            for (t, sums) in sums.into_iter().enumerate() {
                scratch.sums[place + t][tile] = sums;
            }
        }
    }
}

/// Adds up four rows' vectors and puts the sums, or as many as the chunk still has rows, where they belong.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn store(chunk: &Chunk<'_>, token: usize, first: usize, sums: [__m256; ROWS]) {
    let [a, b, c, d] = sums;
    let pairs = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    let totals = _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps::<1>(pairs));
    let mut lanes = [0.0; ROWS];
    // SAFETY: four lanes to four values; the rows are of this chunk.
    unsafe {
        _mm_storeu_ps(lanes.as_mut_ptr(), totals);
        chunk.store(token, first, &lanes);
    }
}
