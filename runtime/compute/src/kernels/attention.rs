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

mod blocks;
mod cache;
mod flash;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::ops::Range;

use half::f16;

pub use self::cache::{CacheType, CacheTypes};
pub(super) use self::cache::{Head, Role};
pub(super) use self::flash::{segment, store};
use super::Kernels;
use super::threads::{Disjoint, Threads};

/// Positions in a page of one layer: the keys of every KV head, then their values, each as `cache` lays it out.
pub const PAGE_TOKENS: usize = 64;

/// Positions that are folded together before they are merged with the rest: whole pages, and enough of them that merging is
/// free, but few enough that a context of a thousand tokens has work for several threads.
const SEGMENT: usize = 4 * PAGE_TOKENS;

/// Rows of a block, about: enough that converting a page is a small part, few enough for the second-level cache.
const BLOCK_ROWS: usize = 48;

/// What one query token sees.
#[derive(Clone, Copy)]
pub struct Query<'a> {
    /// This layer's pages of the token's sequence, each of [`AttentionShape::page`] elements.
    pub pages: &'a [&'a [f16]],
    /// Positions `0..visible` are attended to.
    pub visible: usize,
    /// Of these only the last `window`, for sliding-window attention.
    pub window: Option<usize>,
}

impl Query<'_> {
    /// The positions attended to.
    fn positions(&self) -> Range<usize> {
        self.visible - self.window.unwrap_or(self.visible).min(self.visible)..self.visible
    }
}

/// The heads of a layer.
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape {
    /// Query heads: a multiple of `kv_heads`.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Factor of the scores, commonly `1 / sqrt(head_dim)`.
    pub scale: f32,
    /// Scores become `cap * tanh(score / cap)`.
    pub softcap: Option<f32>,
    /// How keys and values are stored. Quantised ones need a `head_dim` of whole blocks, see [`CacheTypes::check`].
    pub cache: CacheTypes,
}

impl AttentionShape {
    /// Query heads to a KV head.
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Elements of a row of scratch: a head, and zeros up to whole vectors of every instruction set.
    pub(super) fn stride(&self) -> usize {
        self.head_dim.next_multiple_of(16)
    }

    /// Elements of a page: f16, or as much memory.
    ///
    /// # Panics
    /// If the types cannot store heads of this size.
    pub fn page(&self) -> usize {
        self.kv_heads * (self.cache.keys.page(self.head_dim) + self.cache.values.page(self.head_dim))
    }

    fn check(&self) {
        assert!(self.kv_heads > 0 && self.head_dim > 0, "attention without heads: {self:?}");
        assert!(self.heads.is_multiple_of(self.kv_heads), "query heads are no multiple of KV heads: {self:?}");
        assert_eq!(self.cache.check(self.head_dim), Ok(()));
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
/// The processor has what the table needs; the block's pages reach to the last position seen, and are of the shape's size.
pub(crate) type SegmentKernel =
    unsafe fn(block: &Block<'_>, positions: Range<usize>, scratch: &mut [f32], to: &mut Partial<'_>);

/// Query tokens of one sequence, for one KV head.
pub(crate) struct Block<'a> {
    pub(crate) shape: &'a AttentionShape,
    /// Query heads to a KV head: asked for too often to be divided out each time.
    pub(crate) group: usize,
    pub(crate) kv_head: usize,
    pub(crate) queries: &'a [Query<'a>],
    /// `(rows, stride)`, scaled: what a key is multiplied with.
    pub(crate) q: &'a [f32],
}

impl Block<'_> {
    /// Rows: token by token, in each the query heads of the group.
    pub(crate) fn rows(&self) -> usize {
        self.queries.len() * self.group
    }

    /// Which of the page's positions (0..PAGE_TOKENS) a row folds within `positions`; empty: `start >= end`.
    #[inline]
    pub(crate) fn seen(&self, row: usize, page: usize, positions: &Range<usize>) -> Range<usize> {
        let all = self.queries[row / self.group].positions();
        let first = page * PAGE_TOKENS;
        let (start, end) = (all.start.max(positions.start).max(first), all.end.min(positions.end));
        start - first..end.clamp(first, first + PAGE_TOKENS) - first
    }

    /// The keys and values of a page for this head.
    pub(crate) fn page(&self, page: usize) -> (Head<'_>, Head<'_>) {
        let (dim, CacheTypes { keys, values }) = (self.shape.head_dim, self.shape.cache);
        let (of_keys, of_values) = (keys.page(dim), values.page(dim));
        let (all_keys, all_values) = self.queries[0].pages[page].split_at(self.shape.kv_heads * of_keys);
        (
            Head::new(keys, dim, &all_keys[self.kv_head * of_keys..][..of_keys]),
            Head::new(values, dim, &all_values[self.kv_head * of_values..][..of_values]),
        )
    }

    /// With a cap, a product of `q` and a key is what `tanh` takes, and the score is this many times the result.
    pub(crate) fn cap(&self) -> Option<f32> {
        self.shape.softcap.map(|cap| cap * std::f32::consts::LOG2_E)
    }
}

