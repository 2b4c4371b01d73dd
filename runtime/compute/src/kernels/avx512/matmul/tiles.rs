//! Weights times the tokens of prompts with AMX, in BF16.
//!
//! int8 would need the scales of every 32 columns applied in f32, which costs more than tiles save. BF16 needs none: 32 rows of
//! weights are unpacked to BF16 once for all tokens, activations were rounded once for all rows, and `tdpbf16ps` adds 32 columns of
//! sixteen rows and sixteen tokens to sums in f32. Two tiles of rows times two of tokens share what is loaded: a strip stays in L1
//! or L2, and so do the tokens' columns of a part. F16 weights are the sum of two BF16, and nothing of them is lost.
//!
//! A sum's groups of columns are added first to last, whatever the parts and neighbours: a token of a prompt has the same bits in
//! any batch. Those of answers are multiplied as by `avx512vnni`.

mod operands;

use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;

use operands::{ROWS, Tile};
pub(super) use operands::{Tiled, lay_out};

use super::integer::store;
use super::sixteen::transposed;
use crate::kernels::avx512::amx::Shapes;
use crate::kernels::matmul::{Chunk, TILE_TOKENS, TokenTile};
use crate::kernels::scratch::{Numbers, with_two_scratches};
use crate::quant::GROUP;

/// Rows that are unpacked together: two tiles.
pub(super) const STRIP: usize = 2 * ROWS;

/// Tokens whose products take as long as unpacking their weights, by counting instructions: fifteen, two at a time, for 32 columns of a
/// row, which a tile's product multiplies by a token in a sixteenth of a cycle.
pub(super) const UNPACKING: usize = 120;

/// Most groups of columns that are unpacked at once: 64 KB of a strip, and 2 KB for each token.
const PART: usize = 32;

/// Rows whose sums wait for the next part of the columns.
const WAITING_ROWS: usize = 128;

/// Four tiles of sums, two of weights, two of tokens.
static SHAPES: Shapes = Shapes::new([(16, 64); 8]);

/// Sums of a strip's two tiles of rows, by row and token.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Sums([[[f32; TILE_TOKENS]; ROWS]; 2]);

// SAFETY: plain numbers, whole cache lines.
unsafe impl Numbers for Sums {}

/// Bytes that a thread keeps for products of this many tokens with weights of this many columns, at most.
pub(in crate::kernels) fn thread_bytes(columns: usize, tokens: usize) -> usize {
    let (groups, blocks) = (columns.div_ceil(GROUP), tokens.div_ceil(TILE_TOKENS));
    2 * 2 * groups.min(PART) * size_of::<Tile>() + places(groups > PART, blocks) * size_of::<Sums>()
}

/// Sums to keep for so many tiles of tokens.
fn places(waiting: bool, blocks: usize) -> usize {
    if waiting { WAITING_ROWS / STRIP * blocks } else { blocks.min(2) }
}

/// The table's function for type `T`.
///
/// # Safety
/// See [`crate::kernels::matmul::RowsKernel`]; the processor supports AVX-512 with BF16, and AMX is allowed.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(super) unsafe fn rows<T: Tiled>(chunk: &Chunk<'_>) {
    let groups = chunk.weight.columns.div_ceil(GROUP);
    // As few parts as possible, of roughly equal length.
    let part = (groups / T::GROUPS).div_ceil(groups.div_ceil(PART)) * T::GROUPS;
    let blocks = chunk.x.tokens().div_ceil(TILE_TOKENS);
    let waits = part < groups;
    with_two_scratches::<Tile, Sums, _>(2 * part * T::PLANES, places(waits, blocks), |tiles, sums| {
        let all = || {
            for block in chunk.rows.clone().step_by(WAITING_ROWS) {
                let rows = block..(block + WAITING_ROWS).min(chunk.rows.end);
                for start in (0..groups).step_by(part) {
                    for (index, first) in rows.clone().step_by(STRIP).enumerate() {
                        let end = (start + part).min(groups);
                        // SAFETY: the rows have these groups; tiles have these shapes.
                        unsafe {
                            let strip = Strip::unpack::<T>(chunk, first, start..end, tiles);
                            let sums = if waits { &mut sums[index * blocks..][..blocks] } else { &mut *sums };
                            strip.multiply::<T>(chunk, sums, waits);
                        }
                    }
                }
            }
        };
        // SAFETY: AMX is allowed, per the caller.
        unsafe { SHAPES.with(all) };
    });
}

/// A part of the columns of 32 rows.
struct Strip<'a> {
    /// The first row.
    first: usize,
    groups: Range<usize>,
    /// Of sixteen rows each.
    tiles: [&'a [Tile]; 2],
    /// These are the last columns.
    ends: bool,
}

