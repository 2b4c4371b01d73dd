//! Strips: eight rows unpacked for tiles that reuse them over many tokens.

use super::blocks::{Block, Header, Rows, Weights};
use super::dot::{Dot, Quads};
use crate::kernels::matmul::Chunk;
use crate::kernels::scratch::{Numbers, with_scratch};
use crate::quant::GROUP;

/// Rows per strip: two vectors of them.
pub(super) const STRIP: usize = 8;

/// One group of 32 columns of a strip's rows, as a tile reads it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct StripGroup {
    /// `[half][rows 0-3, rows 4-7]`
    pub(super) levels: [[Quads; 2]; 2],
    /// `[rows 0-3, rows 4-7]`
    pub(super) weights: [Weights; 2],
}

// SAFETY: plain vectors of numbers.
unsafe impl Numbers for StripGroup {}

/// Unpacks the chunk's rows strip by strip, and calls `each` with the first row and the strip.
///
/// # Safety
/// The processor supports `D`.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn for_each_strip<B: Block, D: Dot>(chunk: &Chunk<'_>, mut each: impl FnMut(usize, &[StripGroup])) {
    let blocks = chunk.weight.columns / (B::GROUPS * GROUP);
    with_scratch::<StripGroup, _>(blocks * B::GROUPS, |strip| {
        for first in chunk.rows.clone().step_by(STRIP) {
            for vector in 0..2 {
                // SAFETY: each row pointer has `blocks` blocks; the strip has a slot for every group.
                unsafe { unpack::<B, D>(&chunk.pointers(first + 4 * vector), vector, blocks, strip) };
            }
            each(first, strip);
        }
    });
}

/// Unpacks four rows into one vector of a strip.
#[target_feature(enable = "neon")]
unsafe fn unpack<B: Block, D: Dot>(rows: &Rows, vector: usize, blocks: usize, strip: &mut [StripGroup]) {
    let mut header = Header::new();
    for block in 0..blocks {
        // SAFETY: the caller guarantees `blocks` blocks at each row, and slots in the strip.
        unsafe {
            let rows = rows.map(|row| row.add(block * B::BYTES));
            B::header(&rows, &mut header);
            for group in 0..B::GROUPS {
                let place = strip.get_unchecked_mut(block * B::GROUPS + group);
                let levels = rows.map(|row| B::levels(row, group));
                for half in 0..2 {
                    place.levels[half][vector] = D::lay_out(levels.map(|levels| levels[half]));
                }
                place.weights[vector] = header[group];
            }
        }
    }
}