/// The folded positions of a block's rows.
pub(crate) struct Partial<'a> {
    /// Largest score of each row.
    pub(crate) max: &'a mut [f32],
    /// Sum of `2^(score - max)`.
    pub(crate) sum: &'a mut [f32],
    /// `(rows, stride)`: sum of `2^(score - max) * value`.
    pub(crate) out: &'a mut [f32],
}

impl<'a> Partial<'a> {
    /// f32 that `rows` rows take.
    fn room(rows: usize, stride: usize) -> usize {
        rows * (stride + 2)
    }

    fn new(memory: &'a mut [f32], rows: usize, stride: usize) -> Self {
        let (out, rest) = memory[..Self::room(rows, stride)].split_at_mut(rows * stride);
        let (max, sum) = rest.split_at_mut(rows);
        Partial { max, sum, out }
    }

    /// Takes in the positions after the own ones.
    fn merge(&mut self, next: &Partial<'_>) {
        let stride = self.out.len() / self.max.len();
        let rows = self.out.chunks_exact_mut(stride).zip(next.out.chunks_exact(stride));
        for (row, (out, next_out)) in rows.enumerate() {
            if next.sum[row] == 0.0 {
                continue;
            }
            if self.sum[row] == 0.0 {
                // Nothing so far: taken as it is, so that segments which a row does not see leave no trace.
                out.copy_from_slice(next_out);
                (self.max[row], self.sum[row]) = (next.max[row], next.sum[row]);
                continue;
            }
            let max = if next.max[row] > self.max[row] { next.max[row] } else { self.max[row] };
            let (ours, theirs) = ((self.max[row] - max).exp2(), (next.max[row] - max).exp2());
            out.iter_mut().zip(next_out).for_each(|(out, next)| *out = *out * ours + next * theirs);
            self.max[row] = max;
            self.sum[row] = self.sum[row] * ours + next.sum[row] * theirs;
        }
    }
}

/// Attention of every query token over its own positions. `q` and `out` are `(tokens, heads * head_dim)`, `queries` has one
/// entry a token; a token that sees no position gets zeros. What a token gets depends on nothing but its own query, keys and
/// values.
///
/// # Panics
/// If lengths do not fit the shape, or a query sees more positions than its pages hold.
pub fn attention(
    kernels: &Kernels,
    threads: &Threads,
    shape: &AttentionShape,
    q: &[f32],
    queries: &[Query<'_>],
    out: &mut [f32],
) {
    shape.check();
    let columns = shape.heads * shape.head_dim;
    assert!(
        q.len() == queries.len() * columns && out.len() == q.len(),
        "{} tokens of {columns} columns",
        queries.len()
    );
    let blocks = blocks(shape, queries);
    let call = Call { kernels, shape, q, queries, out: Disjoint::new(out) };
    let units = blocks.len() * shape.kv_heads;
    let segments: usize = blocks.iter().map(|block| call.segments(block).len()).sum::<usize>() * shape.kv_heads;
    if threads.count() > 1 && units < 4 * threads.count() && segments > units {
        return call.run_by_segments(threads, &blocks);
    }
    // The last blocks of a prompt see most: taken first, they leave the small ones to even out the threads.
    threads.run(units, &|unit| {
        call.whole_unit(&blocks[blocks.len() - 1 - unit / shape.kv_heads], unit % shape.kv_heads);
    });
}

/// Writes the key and value of one position, each `kv_heads * head_dim` long, into slot `slot` of a page. What f16 cannot hold
/// becomes its largest value, whatever the type, so that one outlier does not turn every later score into infinities. What is
/// no number stays none in F16, and is stored as 0 in the quantised types.
///
/// # Panics
/// If lengths do not fit the shape.
pub fn store_kv(kernels: &Kernels, shape: &AttentionShape, page: &mut [f16], slot: usize, key: &[f32], value: &[f32]) {
    shape.check();
    let columns = shape.kv_heads * shape.head_dim;
    assert!(slot < PAGE_TOKENS && page.len() == shape.page(), "slot {slot} of a page of {} elements", page.len());
    assert!(key.len() == columns && value.len() == columns, "key and value have {columns} columns");
    let (dim, convert) = (shape.head_dim, kernels.attention.store);
    let (keys, values) = page.split_at_mut(shape.kv_heads * shape.cache.keys.page(dim));
    let sides = [(Role::Keys, shape.cache.keys, keys, key), (Role::Values, shape.cache.values, values, value)];
    for (role, ty, memory, row) in sides {
        for (part, row) in memory.chunks_exact_mut(ty.page(dim)).zip(row.chunks_exact(dim)) {
            match ty {
                // SAFETY: a table is handed out only where the processor has what it needs; the slices have the same length.
                CacheType::F16 => cache::store_f16(|from, to| unsafe { convert(from, to) }, role, part, slot, row),
                ty => cache::store_blocks(ty, role, part, slot, row),
            }
        }
    }
}

/// Runs of consecutive tokens on the same pages, at most some [`BLOCK_ROWS`] rows each, their pages checked.
fn blocks(shape: &AttentionShape, queries: &[Query<'_>]) -> Vec<Range<usize>> {
    let most = (BLOCK_ROWS / shape.group()).max(1);
    let mut blocks: Vec<Range<usize>> = Vec::new();
    for (token, query) in queries.iter().enumerate() {
        let needed = query.visible.div_ceil(PAGE_TOKENS);
        assert!(needed <= query.pages.len(), "{} visible positions, {} pages", query.visible, query.pages.len());
        match blocks.last_mut() {
            Some(last) if last.len() < most && std::ptr::eq(queries[last.start].pages, query.pages) => last.end += 1,
            _ => {
                let fit = query.pages.iter().all(|page| page.len() == shape.page());
                assert!(fit, "pages hold {} elements", shape.page());
                blocks.push(token..token + 1);
            }
        }
    }
    blocks
}

/// One call of [`attention`], its lengths checked.
struct Call<'a> {
    kernels: &'a Kernels,
    shape: &'a AttentionShape,
    q: &'a [f32],
    queries: &'a [Query<'a>],
    out: Disjoint<'a, f32>,
}