impl<'a> Strip<'a> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
    unsafe fn unpack<T: Tiled>(chunk: &Chunk<'_>, first: usize, groups: Range<usize>, tiles: &'a mut [Tile]) -> Self {
        let columns = chunk.weight.columns;
        let (low, high) = tiles.split_at_mut(groups.len() * T::PLANES);
        let high = &mut high[..low.len()];
        for (tiles, first) in [(&mut *low, first), (&mut *high, first + ROWS)] {
            for row in [0, ROWS / 2] {
                // SAFETY: upheld by the caller.
                unsafe { T::unpack(&chunk.pointers(first + row), columns, groups.clone(), tiles, row) };
            }
        }
        let ends = groups.end == columns.div_ceil(GROUP);
        Self { first, groups, tiles: [low, high], ends }
    }

    /// Multiplies the strip by all tokens. `sums` has a place for each tile of tokens if sums `wait`, or for two.
    ///
    /// # Safety
    /// Tiles have these shapes; the strip's rows belong to this chunk.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
    unsafe fn multiply<T: Tiled>(&self, chunk: &Chunk<'_>, sums: &mut [Sums], wait: bool) {
        let weights = self.tiles.map(<[Tile]>::as_ptr);
        let (groups, begins) = (self.groups.len(), self.groups.start == 0);
        let blocks = chunk.x.tokens().div_ceil(TILE_TOKENS);
        let x = |block| chunk.x.tiles(block)[self.groups.clone()].as_ptr();
        for block in (0..blocks).step_by(2) {
            let place = &mut sums[if wait { block } else { 0 }..];
            // SAFETY: strip and tokens have these groups.
            let done = unsafe {
                match place {
                    [a, b, ..] if block + 1 < blocks => {
                        two_blocks::<T>(weights, [x(block), x(block + 1)], groups, [a, b], begins);
                        &place[..2]
                    }
                    [a, ..] => {
                        one_block::<T>(weights, [x(block)], groups, [a], begins);
                        &place[..1]
                    }
                    [] => unreachable!("a place for every tile of tokens"),
                }
            };
            for (index, sums) in done.iter().enumerate().filter(|_| self.ends) {
                // SAFETY: upheld by the caller.
                unsafe { store_results(chunk, self.first, (block + index) * TILE_TOKENS, sums) };
            }
        }
    }
}

/// Stores the results of a strip's rows for a tile of tokens, as many as there are.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn store_results(chunk: &Chunk<'_>, first: usize, token: usize, sums: &Sums) {
    let tokens = (chunk.x.tokens() - token).min(TILE_TOKENS);
    for (half, sums) in sums.0.iter().enumerate() {
        let mut rows = [_mm512_setzero_si512(); ROWS];
        for (vector, sums) in rows.iter_mut().zip(sums) {
            // SAFETY: sixteen sums on a cache line.
            *vector = unsafe { _mm512_load_si512(sums.as_ptr().cast()) };
        }
        for (index, results) in transposed(rows).into_iter().take(tokens).enumerate() {
            // SAFETY: the rows belong to this chunk, per the caller.
            unsafe { store(chunk, token + index, first + half * ROWS, _mm512_castsi512_ps(results)) };
        }
    }
}

/// A function that multiplies groups of two tiles of rows by tiles of tokens, each with a register for its tokens and two for sums,
/// and adds to the sums, or begins them.
macro_rules! multiply {
    ($name:ident, $count:literal, $($block:literal: $x:literal, $low:literal, $high:literal;)+) => {
        /// # Safety
        /// So many groups are there; tiles have these shapes.
        #[inline]
        unsafe fn $name<T: Tiled>(
            weights: [*const Tile; 2],
            x: [*const TokenTile; $count],
            groups: usize,
            sums: [&mut Sums; $count],
            begins: bool,
        ) {
            const LINE: usize = 64;
            // SAFETY: upheld by the caller. No register is named to the compiler, which has no use for these.
            unsafe {
                $(if begins {
                    asm!(concat!("tilezero ", $low), concat!("tilezero ", $high), options(nostack, nomem));
                } else {
                    asm!(
                        concat!("tileloadd ", $low, ", [{sums} + {line}]"),
                        concat!("tileloadd ", $high, ", [{sums} + {line} + 1024]"),
                        sums = in(reg) std::ptr::from_ref(&*sums[$block]),
                        line = in(reg) LINE,
                        options(nostack, readonly),
                    );
                })+
                for group in 0..groups {
                    $(asm!(
                        concat!("tileloadd ", $x, ", [{x} + {line}]"),
                        x = in(reg) x[$block].add(group),
                        line = in(reg) LINE,
                        options(nostack, readonly),
                    );)+
                    for plane in 0..T::PLANES {
                        asm!(
                            "tileloadd tmm4, [{low} + {line}]",
                            "tileloadd tmm5, [{high} + {line}]",
                            $(concat!("tdpbf16ps ", $low, ", tmm4, ", $x),)+
                            $(concat!("tdpbf16ps ", $high, ", tmm5, ", $x),)+
                            low = in(reg) weights[0].add(group * T::PLANES + plane),
                            high = in(reg) weights[1].add(group * T::PLANES + plane),
                            line = in(reg) LINE,
                            options(nostack, readonly),
                        );
                    }
                }
                $(asm!(
                    concat!("tilestored [{sums} + {line}], ", $low),
                    concat!("tilestored [{sums} + {line} + 1024], ", $high),
                    sums = in(reg) std::ptr::from_mut(&mut *sums[$block]),
                    line = in(reg) LINE,
                    options(nostack),
                );)+
            }
        }
    };
}

multiply!(one_block, 1, 0: "tmm6", "tmm0", "tmm1";);
multiply!(two_blocks, 2, 0: "tmm6", "tmm0", "tmm1"; 1: "tmm7", "tmm2", "tmm3";);
