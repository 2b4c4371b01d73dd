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
mod partial;
#[cfg(test)]
mod tests;

use std::ops::Range;

use half::f16;

pub use self::cache::{CacheType, CacheTypes};
pub(super) use self::cache::{Head, Role};
use self::call::Call;
pub(super) use self::flash::{segment, store};
pub(crate) use self::partial::Partial;
use super::Kernels;
use super::threads::Threads;

/// Positions in a page of one layer: the keys of every KV head, then their values, each as `cache` lays it out.
pub const PAGE_TOKENS: usize = 64;

/// Positions that are folded together before they are merged with the rest: whole pages, and enough of them that merging is
/// free, but few enough that a context of a thousand tokens has work for several threads.
const SEGMENT: usize = 4 * PAGE_TOKENS;

/// Rows of a block at the most: enough that converting a page is a small part, few enough for the second-level cache.
const BLOCK_ROWS: usize = 48;

/// What one query token sees.
#[derive(Clone, Debug)]
pub struct Query<'a> {
    /// This layer's pages of the token's sequence, each of [`AttentionShape::page`] elements. Those before the first position
    /// that is seen may be gone, as a sliding window lets them go: an empty slice is in the place of each.
    pub pages: &'a [&'a [f16]],
    /// The positions attended to: up to the token's own in a text that is continued, all of an encoder's, the last ones of a
    /// window.
    pub positions: Range<usize>,
    /// The token's own position, which [`AttentionShape::alibi`] counts from.
    pub position: usize,
}

/// The heads of a layer.
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape {
    /// Query heads: a multiple of `kv_heads`.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Elements of a query's and of a key's head.
    pub key_dim: usize,
    /// Elements of a value's head, and of the result's.
    pub value_dim: usize,
    /// Factor of the scores, commonly `1 / sqrt(key_dim)`.
    pub scale: f32,
    /// Scores become `cap * tanh(score / cap)`.
    pub softcap: Option<f32>,
    /// Then they lose the distance in positions times a slope of each query head's own: the `max_bias` that says how steep
    /// the slopes are, commonly 8.
    pub alibi: Option<f32>,
    /// How keys and values are stored. Quantised ones need heads of whole blocks, see [`CacheTypes::check`].
    pub cache: CacheTypes,
}

impl AttentionShape {
    /// Query heads to a KV head.
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Elements of a row of scratch for a key's head: with zeros up to whole vectors of every instruction set.
    pub(super) fn key_stride(&self) -> usize {
        self.key_dim.next_multiple_of(16)
    }

    /// The same for a value's head.
    pub(super) fn value_stride(&self) -> usize {
        self.value_dim.next_multiple_of(16)
    }

    /// Elements of a page: f16, or as much memory.
    ///
    /// # Panics
    /// If the types cannot store heads of this size.
    pub fn page(&self) -> usize {
        self.kv_heads * (self.cache.keys.page(self.key_dim) + self.cache.values.page(self.value_dim))
    }

    fn check(&self) {
        let nothing = [self.kv_heads, self.key_dim, self.value_dim].contains(&0);
        assert!(!nothing, "attention without heads: {self:?}");
        assert!(self.heads.is_multiple_of(self.kv_heads), "query heads are no multiple of KV heads: {self:?}");
        assert_eq!(self.cache.check(self.key_dim, self.value_dim), Ok(()));
    }
}

/// What a table gives for attention.
pub struct AttentionKernels {
    /// Folds the positions of one segment.
    pub(crate) segment: SegmentKernel,
    /// f32 to f16, slices of the same length.
    pub(crate) store: unsafe fn(&[f32], &mut [f16]),
}

/// Folds the positions of `positions` (inside one segment) that each row of the block sees into `to`, which it overwrites.
/// A row that sees none of them gets maximum -inf, sum 0 and zeros.
///
/// # Safety
/// The processor has what the table needs; the block's pages reach to the last position seen, and those with a position that is
/// seen are of the shape's size.
pub(crate) type SegmentKernel =
    unsafe fn(block: &Block<'_>, positions: Range<usize>, scratch: &mut [f32], to: &mut Partial<'_>);

/// Query tokens of one sequence, for query heads of one KV head.
pub(crate) struct Block<'a> {
    pub(crate) shape: &'a AttentionShape,
    /// Query heads of a token.
    pub(crate) group: usize,
    pub(crate) kv_head: usize,
    pub(crate) queries: &'a [Query<'a>],
    /// `(rows, key_stride)`, scaled: what a key is multiplied with.
    pub(crate) q: &'a [f32],
    /// By head of the group, what a score loses for each position of distance; empty: nothing.
    pub(crate) slopes: &'a [f32],
}