impl Call<'_> {
    /// The segments that any token of the block sees, by number.
    fn segments(&self, tokens: &Range<usize>) -> Range<usize> {
        let seen = self.queries[tokens.clone()].iter().map(Query::positions).filter(|seen| !seen.is_empty());
        let (first, end) = seen.fold((usize::MAX, 0), |(first, end), seen| (first.min(seen.start), end.max(seen.end)));
        if end == 0 { 0..0 } else { first / SEGMENT..end.div_ceil(SEGMENT) }
    }

    fn rows(&self, tokens: &Range<usize>) -> usize {
        tokens.len() * self.shape.group()
    }

    /// Folds one segment of a unit.
    fn fold(&self, block: &Block<'_>, segment: usize, scratch: &mut [f32], to: &mut Partial<'_>) {
        // SAFETY: the table is one that this processor can run; `blocks` checked the pages of the block.
        unsafe { (self.kernels.attention.segment)(block, segment * SEGMENT..(segment + 1) * SEGMENT, scratch, to) }
    }

    /// A unit's rows of queries, scaled so that a product with a key is the score, or what `tanh` takes.
    fn block<'b>(&'b self, tokens: &Range<usize>, kv_head: usize, memory: &'b mut [f32]) -> Block<'b> {
        let shape = self.shape;
        let (dim, group) = (shape.head_dim, shape.group());
        let factor = shape.scale * shape.softcap.map_or(std::f32::consts::LOG2_E, |cap| 1.0 / cap);
        let mut rows = memory.chunks_exact_mut(shape.stride());
        for token in tokens.clone() {
            let heads = &self.q[(token * shape.heads + kv_head * group) * dim..][..group * dim];
            for (head, row) in heads.chunks_exact(dim).zip(&mut rows) {
                row[..dim].iter_mut().zip(head).for_each(|(to, q)| *to = q * factor);
                row[dim..].fill(0.0);
            }
        }
        Block { shape, group, kv_head, queries: &self.queries[tokens.clone()], q: memory }
    }

    /// Divides by the sums and writes the unit's part of `out`.
    fn write(&self, tokens: &Range<usize>, kv_head: usize, total: &Partial<'_>) {
        let (dim, group) = (self.shape.head_dim, self.shape.group());
        let mut rows = total.out.chunks_exact(self.shape.stride()).zip(&*total.sum);
        for token in tokens.clone() {
            let first = (token * self.shape.heads + kv_head * group) * dim;
            // SAFETY: a unit is one block and one KV head, written once; units share neither tokens nor heads.
            let heads = unsafe { self.out.part(first..first + group * dim) };
            for (head, (row, &sum)) in heads.chunks_exact_mut(dim).zip(&mut rows) {
                if sum == 0.0 {
                    head.fill(0.0);
                } else {
                    let factor = 1.0 / sum;
                    head.iter_mut().zip(row).for_each(|(out, value)| *out = value * factor);
                }
            }
        }
    }

    /// One thread walks all segments of a unit.
    fn whole_unit(&self, tokens: &Range<usize>, kv_head: usize) {
        let (rows, stride) = (self.rows(tokens), self.shape.stride());
        let room = Partial::room(rows, stride);
        with_scratch(rows * stride + 2 * room + scratch_room(self.shape, rows), |memory| {
            let (q, memory) = memory.split_at_mut(rows * stride);
            let (total, memory) = memory.split_at_mut(room);
            let (next, scratch) = memory.split_at_mut(room);
            let block = self.block(tokens, kv_head, q);
            let (mut total, mut next) = (Partial::new(total, rows, stride), Partial::new(next, rows, stride));
            let mut segments = self.segments(tokens);
            match segments.next() {
                Some(first) => self.fold(&block, first, scratch, &mut total),
                None => total.sum.fill(0.0),
            }
            for segment in segments {
                self.fold(&block, segment, scratch, &mut next);
                total.merge(&next);
            }
            self.write(tokens, kv_head, &total);
        });
    }

    /// The threads share the segments of every unit, and then merge.
    fn run_by_segments(&self, threads: &Threads, blocks: &[Range<usize>]) {
        let (kv_heads, stride) = (self.shape.kv_heads, self.shape.stride());
        let mut jobs = Vec::new();
        let mut units = Vec::new();
        let mut room = 0;
        for tokens in blocks {
            for kv_head in 0..kv_heads {
                units.push((tokens, kv_head, jobs.len()..jobs.len() + self.segments(tokens).len()));
                for segment in self.segments(tokens) {
                    let end = room + Partial::room(self.rows(tokens), stride);
                    jobs.push((tokens, kv_head, segment, room..end));
                    room = end;
                }
            }
        }
        with_scratch(room, |memory| {
            let parts = Disjoint::new(memory);
            threads.run(jobs.len(), &|job| {
                let (tokens, kv_head, segment, place) = &jobs[job];
                let rows = self.rows(tokens);
                with_scratch(rows * stride + scratch_room(self.shape, rows), |memory| {
                    let (q, scratch) = memory.split_at_mut(rows * stride);
                    let block = self.block(tokens, *kv_head, q);
                    // SAFETY: every job has a place of its own.
                    let part = unsafe { parts.part(place.clone()) };
                    self.fold(&block, *segment, scratch, &mut Partial::new(part, rows, stride));
                });
            });
            threads.run(units.len(), &|unit| {
                let (tokens, kv_head, jobs_of_unit) = &units[unit];
                let rows = self.rows(tokens);
                let mut partials = jobs[jobs_of_unit.clone()].iter().map(|(_, _, _, place)| {
                    // SAFETY: the first run is over, and every place belongs to one unit.
                    Partial::new(unsafe { parts.part(place.clone()) }, rows, stride)
                });
                match partials.next() {
                    Some(mut total) => {
                        partials.for_each(|next| total.merge(&next));
                        self.write(tokens, *kv_head, &total);
                    }
                    None => {
                        let mut empty = vec![0.0; Partial::room(rows, stride)];
                        self.write(tokens, *kv_head, &Partial::new(&mut empty, rows, stride));
                    }
                }
            });
        });
    }
}

