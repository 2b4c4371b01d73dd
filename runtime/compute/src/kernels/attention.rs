//! Attention over a paged KV cache: one pass over the positions, with no score matrix.
//!
//! A unit of work is a *block* of query tokens of one sequence for one KV head: its rows are those tokens times the query heads
//! that share the KV head, and each page's keys and values are converted once for all of them. Per page a row's scores, their
//! maximum and the weighted sum of the values are folded into a running `(max, sum, out)`: the online softmax.
//!
//! Positions are cut into *segments* of `SEGMENT` at fixed places, each folded on its own, and the segments' results are then
//! merged first to last. That is done for every query, alone or in a batch, so whether one thread walks all segments of a unit
//! or several threads take some each (one token after a long context) cannot show in the result.
//!
//! Scores are kept in units of ln 2, so that weights are powers of two: `softmax(s) = 2^(s log2 e - max) / sum`.

mod alibi;
mod blocks;
mod cache;
mod call;
mod flash;
mod hadamard;
mod partial;
mod store;
#[cfg(test)]
mod tests;

use std::ops::Range;

use half::f16;

pub use self::alibi::slopes as alibi_slopes;
pub use self::cache::{CacheType, CacheTypes};
pub(super) use self::cache::{Head, Role};
use self::call::Call;
pub use self::call::{shared_bytes, thread_bytes};
pub(super) use self::flash::{convert, segment};
pub(super) use self::hadamard::transform;
pub use self::hadamard::{hadamard, hadamard_block};
pub(crate) use self::partial::Partial;
pub use self::store::{NewPositions, store};
use super::Kernels;
use super::threads::Threads;

/// Positions per page of one layer: every KV head's keys, then every KV head's values, each laid out as in `cache`.
pub const PAGE_TOKENS: usize = 64;

/// Positions folded before merging with the rest: whole pages; large enough that merging is free, small enough that a context of
/// a thousand tokens feeds several threads.
const SEGMENT: usize = 4 * PAGE_TOKENS;

/// Maximum rows per block: enough to amortise converting a page, few enough for L2.
const BLOCK_ROWS: usize = 48;

/// What one query token sees.
#[derive(Clone, Debug)]
pub struct Query<'a> {
    /// This layer's pages of the token's sequence, each of [`AttentionShape::page`] elements. Pages before the first visible
    /// position may have been freed by a sliding window; each is then an empty slice.
    pub pages: &'a [&'a [f16]],
    /// Positions attended to: up to the token's own in causal attention, all of them in an encoder, the last ones in a window.
    pub positions: Range<usize>,
    /// The token's own position, from which [`AttentionShape::alibi`] measures distance.
    pub position: usize,
}

/// The heads of a layer.
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape {
    /// Query heads: a multiple of `kv_heads`.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Elements per query and key head.
    pub key_dim: usize,
    /// Elements per value head, and per head of the result.
    pub value_dim: usize,
    /// Score scale, usually `1 / sqrt(key_dim)`.
    pub scale: f32,
    /// Scores become `cap * tanh(score / cap)`.
    pub softcap: Option<f32>,
    /// ALiBi's `max_bias`, usually 8, which sets each query head's slope: scores lose slope times distance, after the softcap.
    pub alibi: Option<f32>,
    /// How keys and values are stored. Quantised types need head sizes of whole blocks, see [`CacheTypes::check`].
    pub cache: CacheTypes,
}

impl AttentionShape {
    /// Query heads per KV head.
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Elements per scratch row of a key head: zero-padded to whole vectors of every instruction set.
    pub(super) fn key_stride(&self) -> usize {
        self.key_dim.next_multiple_of(16)
    }

    /// The same for a value's head.
    pub(super) fn value_stride(&self) -> usize {
        self.value_dim.next_multiple_of(16)
    }

    /// Page size in f16 elements; quantised pages are measured in the same unit.
    ///
    /// # Panics
    /// If the types cannot store heads of this size.
    pub fn page(&self) -> usize {
        self.kv_heads * self.cache.page(self.key_dim, self.value_dim)
    }

    fn check(&self) {
        let nothing = [self.kv_heads, self.key_dim, self.value_dim].contains(&0);
        assert!(!nothing, "attention without heads: {self:?}");
        assert!(self.heads.is_multiple_of(self.kv_heads), "query heads are no multiple of KV heads: {self:?}");
        assert_eq!(self.cache.check(self.key_dim, self.value_dim), Ok(()));
    }
}

