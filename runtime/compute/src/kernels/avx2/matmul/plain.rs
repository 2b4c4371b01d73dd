//! F32, F16 and BF16 weights times f32 activations with AVX2 and FMA.
//!
//! Each (row, token) has one vector of sums, lane = column modulo 8. At the end of each part of the columns the lanes are reduced
//! ([`reduce`]), and parts are added in order: partial sums are kept as scalars, not vectors.
//!
//! A few tokens read rows in place ([`by_rows`]). With more, a part of eight rows is widened into a panel and reused for a block
//! of tokens, in tiles of four rows × three tokens: twelve accumulators, enough to keep two FMA units with four cycles' latency
//! busy, and seven loads per twelve FMAs. The panel and a tile's activations stay in L1, one part of a block's activations in L2,
//! for up to 128 rows.

use std::arch::x86_64::*;
use std::ops::Range;

use super::few::fetch;
use crate::kernels::matmul::Chunk;
use crate::kernels::scratch::{Numbers, with_two_scratches};
use crate::quant::{BF16, F16, F32, Plain};

/// Columns per vector.
const LANES: usize = 8;
/// Rows per tile.
const ROWS: usize = 4;
/// Tokens per tile.
const TILE: usize = 3;
/// Row tiles per panel.
const TILES: usize = 2;
/// Rows per panel.
const PANEL: usize = TILES * ROWS;
/// Maximum columns per part.
const WIDTH: usize = 576;
/// Maximum tokens that reuse a panel.
const TOKENS: usize = 129;
/// Rows whose partial sums are kept until the next part.
const WAITING_ROWS: usize = 128;

/// Eight columns each of four rows.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Weights([__m256; ROWS]);

// SAFETY: plain vectors of numbers.
unsafe impl Numbers for Weights {}

/// The sums of a panel's rows for one token.
#[derive(Clone, Copy)]
#[repr(C)]
struct Sums([[f32; ROWS]; TILES]);

// SAFETY: numbers.
unsafe impl Numbers for Sums {}

/// Columns per part: as few parts as possible, of roughly equal width.
fn part_width(columns: usize) -> usize {
    columns.div_ceil(columns.div_ceil(WIDTH)).next_multiple_of(LANES)
}

/// Reader of a plain type for AVX2.
pub(super) trait Wide: Plain {
    /// Eight elements as f32.
    ///
    /// # Safety
    /// They are readable; the processor supports AVX2 and F16C.
    unsafe fn load(from: *const u8) -> __m256;
}

impl Wide for F32 {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load(from: *const u8) -> __m256 {
        // SAFETY: upheld by the caller.
        unsafe { _mm256_loadu_ps(from.cast()) }
    }
}

impl Wide for F16 {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load(from: *const u8) -> __m256 {
        // SAFETY: upheld by the caller.
        _mm256_cvtph_ps(unsafe { _mm_loadu_si128(from.cast()) })
    }
}

impl Wide for BF16 {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load(from: *const u8) -> __m256 {
        // SAFETY: upheld by the caller.
        let bits = _mm256_cvtepu16_epi32(unsafe { _mm_loadu_si128(from.cast()) });
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
    }
}

/// The table's function for type `P`.
///
/// # Safety
/// See [`crate::kernels::matmul::RowsKernel`]; the processor supports AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn rows<P: Wide>(chunk: &Chunk<'_>) {
    // SAFETY: upheld by the caller.
    unsafe {
        match chunk.x.tokens() {
            1 => by_rows::<P, 1>(chunk),
            2 => by_rows::<P, 2>(chunk),
            TILE => by_rows::<P, TILE>(chunk),
            _ => by_panels::<P>(chunk),
        }
    }
}

/// `T` tokens, four rows at a time.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn by_rows<P: Wide, const T: usize>(chunk: &Chunk<'_>) {
    let (columns, width) = (chunk.weight.columns, part_width(chunk.weight.columns));
    let x: [_; T] = std::array::from_fn(|token| chunk.x.values(token).as_ptr());
    let far = ROWS * columns * P::BYTES;
    for first in chunk.rows.clone().step_by(ROWS) {
        let rows: [*const u8; ROWS] = chunk.pointers(first);
        let next = rows[0].wrapping_add(far);
        let mut totals = [_mm_setzero_ps(); T];
        for start in (0..columns).step_by(width) {
            let end = (start + width).min(columns);
            let mut sums = [[_mm256_setzero_ps(); ROWS]; T];
            for column in (start..end).step_by(LANES) {
                fetch(next.wrapping_add(column * ROWS * P::BYTES), far, LANES * ROWS * P::BYTES, 0, 1);
                for (row, &from) in rows.iter().enumerate() {
                    // SAFETY: the columns are in bounds; activations are padded to whole vectors.
                    unsafe {
                        let weights = columns_of::<P>(from, column, columns);
                        for (sums, x) in sums.iter_mut().zip(x) {
                            sums[row] = _mm256_fmadd_ps(weights, _mm256_loadu_ps(x.add(column)), sums[row]);
                        }
                    }
                }
            }
            for (totals, sums) in totals.iter_mut().zip(sums) {
                *totals = _mm_add_ps(*totals, reduce(sums));
            }
        }
        for (token, totals) in totals.into_iter().enumerate() {
            let mut lanes = [0.0; ROWS];
            // SAFETY: four lanes to four values; the rows belong to this chunk.
            unsafe {
                _mm_storeu_ps(lanes.as_mut_ptr(), totals);
                chunk.store(token, first, &lanes);
            }
        }
    }
}

