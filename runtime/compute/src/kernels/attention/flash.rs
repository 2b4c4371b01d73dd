//! Vectorised segment kernel for every instruction set: two small matrix products per page with a softmax between them.
//!
//! ```text
//!               keys of a page                          values of a page    out
//!   q (rows, d) × (d, 64)  ──▶ scores, weights (rows, 64) × (64, d)    +=   (rows, d)
//! ```
//!
//! Keys and values are converted to f32 once for all rows. If one tile holds all rows, as when decoding a single token, F16 is
//! read straight from the page instead: each element is used in the register it was converted in.
//!
//! Both products run through one register tile: some rows times some vectors of columns, each weight broadcast to a vector. Every
//! element is summed over its depth in order with one fused multiply-add per step, whatever the tile, and a row's softmax and
//! sums include exactly the positions that the row sees, so other rows in the block do not affect it. What the pages hold beyond
//! those positions is read and discarded.

use std::ops::Range;

use half::f16;

use super::{Block, Head, PAGE_TOKENS, Partial, blocks};
use crate::kernels::vector::{Vector, exp2, tanh};

/// Rows per tile: 12 accumulators with two vectors of columns, which leaves room for operands in 16 registers; 24 of 32 with
/// four.
const TILE_ROWS: usize = 6;

/// A matrix in memory: its start and row stride.
#[derive(Clone, Copy)]
struct At<T> {
    start: T,
    stride: usize,
}

/// See [`super::SegmentKernel`]. Tiles are `WIDE` vectors of columns, or `WIDER` for up to three rows.
///
/// # Safety
/// See `SegmentKernel` and [`Vector`].
#[inline(always)]
pub(in crate::kernels) unsafe fn segment<V: Vector, const WIDE: usize, const WIDER: usize>(
    block: &Block<'_>,
    positions: Range<usize>,
    scratch: &mut [f32],
    to: &mut Partial<'_>,
) {
    let (rows, key_dim, value_dim) = (block.rows(), block.shape.key_dim, block.shape.value_dim);
    let (key_stride, stride) = (block.shape.key_stride(), block.shape.value_stride());
    to.max.fill(f32::NEG_INFINITY);
    to.sum.fill(0.0);
    to.out.fill(0.0);
    let (keys, scratch) = scratch.split_at_mut(PAGE_TOKENS * key_stride);
    let (values, scores) = scratch.split_at_mut(PAGE_TOKENS * stride);
    assert!(scores.len() >= rows * PAGE_TOKENS && block.q.len() >= rows * key_stride && to.out.len() >= rows * stride);
    for page in positions.start / PAGE_TOKENS..positions.end.div_ceil(PAGE_TOKENS) {
        let seen = (0..rows).map(|row| block.seen(row, page, &positions)).filter(|seen| seen.start < seen.end);
        let none = Range { start: PAGE_TOKENS, end: 0 };
        let all = seen.fold(none, |all, seen| all.start.min(seen.start)..all.end.max(seen.end));
        if all.start >= all.end {
            continue;
        }
        let (page_keys, page_values) = block.page(page);
        // Columns of scores: the visible range rounded out to whole vectors.
        let columns = all.start / V::LANES * V::LANES..all.end.next_multiple_of(V::LANES);
        // SAFETY: `page` gave 64 columns of `key_dim` and rows of `value_dim`; the scratch was cut above for at least as much of
        // each stride, with 64 scores and a stride of `q` and `out` per row. Columns end at 64, a multiple of the lanes.
        unsafe {
            let direct = rows <= TILE_ROWS;
            let q = At { start: block.q.as_ptr(), stride: key_stride };
            let s = At { start: scores.as_mut_ptr().add(columns.start), stride: PAGE_TOKENS };
            match page_keys {
                Head::F16(page_keys) if direct => {
                    let k = At { start: page_keys.as_ptr().add(columns.start), stride: PAGE_TOKENS };
                    product::<V, f16, WIDE, WIDER, true>(rows, columns.len(), key_dim, q, k, s);
                }
                page_keys => {
                    widen_keys::<V>(page_keys, columns.clone(), &mut keys[..key_dim * PAGE_TOKENS]);
                    let k = At { start: keys.as_ptr().add(columns.start), stride: PAGE_TOKENS };
                    for row in (0..rows).step_by(TILE_ROWS) {
                        let (tile, q, s) = ((rows - row).min(TILE_ROWS), down(q, row), down_mut(s, row));
                        product::<V, f32, WIDE, WIDER, true>(tile, columns.len(), key_dim, q, k, s);
                    }
                }
            }
            for row in 0..rows {
                let seen = block.seen(row, page, &positions);
                if seen.start < seen.end {
                    softmax::<V>(block, row, page, seen, &mut scores[row * PAGE_TOKENS..][..PAGE_TOKENS], to);
                }
            }
            match page_values {
                Head::F16(page_values) if direct && value_dim == stride => {
                    weigh::<V, f16, WIDE, WIDER>(block, page, &positions, scores, page_values, to);
                }
                page_values => {
                    widen_values::<V>(page_values, all, value_dim, &mut values[..PAGE_TOKENS * stride]);
                    weigh::<V, f32, WIDE, WIDER>(block, page, &positions, scores, values, to);
                }
            }
        }
    }
}

