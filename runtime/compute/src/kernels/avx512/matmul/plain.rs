//! F32, F16 and BF16 weights with AVX-512: times f32 activations, or, BF16 where `vdpbf16ps` is fast, in BF16.
//!
//! Columns come in units of 32 bits: one f32, or two BF16, which `vdpbf16ps` multiplies and adds at once, in f32. A vector holds
//! four units of four rows: laying out sixteen units of four rows takes two shuffles per vector, and four units of activations
//! are broadcast by a plain load. A sum has four lanes, units modulo 4, reduced at the end. With many tokens sixteen rows are
//! laid out as a panel, and tiles of those rows × six tokens (24 accumulators) run over it, ten loads per 24 products; with one
//! token nothing is stored. The order of sums differs from the AVX2 table's, so results may differ in the last bits.
//!
//! Reached with F16 in f32: 80 % of the FMA rate of a loop without loads (BENCHMARKS.md). Sixteen columns of one row per vector,
//! which needs no shuffles but long horizontal sums, reaches 50 %; one column of sixteen rows per vector 80 %, but half the speed
//! with four tokens.
//!
//! The module is instantiated twice: a function compiled for BF16 cannot be inlined into one that is not.

use std::arch::x86_64::*;
use std::ops::Range;

use super::units::{Narrow, Wide, broadcast, pack, pack_bf16, quads};
use crate::kernels::avx2::matmul::few::fetch;
use crate::kernels::matmul::Chunk;
use crate::kernels::scratch::{Numbers, with_scratch};

/// Units laid out at once: a vector of a row.
const UNITS: usize = 16;
/// Rows per panel.
const ROWS: usize = 16;
/// Vectors that hold four units of sixteen rows.
const VECTORS: usize = 4;
/// Rows read together for one token: rows a power of two long all map to the same L1 set.
const STREAMS: usize = 8;
/// Maximum tokens per tile.
const TILE: usize = 6;
/// Maximum units per panel.
const WIDTH: usize = 384;
/// Tokens that reuse a panel.
const TOKENS: usize = 258;

/// Four units of sixteen rows, or the sums of sixteen rows with one token.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Rows([__m512; VECTORS]);

// SAFETY: plain vectors of numbers.
unsafe impl Numbers for Rows {}

/// One panel of sixteen rows.
struct Part<'a> {
    /// Its first unit.
    start: usize,
    panel: &'a [Rows],
    /// Whether it completes the sums.
    last: bool,
}

/// Adds the products of sixteen f32.
#[inline]
#[target_feature(enable = "avx512f")]
fn multiply(sums: __m512, weights: __m512, x: __m512) -> __m512 {
    _mm512_fmadd_ps(weights, x, sums)
}

/// Adds the products of sixteen pairs of BF16.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn multiply_bf16(sums: __m512, weights: __m512, x: __m512) -> __m512 {
    // SAFETY: vectors of bits.
    let (weights, x) =
        unsafe { (std::mem::transmute::<__m512, __m512bh>(weights), std::mem::transmute::<__m512, __m512bh>(x)) };
    _mm512_dpbf16_ps(sums, weights, x)
}

/// Reduces the lanes of up to sixteen rows `R`, and stores the sums, or fewer at the end of the chunk.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn store<const R: usize>(chunk: &Chunk<'_>, token: usize, first: usize, sums: &Rows) {
    let [a, b, c, d] = &sums.0;
    let (a, b, c, d) = (*a, *b, *c, *d);
    let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    let (ab, cd) = (_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    let (even, odd) = (_mm512_unpacklo_pd(ab, cd), _mm512_unpackhi_pd(ab, cd));
    let sums = _mm512_add_ps(_mm512_castpd_ps(even), _mm512_castpd_ps(odd));
    // Quarter r holds row r of each of the vectors.
    let rows = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    let mut lanes = [0.0; ROWS];
    // SAFETY: sixteen lanes to sixteen values; the rows belong to this chunk.
    unsafe {
        _mm512_storeu_ps(lanes.as_mut_ptr(), _mm512_permutexvar_ps(rows, sums));
        chunk.store::<R>(token, first, lanes.first_chunk().expect("R is sixteen at most"));
    }
}

