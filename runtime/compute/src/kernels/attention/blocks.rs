//! Dequantises a page's keys and values to f32, in the order that `flash`'s products read.
//!
//! A scale is an f16 and a level a small integer, so their product is exact in f32, and adding a key's centre rounds once: every
//! table gets the same values.

use std::ops::Range;

use half::f16;

use super::PAGE_TOKENS;
use super::cache::Blocks;
use crate::kernels::vector::Vector;
use crate::quant::GROUP;

/// Bytes of levels per block.
const fn level_bytes(nibbles: bool) -> usize {
    if nibbles { GROUP / 2 } else { GROUP }
}

/// Levels times a scale.
#[derive(Clone, Copy)]
struct Scale<V> {
    factor: V,
    /// Nibbles have a zero point of 8: `level · factor + offset`, still exact.
    offset: V,
}

impl<V: Vector> Scale<V> {
    #[inline(always)]
    unsafe fn new(factor: V) -> Self {
        // SAFETY: the caller upholds `Vector`'s contract; no memory is touched.
        unsafe { Self { factor, offset: factor.mul(V::splat(-8.0)) } }
    }

    /// Two vectors of nibbles, as f32.
    #[inline(always)]
    unsafe fn nibbles(self, levels: *const u8) -> [V; 2] {
        // SAFETY: the caller has as many levels.
        unsafe { V::load_nibbles(levels).map(|level| level.mul_add(self.factor, self.offset)) }
    }

    /// Converts one vector of levels to f32 at `to`; for nibbles two vectors, the second `apart` elements later.
    #[inline(always)]
    unsafe fn apply<const NIBBLES: bool>(self, levels: *const u8, to: *mut f32, apart: usize) {
        // SAFETY: the caller has as many levels, and the room.
        unsafe {
            if NIBBLES {
                let [low, high] = self.nibbles(levels);
                low.store(to);
                high.store(to.add(apart));
            } else {
                V::load_i8(levels.cast()).mul(self.factor).store(to);
            }
        }
    }
}

/// A block's part of a centre; zeros if there is none.
fn centre(all: &[f16], block: usize) -> [f32; GROUP] {
    let part = all.get(block * GROUP..(block + 1) * GROUP).unwrap_or_default();
    std::array::from_fn(|at| part.get(at).map_or(0.0, |value| value.to_f32()))
}

/// Dequantises the keys of positions `columns`, whole vectors of them, to `(head_dim, PAGE_TOKENS)` at `to`.
///
/// # Safety
/// See [`Vector`]; the blocks hold keys, and `to` has room for as many elements.
#[inline(always)]
pub(super) unsafe fn keys<V: Vector, const NIBBLES: bool>(blocks: Blocks<'_>, columns: Range<usize>, to: *mut f32) {
    let bytes = level_bytes(NIBBLES);
    // SAFETY: `Head` guarantees 64 positions in every row; columns end at 64, a multiple of the lanes.
    unsafe {
        for block in 0..blocks.scales.len() / PAGE_TOKENS {
            let centre = centre(blocks.centre, block);
            for position in columns.clone().step_by(V::LANES) {
                let scale = Scale::new(V::load_f16(blocks.scales.as_ptr().add(block * PAGE_TOKENS + position)));
                let levels = blocks.levels.as_ptr().add(block * bytes * PAGE_TOKENS + position);
                let to = to.add(block * GROUP * PAGE_TOKENS + position);
                for row in 0..bytes {
                    let (levels, to) = (levels.add(row * PAGE_TOKENS), to.add(row * PAGE_TOKENS));
                    if NIBBLES {
                        let [low, high] = scale.nibbles(levels);
                        low.add(V::splat(centre[row])).store(to);
                        high.add(V::splat(centre[row + GROUP / 2])).store(to.add(GROUP / 2 * PAGE_TOKENS));
                    } else {
                        scale.apply::<false>(levels, to, 0);
                    }
                }
            }
        }
    }
}

/// Dequantises the values of `positions` to rows of `head_dim`; `to` is the page's first position.
///
/// # Safety
/// See [`Vector`]; the blocks hold values, and `to` has room for as many elements.
#[inline(always)]
pub(super) unsafe fn values<V: Vector, const NIBBLES: bool>(blocks: Blocks<'_>, positions: Range<usize>, to: *mut f32) {
    let (bytes, count) = (level_bytes(NIBBLES), blocks.scales.len() / PAGE_TOKENS);
    let mut lanes = [0.0; 16];
    // SAFETY: `Head` guarantees 64 rows of `count` blocks; positions end at 64, and 64 and 16 are multiples of the lanes.
    unsafe {
        for first in (positions.start / V::LANES * V::LANES..positions.end).step_by(V::LANES) {
            let seen = positions.start.max(first)..positions.end.min(first + V::LANES);
            for block in 0..count {
                V::load_f16(blocks.scales.as_ptr().add(block * PAGE_TOKENS + first)).store(lanes.as_mut_ptr());
                for position in seen.clone() {
                    let scale = Scale::new(V::splat(lanes[position - first]));
                    let at = position * count + block;
                    let (levels, to) = (blocks.levels.as_ptr().add(at * bytes), to.add(at * GROUP));
                    for column in (0..bytes).step_by(V::LANES) {
                        scale.apply::<NIBBLES>(levels.add(column), to.add(column), GROUP / 2);
                    }
                }
            }
        }
    }
}
