//! F32, F16 and BF16 weights times f32 activations with AVX-512.
//!
//! As in `avx2`, with lanes of columns modulo 16 and 32 registers: tiles of four rows × six tokens have 24 vectors of sums, and ten
//! loads for as many FMAs. The order of sums differs from the AVX2 table's, so the last bits of results do as well.

use std::arch::x86_64::*;
use std::ops::Range;

use crate::kernels::matmul::Chunk;
use crate::kernels::scratch::{Numbers, with_scratch};
use crate::quant::Plain;
pub(super) use crate::quant::{BF16, F16, F32};

/// Rows in a tile.
const ROWS: usize = 4;
/// Tokens in a tile.
const TILE: usize = 6;
/// Tiles of rows in a strip.
const TILES: usize = 2;
/// Columns in a vector.
const LANES: usize = 16;
/// Columns in a strip.
const WIDTH: usize = 512;
/// Tokens that a strip is used for.
const TOKENS: usize = 128;

/// Sums of a token with a strip's rows.
type Sums = [[__m512; ROWS]; TILES];

/// What a thread works with: the strip, vector by vector of columns, and the sums of a block of tokens.
#[derive(Clone, Copy)]
struct Scratch {
    strip: [[[__m512; WIDTH / LANES]; ROWS]; TILES],
    sums: [Sums; TOKENS],
}

// SAFETY: vectors of numbers.
unsafe impl Numbers for Scratch {}

/// A plain type as AVX-512 reads it.
pub(super) trait Wide: Plain {
    /// Sixteen elements as f32.
    ///
    /// # Safety
    /// They lie there; the processor has AVX-512.
    unsafe fn load(from: *const u8) -> __m512;
}

impl Wide for F32 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn load(from: *const u8) -> __m512 {
        // SAFETY: passed on from the caller.
        unsafe { _mm512_loadu_ps(from.cast()) }
    }
}

impl Wide for F16 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn load(from: *const u8) -> __m512 {
        // SAFETY: passed on from the caller.
        _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(from.cast()) })
    }
}

impl Wide for BF16 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn load(from: *const u8) -> __m512 {
        // SAFETY: passed on from the caller.
        let bits = _mm512_cvtepu16_epi32(unsafe { _mm256_loadu_si256(from.cast()) });
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
    }
}