/// f32 of scratch that a segment kernel may use for `rows` rows: a page's keys and values, and the scores.
fn scratch_room(shape: &AttentionShape, rows: usize) -> usize {
    2 * PAGE_TOKENS * shape.stride() + rows * PAGE_TOKENS
}

/// Memory that a thread keeps for attention with these heads, bytes.
pub fn thread_bytes(shape: &AttentionShape) -> usize {
    let rows = BLOCK_ROWS.max(shape.group());
    let (stride, room) = (shape.stride(), Partial::room(rows, shape.stride()));
    (rows * stride + 2 * room + scratch_room(shape, rows)) * size_of::<f32>()
}

thread_local! {
    /// Memory that a thread keeps between calls, never cleared; a nested use takes a second piece.
    static SCRATCH: Cell<[Vec<f32>; 2]> = const { Cell::new([Vec::new(), Vec::new()]) };
}

/// Calls `work` with `count` f32 of arbitrary content, on a cache line.
fn with_scratch(count: usize, work: impl FnOnce(&mut [f32])) {
    const LINE: usize = 64;
    let [mut memory, spare] = SCRATCH.take();
    SCRATCH.set([spare, Vec::new()]);
    if memory.len() < count + LINE / size_of::<f32>() {
        memory.resize(count + LINE / size_of::<f32>(), 0.0);
    }
    let skip = memory.as_ptr().align_offset(LINE).min(LINE / size_of::<f32>());
    work(&mut memory[skip..skip + count]);
    let [spare, _] = SCRATCH.take();
    SCRATCH.set([memory, spare]);
}