/// Converts the keys of positions `columns`, whole vectors of them, to `(dim, 64)`.
#[inline(always)]
unsafe fn widen_keys<V: Vector>(from: Head<'_>, columns: Range<usize>, to: &mut [f32]) {
    // SAFETY: a page has 64 columns, and `to` holds as many elements as its keys.
    unsafe {
        match from {
            Head::F16(keys) => {
                for (from, to) in keys.chunks_exact(PAGE_TOKENS).zip(to.chunks_exact_mut(PAGE_TOKENS)) {
                    for column in columns.clone().step_by(V::LANES) {
                        V::load_f16(from.as_ptr().add(column)).store(to.as_mut_ptr().add(column));
                    }
                }
            }
            Head::Q8_0(keys) => blocks::keys::<V, false>(keys, columns, to.as_mut_ptr()),
            Head::Q4_0(keys) => blocks::keys::<V, true>(keys, columns, to.as_mut_ptr()),
        }
    }
}

/// Converts the values of `positions` to `(64, stride)`.
#[inline(always)]
unsafe fn widen_values<V: Vector>(from: Head<'_>, positions: Range<usize>, dim: usize, to: &mut [f32]) {
    let stride = to.len() / PAGE_TOKENS;
    // SAFETY: a page has 64 rows, and so has `to`.
    unsafe {
        match from {
            Head::F16(values) => {
                for position in positions {
                    widen::<V>(&values[position * dim..][..dim], &mut to[position * stride..][..stride]);
                }
            }
            // Whole blocks are whole vectors: rows of `dim` need no padding.
            Head::Q8_0(values) => blocks::values::<V, false>(values, positions, to.as_mut_ptr()),
            Head::Q4_0(values) => blocks::values::<V, true>(values, positions, to.as_mut_ptr()),
        }
    }
}

/// Element type of a product's right side.
trait Element: Copy {
    /// As [`Vector::load`] says.
    unsafe fn load<V: Vector>(from: *const Self) -> V;
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const Self) -> V {
        // SAFETY: upheld by the caller.
        unsafe { V::load(from) }
    }
}

impl Element for f16 {
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const Self) -> V {
        // SAFETY: upheld by the caller.
        unsafe { V::load_f16(from) }
    }
}