/// The table's function for type `P`.
///
/// # Safety
/// As for [`crate::kernels::matmul::RowsKernel`]; the processor has AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
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
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn strip_rows<P: Wide>(chunk: &Chunk<'_>, first: usize, block: Range<usize>, scratch: &mut Scratch) {
    let columns = chunk.weight.columns;
    for start in (0..columns).step_by(WIDTH) {
        let width = (columns - start).min(WIDTH);
        for row in 0..TILES * ROWS {
            let bytes = &chunk.row((first + row).min(chunk.rows.end - 1))[start * P::BYTES..][..width * P::BYTES];
            // SAFETY: the place in the strip has room for so many columns.
            unsafe { widen::<P>(bytes, (&raw mut scratch.strip[row / ROWS][row % ROWS]).cast()) };
        }
        let mut token = block.start;
        while token < block.end {
            let place = token - block.start;
            // SAFETY: the strip was just filled, the tokens exist, and their sums have a place.
            token += unsafe {
                match block.end - token {
                    TILE.. => tile::<TILE>(chunk, start, width, token, place, scratch),
                    3.. => tile::<3>(chunk, start, width, token, place, scratch),
                    2 => tile::<2>(chunk, start, width, token, place, scratch),
                    _ => tile::<1>(chunk, start, width, token, place, scratch),
                }
            };
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

/// Elements to f32, with zeros up to a multiple of sixteen.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn widen<P: Wide>(bytes: &[u8], place: *mut f32) {
    let columns = bytes.len() / P::BYTES;
    // SAFETY: a vector ends within `bytes`, and the caller has room for them, rounded up to whole vectors.
    unsafe {
        for column in (0..columns / LANES * LANES).step_by(LANES) {
            _mm512_storeu_ps(place.add(column), P::load(bytes.as_ptr().add(column * P::BYTES)));
        }
        if !columns.is_multiple_of(LANES) {
            let place = place.add(columns / LANES * LANES);
            _mm512_storeu_ps(place, _mm512_loadu_ps(tail::<P>(bytes).as_ptr()));
        }
    }
}

/// Four rows of one token.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn one_token<P: Wide>(chunk: &Chunk<'_>, first: usize) {
    let x = chunk.x.values(0).as_ptr();
    let rows: [_; ROWS] = std::array::from_fn(|row| chunk.row((first + row).min(chunk.rows.end - 1)));
    let whole = chunk.weight.columns / LANES * LANES;
    let mut sums = [_mm512_setzero_ps(); ROWS];
    // SAFETY: vectors end within the rows; activations are padded to whole vectors.
    unsafe {
        for column in (0..whole).step_by(LANES) {
            let x = _mm512_loadu_ps(x.add(column));
            for (sums, row) in sums.iter_mut().zip(rows) {
                *sums = _mm512_fmadd_ps(P::load(row.as_ptr().add(column * P::BYTES)), x, *sums);
            }
        }
        if whole < chunk.weight.columns {
            let x = _mm512_loadu_ps(x.add(whole));
            for (sums, row) in sums.iter_mut().zip(rows) {
                *sums = _mm512_fmadd_ps(_mm512_loadu_ps(tail::<P>(row).as_ptr()), x, *sums);
            }
        }
    }
    // SAFETY: the rows are this chunk's.
    unsafe { store(chunk, 0, first, sums) };
}

/// A strip's rows × `T` tokens, which is what it returns, columns `start .. start + width`: adds to the sums, or starts them.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn tile<const T: usize>(
    chunk: &Chunk<'_>,
    start: usize,
    width: usize,
    token: usize,
    place: usize,
    scratch: &mut Scratch,
) -> usize {
    let mut x = [std::ptr::null(); T];
    for (t, x) in x.iter_mut().enumerate() {
        *x = chunk.x.values(token + t)[start..].as_ptr();
    }
    for tile in 0..TILES {
        let mut sums = [[_mm512_setzero_ps(); ROWS]; T];
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
                let mut here = [_mm512_setzero_ps(); T];
                for (here, x) in here.iter_mut().zip(x) {
                    *here = _mm512_loadu_ps(x.add(vector * LANES));
                }
                for (row, weights) in strip.iter().enumerate() {
                    let weights = *weights.get_unchecked(vector);
                    for (sums, &x) in sums.iter_mut().zip(&here) {
                        sums[row] = _mm512_fmadd_ps(weights, x, sums[row]);
                    }
                }
            }
            for (t, sums) in sums.into_iter().enumerate() {
                scratch.sums[place + t][tile] = sums;
            }
        }
    }
    T
}

/// Adds up four rows' vectors and puts the sums, or as many as the chunk still has rows, where they belong.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn store(chunk: &Chunk<'_>, token: usize, first: usize, sums: [__m512; ROWS]) {
    let mut folded = [_mm256_setzero_ps(); ROWS];
    for (folded, sums) in folded.iter_mut().zip(sums) {
        *folded = _mm256_add_ps(_mm512_castps512_ps256(sums), _mm512_extractf32x8_ps::<1>(sums));
    }
    let [a, b, c, d] = folded;
    let pairs = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    let totals = _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps::<1>(pairs));
    let mut lanes = [0.0; ROWS];
    // SAFETY: four lanes to four values; the rows are of this chunk.
    unsafe {
        _mm_storeu_ps(lanes.as_mut_ptr(), totals);
        match chunk.rows.end.saturating_sub(first) {
            ROWS.. => chunk.out.store(token, first, &lanes),
            0 => {}
            count => chunk.out.store(token, first, &lanes[..count]),
        }
    }
}