/// Eight columns of a row, zero past the end.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn columns_of<P: Wide>(row: *const u8, column: usize, columns: usize) -> __m256 {
    // SAFETY: the caller has these columns in the row.
    unsafe {
        let from = row.add(column * P::BYTES);
        if column + LANES <= columns {
            return P::load(from);
        }
        let mut tail = [0.0; LANES];
        P::widen(std::slice::from_raw_parts(from, (columns - column) * P::BYTES), &mut tail);
        _mm256_loadu_ps(tail.as_ptr())
    }
}

/// The sum of each row's lanes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn reduce([a, b, c, d]: [__m256; ROWS]) -> __m128 {
    let pairs = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps::<1>(pairs))
}

/// All tokens, block by block; for each block up to [`WAITING_ROWS`] rows, part by part.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn by_panels<P: Wide>(chunk: &Chunk<'_>) {
    let (columns, tokens) = (chunk.weight.columns, chunk.x.tokens());
    let width = part_width(columns);
    // As few blocks as possible, of roughly equal length: a short last block would widen all weights for little.
    let most = tokens.div_ceil(tokens.div_ceil(TOKENS)).next_multiple_of(TILE);
    with_two_scratches::<Weights, Sums, _>(TILES * width / LANES, WAITING_ROWS / PANEL * most, |panel, sums| {
        for block in (0..tokens).step_by(most) {
            let block = block..(block + most).min(tokens);
            for first in chunk.rows.clone().step_by(WAITING_ROWS) {
                let rows = first..(first + WAITING_ROWS).min(chunk.rows.end);
                for start in (0..columns).step_by(width) {
                    let columns = start..(start + width).min(columns);
                    for (first, sums) in rows.clone().step_by(PANEL).zip(sums.chunks_exact_mut(most)) {
                        // SAFETY: the rows belong to this chunk; columns and tokens are in bounds, and each sum has a slot.
                        unsafe { panel_of_rows::<P>(chunk, first, columns.clone(), block.clone(), panel, sums) };
                    }
                }
            }
        }
    });
}

/// A part of a panel's rows times a block of tokens.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn panel_of_rows<P: Wide>(
    chunk: &Chunk<'_>,
    first: usize,
    columns: Range<usize>,
    block: Range<usize>,
    panel: &mut [Weights],
    sums: &mut [Sums],
) {
    let vectors = columns.len().div_ceil(LANES);
    for tile in 0..TILES {
        let rows: [*const u8; ROWS] = chunk.pointers(first + tile * ROWS);
        for (place, column) in panel[tile * vectors..][..vectors].iter_mut().zip(columns.clone().step_by(LANES)) {
            for (place, row) in place.0.iter_mut().zip(rows) {
                // Prefetches the next panel's weights while this one's products are computed.
                _mm_prefetch::<_MM_HINT_T1>(
                    row.wrapping_add((PANEL * chunk.weight.columns + column) * P::BYTES).cast(),
                );
                // SAFETY: the columns are in bounds.
                *place = unsafe { columns_of::<P>(row, column, chunk.weight.columns) };
            }
        }
    }
    let panel = &panel[..TILES * vectors];
    let last = columns.end == chunk.weight.columns;
    for (token, sums) in block.clone().step_by(TILE).zip(sums.chunks_mut(TILE)) {
        if last {
            (token..block.end.min(token + TILE)).for_each(|token| chunk.out.fetch(token, first));
        }
        // SAFETY: the panel was just filled and the tokens are in bounds; so are the sums of the preceding columns.
        unsafe {
            match block.end - token {
                1 => tile::<1>(chunk, columns.start, panel, token, sums),
                2 => tile::<2>(chunk, columns.start, panel, token, sums),
                _ => tile::<TILE>(chunk, columns.start, panel, token, sums),
            }
        }
    }
    if last {
        for (token, sums) in block.zip(sums) {
            let sums = sums.0.as_flattened().first_chunk::<PANEL>().expect("as many");
            // SAFETY: the rows belong to this chunk.
            unsafe { chunk.store(token, first, sums) };
        }
    }
}

/// A panel × `T` tokens, from column `start` on: adds to the sums, or initialises them.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile<const T: usize>(chunk: &Chunk<'_>, start: usize, panel: &[Weights], token: usize, places: &mut [Sums]) {
    let vectors = panel.len() / TILES;
    let x: [_; T] = std::array::from_fn(|t| chunk.x.values(token + t)[start..start + vectors * LANES].as_ptr());
    for (tile, panel) in panel.chunks_exact(vectors).enumerate() {
        let mut sums = [[_mm256_setzero_ps(); ROWS]; T];
        for (vector, weights) in panel.iter().enumerate() {
            let mut here = [_mm256_setzero_ps(); T];
            for (here, x) in here.iter_mut().zip(x) {
                // SAFETY: activations are padded to whole vectors.
                *here = unsafe { _mm256_loadu_ps(x.add(vector * LANES)) };
            }
            for (row, &weights) in weights.0.iter().enumerate() {
                for (sums, &x) in sums.iter_mut().zip(&here) {
                    sums[row] = _mm256_fmadd_ps(weights, x, sums[row]);
                }
            }
        }
        for (place, sums) in places.iter_mut().zip(sums) {
            let place = place.0[tile].as_mut_ptr();
            // SAFETY: four sums.
            unsafe {
                let before = if start == 0 { _mm_setzero_ps() } else { _mm_loadu_ps(place) };
                _mm_storeu_ps(place, _mm_add_ps(before, reduce(sums)));
            }
        }
    }
}