macro_rules! kernels {
    ($name:ident, $features:literal, $reader:ident, $pack:ident, $multiply:ident, $x:ident, columns: $columns:literal) => {
        /// The kernels of one form of activations.
        pub(super) mod $name {
            use super::*;

            /// Columns in a vector of a row.
            const COLUMNS: usize = UNITS * $columns;

            /// The table's function for type `P`.
            ///
            /// # Safety
            /// See [`crate::kernels::matmul::RowsKernel`]; the processor supports the features named here.
            #[target_feature(enable = $features)]
            pub(in super::super) unsafe fn rows<P: $reader>(chunk: &Chunk<'_>) {
                let tokens = chunk.x.tokens();
                if tokens == 1 {
                    for first in chunk.rows.clone().step_by(STREAMS) {
                        // SAFETY: the row's bytes are readable, the rows belong to this chunk.
                        unsafe { store::<STREAMS>(chunk, 0, first, &one_token::<P>(chunk, first)) };
                    }
                    return;
                }
                let units = chunk.weight.columns.div_ceil($columns);
                // As few panels as possible, of equal width: a narrow last one would spend more on moving its sums than on adding
                // to them.
                let width = units.div_ceil(units.div_ceil(WIDTH)).next_multiple_of(UNITS);
                with_scratch::<Rows, _>(width / 4 + tokens.min(TOKENS), |scratch| {
                    let (panel, sums) = scratch.split_at_mut(width / 4);
                    for block in (0..tokens).step_by(TOKENS) {
                        let block = block..(block + TOKENS).min(tokens);
                        for first in chunk.rows.clone().step_by(ROWS) {
                            // SAFETY: the rows belong to this chunk, the tokens exist, and each sum has a slot.
                            unsafe { several_tokens::<P>(chunk, first, block.clone(), panel, sums) };
                        }
                    }
                });
            }

            /// Sixteen rows of a block of tokens, panel by panel.
            #[target_feature(enable = $features)]
            unsafe fn several_tokens<P: $reader>(
                chunk: &Chunk<'_>,
                first: usize,
                block: Range<usize>,
                panel: &mut [Rows],
                sums: &mut [Rows],
            ) {
                let columns = chunk.weight.columns;
                let units = columns.div_ceil($columns);
                for start in (0..units).step_by(4 * panel.len()) {
                    let end = (start + 4 * panel.len()).min(units);
                    for vector in 0..VECTORS {
                        let rows: [_; 4] = chunk.pointers(first + 4 * vector);
                        for (unit, places) in (start..end).step_by(UNITS).zip(panel.chunks_exact_mut(UNITS / 4)) {
                            let column = unit * $columns;
                            // Prefetches the next panel's weights while this one's products are computed.
                            for row in rows {
                                let next = (ROWS * columns + column) * P::BYTES;
                                _mm_prefetch::<_MM_HINT_T1>(row.wrapping_add(next).cast());
                            }
                            // SAFETY: the columns are in bounds.
                            for (place, four) in places.iter_mut().zip(unsafe { laid_out::<P>(&rows, column, columns) })
                            {
                                place.0[vector] = four;
                            }
                        }
                    }
                    let panel = &panel[..(end - start).div_ceil(UNITS) * (UNITS / 4)];
                    let part = Part { start, panel, last: end == units };
                    let mut token = block.start;
                    while token < block.end {
                        let sums = &mut sums[token - block.start..];
                        // SAFETY: the panel was just filled, the tokens exist, and their sums have slots; the rows belong to this
                        // chunk.
                        token += unsafe {
                            match block.end - token {
                                TILE.. => tile::<TILE>(chunk, first, token, &part, sums),
                                4.. => tile::<4>(chunk, first, token, &part, sums),
                                2.. => tile::<2>(chunk, first, token, &part, sums),
                                _ => tile::<1>(chunk, first, token, &part, sums),
                            }
                        };
                    }
                }
            }

            /// Sixteen units of four rows, in quads, zero past the last column.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn laid_out<P: $reader>(
                rows: &[*const u8; 4],
                column: usize,
                columns: usize,
            ) -> [__m512; UNITS / 4] {
                let mut loaded = [_mm512_setzero_ps(); 4];
                for (loaded, row) in loaded.iter_mut().zip(rows) {
                    // SAFETY: the caller has these columns in each row.
                    unsafe {
                        let from = row.add(column * P::BYTES);
                        *loaded = if column + COLUMNS <= columns {
                            P::load(from)
                        } else {
                            let mut tail = [0.0; COLUMNS];
                            P::widen(std::slice::from_raw_parts(from, (columns - column) * P::BYTES), &mut tail);
                            $pack(&tail)
                        };
                    }
                }
                quads(loaded)
            }

            /// Adds four units' products of one token with every row.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn add_products<X>(sums: &mut [__m512], weights: &[__m512], x: *const X) {
                // SAFETY: the caller guarantees four units of activations there.
                let x = unsafe { broadcast(x.cast()) };
                for (sums, &weights) in sums.iter_mut().zip(weights) {
                    *sums = $multiply(*sums, weights, x);
                }
            }

            /// Eight rows of a single token.
            #[target_feature(enable = $features)]
            unsafe fn one_token<P: $reader>(chunk: &Chunk<'_>, first: usize) -> Rows {
                let (x, columns) = (chunk.x.$x(0).as_ptr(), chunk.weight.columns);
                let (low, high): ([_; 4], [_; 4]) = (chunk.pointers(first), chunk.pointers(first + 4));
                let far = STREAMS * columns * P::BYTES;
                let mut sums = Rows([_mm512_setzero_ps(); VECTORS]);
                for column in (0..columns).step_by(COLUMNS) {
                    let ahead = far + column * STREAMS * P::BYTES;
                    fetch(low[0].wrapping_add(ahead), far, COLUMNS * STREAMS * P::BYTES, 0, 1);
                    // SAFETY: the columns exist; activations are padded with zeros.
                    unsafe {
                        let (low, high) = (laid_out::<P>(&low, column, columns), laid_out::<P>(&high, column, columns));
                        for four in 0..UNITS / 4 {
                            add_products(
                                &mut sums.0[..2],
                                &[low[four], high[four]],
                                x.add(column / $columns + 4 * four),
                            );
                        }
                    }
                }
                sums
            }

            /// The panel's rows × `T` tokens; returns `T`. Initialises their sums or adds to them, and stores the results once
            /// complete.
            #[target_feature(enable = $features)]
            unsafe fn tile<const T: usize>(
                chunk: &Chunk<'_>,
                first: usize,
                token: usize,
                part: &Part<'_>,
                places: &mut [Rows],
            ) -> usize {
                let mut x = [std::ptr::null(); T];
                for (t, x) in x.iter_mut().enumerate() {
                    *x = chunk.x.$x(token + t)[part.start..part.start + 4 * part.panel.len()].as_ptr();
                    if part.last {
                        chunk.out.fetch(token + t, first);
                    }
                }
                let mut sums = [Rows([_mm512_setzero_ps(); VECTORS]); T];
                // Vector by vector, here and below: copying all at once would go through the stack and a call.
                if part.start > 0 {
                    for (sums, place) in sums.iter_mut().zip(&places[..T]) {
                        for (sums, place) in sums.0.iter_mut().zip(&place.0) {
                            // SAFETY: a vector is stored there.
                            *sums = unsafe { _mm512_load_ps((&raw const *place).cast()) };
                        }
                    }
                }
                for (four, weights) in part.panel.iter().enumerate() {
                    for (sums, x) in sums.iter_mut().zip(x) {
                        // SAFETY: the panel's columns of a token.
                        unsafe { add_products(&mut sums.0, &weights.0, x.add(4 * four)) };
                    }
                }
                for (t, sums) in sums.iter().enumerate() {
                    if part.last {
                        // SAFETY: upheld by the caller.
                        unsafe { store::<ROWS>(chunk, token + t, first, sums) };
                        continue;
                    }
                    for (place, &sums) in places[t].0.iter_mut().zip(&sums.0) {
                        // SAFETY: there is room for a vector.
                        unsafe { _mm512_store_ps((&raw mut *place).cast(), sums) };
                    }
                }
                T
            }
        }
    };
}

kernels!(wide, "avx512f,avx512bw,avx512vl,avx512dq", Wide, pack, multiply, values, columns: 1);
kernels!(narrow, "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16", Narrow, pack_bf16, multiply_bf16, rounded, columns: 2);