/// A table's entries for attention.
pub struct AttentionKernels {
    /// Folds the positions of one segment.
    pub(crate) segment: SegmentKernel,
    /// f32 to the nearest f16, clamped to its range; slices of the same length.
    pub(crate) convert: unsafe fn(&[f32], &mut [f16]),
    /// Hadamard transform in blocks of the given size, a power of two, see [`hadamard()`].
    pub(crate) hadamard: unsafe fn(&mut [f32], usize),
}

/// Folds those of `positions` (inside one segment) that each row of the block sees into `to`, overwriting it. A row that sees
/// none gets maximum -inf, sum 0 and zeros.
///
/// # Safety
/// The processor supports the table; the block's pages reach the last visible position, and every page with a visible position
/// has the shape's size.
pub(crate) type SegmentKernel =
    unsafe fn(block: &Block<'_>, positions: Range<usize>, scratch: &mut [f32], to: &mut Partial<'_>);

/// Query tokens of one sequence, for query heads of one KV head.
pub(crate) struct Block<'a> {
    pub(crate) shape: &'a AttentionShape,
    /// Query heads per token.
    pub(crate) group: usize,
    pub(crate) kv_head: usize,
    pub(crate) queries: &'a [Query<'a>],
    /// `(rows, key_stride)`, pre-scaled: multiplied with keys.
    pub(crate) q: &'a [f32],
    /// Per head of the group, what a score loses per position of distance; empty without ALiBi.
    pub(crate) slopes: &'a [f32],
}

impl Block<'_> {
    /// Rows: token by token, each with the group's query heads.
    pub(crate) fn rows(&self) -> usize {
        self.queries.len() * self.group
    }

    /// Which of the page's positions (0..PAGE_TOKENS) within `positions` a row folds; none when `start >= end`.
    #[inline]
    pub(crate) fn seen(&self, row: usize, page: usize, positions: &Range<usize>) -> Range<usize> {
        let all = &self.queries[row / self.group].positions;
        let first = page * PAGE_TOKENS;
        let (start, end) = (all.start.max(positions.start).max(first), all.end.min(positions.end));
        start - first..end.clamp(first, first + PAGE_TOKENS) - first
    }

    /// The keys and values of a page for this head.
    pub(crate) fn page(&self, page: usize) -> (Head<'_>, Head<'_>) {
        let AttentionShape { kv_heads, key_dim, value_dim, cache: CacheTypes { keys, values }, .. } = *self.shape;
        let (of_keys, of_values) = (keys.page(Role::Keys, key_dim), values.page(Role::Values, value_dim));
        let (all_keys, all_values) = self.queries[0].pages[page].split_at(kv_heads * of_keys);
        (
            Head::new(keys, Role::Keys, key_dim, &all_keys[self.kv_head * of_keys..][..of_keys]),
            Head::new(values, Role::Values, value_dim, &all_values[self.kv_head * of_values..][..of_values]),
        )
    }

    /// With a softcap, `q` times a key is the argument of `tanh`, and the score is this many times the result.
    pub(crate) fn cap(&self) -> Option<f32> {
        self.shape.softcap.map(|cap| cap * std::f32::consts::LOG2_E)
    }

    /// What a row's scores lose per position of distance, and the distance from the row's position to the page's first.
    #[inline]
    pub(crate) fn slope(&self, row: usize, page: usize) -> Option<(f32, f32)> {
        let slope = *self.slopes.get(row % self.group)?;
        let own = self.queries[row / self.group].position;
        Some((slope, (page * PAGE_TOKENS) as f32 - own as f32))
    }
}

/// Attention of every query token over its own positions. `q` is `(tokens, heads * key_dim)`, `out` is `(tokens, heads *
/// value_dim)`, and `queries` has one entry per token; a token that sees no position gets zeros. A token's result depends only on
/// its own query, keys and values.
///
/// `sinks` holds one score per query head that joins the softmax like a position whose value is zeros, so the other weights need
/// not sum to one. Neither scale nor softcap applies to it.
///
/// # Panics
/// If lengths do not match the shape, or a query sees positions that its pages do not hold.
pub fn attention(
    kernels: &Kernels,
    threads: &Threads,
    shape: &AttentionShape,
    sinks: Option<&[f32]>,
    q: &[f32],
    queries: &[Query<'_>],
    out: &mut [f32],
) {
    shape.check();
    let (tokens, columns, out_columns) = (queries.len(), shape.heads * shape.key_dim, shape.heads * shape.value_dim);
    assert!(
        q.len() == tokens * columns && out.len() == tokens * out_columns,
        "{tokens} tokens of {columns} columns, {out_columns} of the result"
    );
    assert!(sinks.is_none_or(|sinks| sinks.len() == shape.heads), "a sink for each of {} heads", shape.heads);
    Call::new(kernels, shape, sinks, q, queries, out).run(threads);
}