/// Adds the weighted values of a page, `(64, stride)`, to `out`.
#[inline(always)]
unsafe fn weigh<V: Vector, E: Element, const WIDE: usize, const WIDER: usize>(
    block: &Block<'_>,
    page: usize,
    positions: &Range<usize>,
    weights: &[f32],
    values: &[E],
    to: &mut Partial<'_>,
) {
    let (rows, stride) = (block.rows(), block.shape.value_stride());
    let add = |row: usize, count: usize, seen: Range<usize>, to: &mut Partial<'_>| {
        if seen.start < seen.end {
            // (rows, positions), (positions, stride), (rows, stride)
            let a = At { start: weights[row * PAGE_TOKENS + seen.start..].as_ptr(), stride: PAGE_TOKENS };
            let b = At { start: values[seen.start * stride..].as_ptr(), stride };
            let c = At { start: to.out[row * stride..].as_mut_ptr(), stride };
            Some((count, seen.len(), a, b, c))
        } else {
            None
        }
    };
    let mut row = 0;
    while row < rows {
        let tile = (rows - row).min(TILE_ROWS);
        // Positions that all rows of the tile see are processed together, those before and after row by row: in order for each
        // row.
        let seen = |row: usize| block.seen(row, page, positions);
        let common = (row..row + tile).map(seen).fold(0..PAGE_TOKENS, |common, seen| {
            common.start.max(seen.start)..common.end.min(seen.end).max(common.start.max(seen.start))
        });
        let alone = common.is_empty();
        for row in row..row + tile {
            let end = if alone { seen(row).end } else { common.start };
            if let Some((rows, depth, a, b, c)) = add(row, 1, seen(row).start..end, to) {
                // SAFETY: see `segment`; positions end at 64.
                unsafe { product::<V, E, WIDE, WIDER, false>(rows, stride, depth, a, b, c) }
            }
        }
        if let Some((rows, depth, a, b, c)) = add(row, tile, common.clone(), to) {
            // SAFETY: as above.
            unsafe { product::<V, E, WIDE, WIDER, false>(rows, stride, depth, a, b, c) }
        }
        if !alone {
            for row in row..row + tile {
                if let Some((rows, depth, a, b, c)) = add(row, 1, common.end..seen(row).end, to) {
                    // SAFETY: as above.
                    unsafe { product::<V, E, WIDE, WIDER, false>(rows, stride, depth, a, b, c) }
                }
            }
        }
        row += tile;
    }
}

/// Weights are summed in this many lanes, whatever the vector width.
const SIDE: usize = 16;

/// Reduces the first vectors, [`SIDE`] lanes in all, by halving until one is left.
#[inline(always)]
unsafe fn folded<V: Vector>(mut sums: [V; SIDE]) -> V {
    let mut vectors = SIDE / V::LANES;
    while vectors > 1 {
        vectors /= 2;
        for at in 0..vectors {
            // SAFETY: the caller upholds `Vector`'s contract.
            sums[at] = unsafe { sums[at].add(sums[at + vectors]) };
        }
    }
    sums[0]
}

/// Lane indices, enough for the widest vector.
const COUNT: [f32; SIDE] = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];