impl Block<'_> {
    /// Rows: token by token, in each the query heads of the group.
    pub(crate) fn rows(&self) -> usize {
        self.queries.len() * self.group
    }

    /// Which of the page's positions (0..PAGE_TOKENS) a row folds within `positions`; empty: `start >= end`.
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
        let (of_keys, of_values) = (keys.page(key_dim), values.page(value_dim));
        let (all_keys, all_values) = self.queries[0].pages[page].split_at(kv_heads * of_keys);
        (
            Head::new(keys, key_dim, &all_keys[self.kv_head * of_keys..][..of_keys]),
            Head::new(values, value_dim, &all_values[self.kv_head * of_values..][..of_values]),
        )
    }

    /// With a cap, a product of `q` and a key is what `tanh` takes, and the score is this many times the result.
    pub(crate) fn cap(&self) -> Option<f32> {
        self.shape.softcap.map(|cap| cap * std::f32::consts::LOG2_E)
    }

    /// What a row's scores lose for each position of distance, and how far the first position of a page is from the row's own.
    #[inline]
    pub(crate) fn slope(&self, row: usize, page: usize) -> Option<(f32, f32)> {
        let slope = *self.slopes.get(row % self.group)?;
        let own = self.queries[row / self.group].position;
        Some((slope, (page * PAGE_TOKENS) as f32 - own as f32))
    }
}

/// Attention of every query token over its own positions. `q` is `(tokens, heads * key_dim)`, `out` is
/// `(tokens, heads * value_dim)`, and `queries` has one entry a token; a token that sees no position gets zeros. What a token
/// gets depends on nothing but its own query, keys and values.
///
/// `sinks` has a score for each query head that takes part in its softmax as a position with a value of zeros would: scores of
/// the others need not sum to one. Neither the scale nor the cap applies to it.
///
/// # Panics
/// If lengths do not fit the shape, or a query sees positions that its pages do not hold.
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

/// Writes the key (`kv_heads * key_dim`) and value (`kv_heads * value_dim`) of one position into slot `slot` of a page. What f16
/// cannot hold becomes its largest value, whatever the type, so that one outlier does not turn every later score into
/// infinities. What is no number stays none in F16, and is stored as 0 in the quantised types.
///
/// # Panics
/// If lengths do not fit the shape.
pub fn store_kv(kernels: &Kernels, shape: &AttentionShape, page: &mut [f16], slot: usize, key: &[f32], value: &[f32]) {
    shape.check();
    let AttentionShape { kv_heads, key_dim, value_dim, cache, .. } = *shape;
    assert!(slot < PAGE_TOKENS && page.len() == shape.page(), "slot {slot} of a page of {} elements", page.len());
    assert!(key.len() == kv_heads * key_dim, "a key has {kv_heads} heads of {key_dim} columns");
    assert!(value.len() == kv_heads * value_dim, "a value has {kv_heads} heads of {value_dim} columns");
    let convert = kernels.attention.store;
    let (keys, values) = page.split_at_mut(kv_heads * cache.keys.page(key_dim));
    let sides = [(Role::Keys, cache.keys, key_dim, keys, key), (Role::Values, cache.values, value_dim, values, value)];
    for (role, ty, dim, memory, row) in sides {
        for (part, row) in memory.chunks_exact_mut(ty.page(dim)).zip(row.chunks_exact(dim)) {
            match ty {
                // SAFETY: a table is handed out only where the processor has what it needs; the slices have the same length.
                CacheType::F16 => cache::store_f16(|from, to| unsafe { convert(from, to) }, role, part, slot, row),
                ty => cache::store_blocks(ty, role, part, slot, row),
            }
        }
    }
}

/// f32 of scratch that a segment kernel may use for `rows` rows: a page's keys and values, and the scores.
fn scratch_room(shape: &AttentionShape, rows: usize) -> usize {
    PAGE_TOKENS * (shape.key_stride() + shape.value_stride()) + rows * PAGE_TOKENS
}

/// Memory that a thread keeps for attention with these heads, bytes.
pub fn thread_bytes(shape: &AttentionShape) -> usize {
    let room = Partial::room(BLOCK_ROWS, shape.value_stride());
    (BLOCK_ROWS * shape.key_stride() + 2 * room + scratch_room(shape, BLOCK_ROWS)) * size_of::<f32>()
}