/// Turns the scores that a row sees in one page into weights, and updates its running maximum, sum and `out`.
#[inline(always)]
unsafe fn softmax<V: Vector>(
    block: &Block<'_>,
    row: usize,
    page: usize,
    seen: Range<usize>,
    scores: &mut [f32],
    to: &mut Partial<'_>,
) {
    let columns = seen.start / SIDE * SIDE..seen.end.next_multiple_of(SIDE);
    // SAFETY: columns are whole vectors within the row's 64 scores; `out` is `stride` long, a multiple of the lanes.
    unsafe {
        if let Some(cap) = block.cap() {
            for column in columns.clone().step_by(V::LANES) {
                let at = scores.as_mut_ptr().add(column);
                tanh(V::load(at)).mul(V::splat(cap)).store(at);
            }
        }
        if let Some((slope, first)) = block.slope(row, page) {
            for column in columns.clone().step_by(V::LANES) {
                let at = scores.as_mut_ptr().add(column);
                let distance = V::load(COUNT.as_ptr()).add(V::splat(first + column as f32));
                let nearness = distance.min(V::splat(0.0).sub(distance));
                nearness.mul_add(V::splat(slope), V::load(at)).store(at);
            }
        }
        scores[columns.start..seen.start].fill(f32::NEG_INFINITY);
        scores[seen.end..columns.end].fill(f32::NEG_INFINITY);
        let mut largest = V::load(scores.as_ptr().add(columns.start));
        for column in columns.clone().step_by(V::LANES) {
            largest = largest.max(V::load(scores.as_ptr().add(column)));
        }
        let before = to.max[row];
        let largest = largest.largest();
        let max = if largest > before { largest } else { before };
        // If every score so far is -inf, there is nothing to subtract; all weights come out 0.
        let base = V::splat(if max == f32::NEG_INFINITY { 0.0 } else { max });
        let mut sums = [V::splat(0.0); SIDE];
        for first in columns.step_by(SIDE) {
            for (column, sum) in (first..first + SIDE).step_by(V::LANES).zip(&mut sums) {
                let at = scores.as_mut_ptr().add(column);
                let weight = exp2(V::load(at).sub(base));
                weight.store(at);
                *sum = sum.add(weight);
            }
        }
        let mut sum = folded(sums).sum();
        if max != before {
            let factor = exp2(V::splat(before - max));
            let stride = block.shape.value_stride();
            let out = to.out[row * stride..][..stride].as_mut_ptr();
            for column in (0..stride).step_by(V::LANES) {
                V::load(out.add(column)).mul(factor).store(out.add(column));
            }
            let mut lanes = [0.0; 16];
            factor.store(lanes.as_mut_ptr());
            sum += to.sum[row] * lanes[0];
            to.max[row] = max;
        } else {
            sum += to.sum[row];
        }
        to.sum[row] = sum;
    }
}

/// Converts a row of f16 to f32, zero-padded.
#[inline(always)]
unsafe fn widen<V: Vector>(from: &[f16], to: &mut [f32]) {
    let mut column = 0;
    // SAFETY: whole vectors within `from`, and `to` is at least as long.
    unsafe {
        while column + V::LANES <= from.len() {
            V::load_f16(from.as_ptr().add(column)).store(to.as_mut_ptr().add(column));
            column += V::LANES;
        }
    }
    for (to, from) in to[column..].iter_mut().zip(&from[column..]) {
        *to = from.to_f32();
    }
    to[from.len()..].fill(0.0);
}

/// f32 to the nearest f16, clamped to its largest value.
///
/// # Safety
/// See [`Vector`].
#[inline(always)]
pub(in crate::kernels) unsafe fn convert<V: Vector>(from: &[f32], to: &mut [f16]) {
    assert_eq!(from.len(), to.len());
    let most = f16::MAX.to_f32();
    let mut column = 0;
    // SAFETY: whole vectors within both slices.
    unsafe {
        while column + V::LANES <= from.len() {
            let value = V::load(from.as_ptr().add(column));
            // The bounds are the first operands, so that NaN propagates.
            V::splat(-most).max(V::splat(most).min(value)).store_f16(to.as_mut_ptr().add(column));
            column += V::LANES;
        }
    }
    for (to, from) in to[column..].iter_mut().zip(&from[column..]) {
        *to = f16::from_f32(from.clamp(-most, most));
    }
}

#[inline(always)]
unsafe fn down(at: At<*const f32>, rows: usize) -> At<*const f32> {
    // SAFETY: the caller's matrix has these rows.
    At { start: unsafe { at.start.add(rows * at.stride) }, ..at }
}

#[inline(always)]
unsafe fn down_mut(at: At<*mut f32>, rows: usize) -> At<*mut f32> {
    // SAFETY: the caller's matrix has these rows.
    At { start: unsafe { at.start.add(rows * at.stride) }, ..at }
}

/// `c (+)= a b` for at most [`TILE_ROWS`] rows; `columns` is a multiple of the lanes. `FRESH` overwrites `c`.
#[inline(always)]
unsafe fn product<V: Vector, E: Element, const WIDE: usize, const WIDER: usize, const FRESH: bool>(
    rows: usize,
    columns: usize,
    depth: usize,
    a: At<*const f32>,
    b: At<*const E>,
    c: At<*mut f32>,
) {
    // SAFETY: the caller's matrices have these sizes; each branch is a tile with as many rows.
    unsafe {
        match rows {
            1 => strip::<V, E, 1, WIDER, FRESH>(columns, depth, a, b, c),
            2 => strip::<V, E, 2, WIDER, FRESH>(columns, depth, a, b, c),
            3 => strip::<V, E, 3, WIDER, FRESH>(columns, depth, a, b, c),
            4 => strip::<V, E, 4, WIDE, FRESH>(columns, depth, a, b, c),
            5 => strip::<V, E, 5, WIDE, FRESH>(columns, depth, a, b, c),
            _ => strip::<V, E, TILE_ROWS, WIDE, FRESH>(columns, depth, a, b, c),
        }
    }
}

/// `ROWS` rows of a product, over all columns.
#[inline(always)]
unsafe fn strip<V: Vector, E: Element, const ROWS: usize, const WIDE: usize, const FRESH: bool>(
    columns: usize,
    depth: usize,
    a: At<*const f32>,
    b: At<*const E>,
    c: At<*mut f32>,
) {
    let mut column = 0;
    // SAFETY: tiles of whole vectors within `columns`.
    unsafe {
        while column + WIDE * V::LANES <= columns {
            let (b, c) = (At { start: b.start.add(column), ..b }, At { start: c.start.add(column), ..c });
            tile::<V, E, ROWS, WIDE, FRESH>(depth, a, b, c);
            column += WIDE * V::LANES;
        }
        while column + 2 * V::LANES <= columns {
            let (b, c) = (At { start: b.start.add(column), ..b }, At { start: c.start.add(column), ..c });
            tile::<V, E, ROWS, 2, FRESH>(depth, a, b, c);
            column += 2 * V::LANES;
        }
        while column < columns {
            let (b, c) = (At { start: b.start.add(column), ..b }, At { start: c.start.add(column), ..c });
            tile::<V, E, ROWS, 1, FRESH>(depth, a, b, c);
            column += V::LANES;
        }
    }
}

/// `ROWS` rows by `WIDE` vectors of a product, accumulated in registers over the whole depth.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "registers, not memory: iterators would pass them through closures")]
unsafe fn tile<V: Vector, E: Element, const ROWS: usize, const WIDE: usize, const FRESH: bool>(
    depth: usize,
    a: At<*const f32>,
    b: At<*const E>,
    c: At<*mut f32>,
) {
    // SAFETY: the caller guarantees that `a` is (ROWS, depth), `b` (depth, WIDE vectors), `c` (ROWS, WIDE vectors).
    unsafe {
        let mut sums = [[V::splat(0.0); WIDE]; ROWS];
        if !FRESH {
            for row in 0..ROWS {
                for wide in 0..WIDE {
                    sums[row][wide] = V::load(c.start.add(row * c.stride + wide * V::LANES));
                }
            }
        }
        for step in 0..depth {
            let mut right = [V::splat(0.0); WIDE];
            for wide in 0..WIDE {
                right[wide] = E::load(b.start.add(step * b.stride + wide * V::LANES));
            }
            for row in 0..ROWS {
                let left = V::splat(*a.start.add(row * a.stride + step));
                for wide in 0..WIDE {
                    sums[row][wide] = left.mul_add(right[wide], sums[row][wide]);
                }
            }
        }
        for row in 0..ROWS {
            for wide in 0..WIDE {
                sums[row][wide].store(c.start.add(row * c.stride + wide * V::LANES));
            }
        }
    }
}
