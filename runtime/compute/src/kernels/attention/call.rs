//! One call of [`super::attention`]: splits it into units of work and distributes them over the threads.

use std::cell::Cell;
use std::ops::Range;

use super::{AttentionShape, BLOCK_ROWS, Block, PAGE_TOKENS, Partial, Query, SEGMENT, alibi};
use crate::kernels::Kernels;
use crate::kernels::threads::{Disjoint, Threads};

/// One call of [`super::attention`], its lengths checked.
pub(super) struct Call<'a> {
    kernels: &'a Kernels,
    shape: &'a AttentionShape,
    sinks: Option<&'a [f32]>,
    /// Slopes of all heads, in units of ln 2; empty without ALiBi.
    slopes: Vec<f32>,
    q: &'a [f32],
    queries: &'a [Query<'a>],
    out: Disjoint<'a, f32>,
}

/// A block of tokens with query heads that share a KV head.
#[derive(Clone)]
struct Unit {
    tokens: Range<usize>,
    heads: Range<usize>,
}

impl Unit {
    fn rows(&self) -> usize {
        self.tokens.len() * self.heads.len()
    }
}

impl<'a> Call<'a> {
    pub(super) fn new(
        kernels: &'a Kernels,
        shape: &'a AttentionShape,
        sinks: Option<&'a [f32]>,
        q: &'a [f32],
        queries: &'a [Query<'a>],
        out: &'a mut [f32],
    ) -> Self {
        let mut slopes = shape.alibi.map_or(Vec::new(), |max_bias| alibi::slopes(shape.heads, max_bias));
        slopes.iter_mut().for_each(|slope| *slope *= std::f32::consts::LOG2_E);
        Call { kernels, shape, sinks, slopes, q, queries, out: Disjoint::new(out) }
    }

    pub(super) fn run(&self, threads: &Threads) {
        let units = self.units();
        let segments: usize = units.iter().map(|unit| self.segments(&unit.tokens).len()).sum();
        if threads.count() > 1 && units.len() < 4 * threads.count() && segments > units.len() {
            return self.run_by_segments(threads, &units);
        }
        // A prompt's last blocks see most positions: taken first, so that the small ones even out the load at the end.
        threads.run(units.len(), &|unit| self.whole_unit(&units[units.len() - 1 - unit]));
    }

    /// Every block of tokens with the heads of every KV head, at most [`BLOCK_ROWS`] rows each.
    fn units(&self) -> Vec<Unit> {
        let (heads, group) = (self.shape.heads, self.shape.group());
        let groups = (0..heads).step_by(group).map(|first| first..first + group);
        // A KV head may have more query heads than a block has rows.
        let parts: Vec<Range<usize>> = groups
            .flat_map(|heads| {
                let end = heads.end;
                heads.step_by(BLOCK_ROWS).map(move |first| first..end.min(first + BLOCK_ROWS))
            })
            .collect();
        let unit =
            |tokens: Range<usize>| parts.iter().map(move |heads| Unit { tokens: tokens.clone(), heads: heads.clone() });
        blocks(self.shape, self.queries).into_iter().flat_map(unit).collect()
    }

    /// Indices of the segments that any token of the block sees.
    fn segments(&self, tokens: &Range<usize>) -> Range<usize> {
        let seen = self.queries[tokens.clone()].iter().map(|query| &query.positions).filter(|seen| !seen.is_empty());
        let (first, end) = seen.fold((usize::MAX, 0), |(first, end), seen| (first.min(seen.start), end.max(seen.end)));
        if end == 0 { 0..0 } else { first / SEGMENT..end.div_ceil(SEGMENT) }
    }

    /// Folds one segment of a unit.
    fn fold(&self, block: &Block<'_>, segment: usize, scratch: &mut [f32], to: &mut Partial<'_>) {
        // SAFETY: the table is one that this processor can run; `blocks` checked the pages of the block.
        unsafe { (self.kernels.attention.segment)(block, segment * SEGMENT..(segment + 1) * SEGMENT, scratch, to) }
    }

    /// A unit's query rows, scaled so that a product with a key is the score (or the argument of `tanh`).
    fn block<'b>(&'b self, unit: &Unit, memory: &'b mut [f32]) -> Block<'b> {
        let shape = self.shape;
        let (dim, first) = (shape.key_dim, unit.heads.start);
        let factor = shape.scale * shape.softcap.map_or(std::f32::consts::LOG2_E, |cap| 1.0 / cap);
        let mut rows = memory.chunks_exact_mut(shape.key_stride());
        for token in unit.tokens.clone() {
            let heads = &self.q[(token * shape.heads + first) * dim..][..unit.heads.len() * dim];
            for (head, row) in heads.chunks_exact(dim).zip(&mut rows) {
                row[..dim].iter_mut().zip(head).for_each(|(to, q)| *to = q * factor);
                row[dim..].fill(0.0);
            }
        }
        let slopes = if self.slopes.is_empty() { &[] } else { &self.slopes[unit.heads.clone()] };
        let (queries, kv_head) = (&self.queries[unit.tokens.clone()], first / shape.group());
        Block { shape, group: unit.heads.len(), kv_head, queries, q: memory, slopes }
    }

    /// Divides by the sums and writes the unit's part of `out`.
    fn write(&self, unit: &Unit, total: &Partial<'_>) {
        let dim = self.shape.value_dim;
        let mut rows = total.out.chunks_exact(self.shape.value_stride()).enumerate();
        for token in unit.tokens.clone() {
            let first = token * self.shape.heads;
            // SAFETY: each unit, a block with some heads, is written once; units share neither tokens nor heads.
            let heads = unsafe { self.out.part((first + unit.heads.start) * dim..(first + unit.heads.end) * dim) };
            for ((head, out), (row, values)) in unit.heads.clone().zip(heads.chunks_exact_mut(dim)).zip(&mut rows) {
                match total.factor(row, self.sinks.map(|sinks| sinks[head])) {
                    Some(factor) => out.iter_mut().zip(values).for_each(|(out, value)| *out = value * factor),
                    None => out.fill(0.0),
                }
            }
        }
    }

    /// One thread walks all segments of a unit.
    fn whole_unit(&self, unit: &Unit) {
        let (rows, key_stride, stride) = (unit.rows(), self.shape.key_stride(), self.shape.value_stride());
        let room = Partial::room(rows, stride);
        with_scratch(rows * key_stride + 2 * room + scratch_room(self.shape, rows), |memory| {
            let (q, memory) = memory.split_at_mut(rows * key_stride);
            let (total, memory) = memory.split_at_mut(room);
            let (next, scratch) = memory.split_at_mut(room);
            let block = self.block(unit, q);
            let (mut total, mut next) = (Partial::new(total, rows, stride), Partial::new(next, rows, stride));
            let mut segments = self.segments(&unit.tokens);
            match segments.next() {
                Some(first) => self.fold(&block, first, scratch, &mut total),
                None => total.sum.fill(0.0),
            }
            for segment in segments {
                self.fold(&block, segment, scratch, &mut next);
                total.merge(&next);
            }
            self.write(unit, &total);
        });
    }

    /// The threads share every unit's segments, in waves whose results fit the buffer, and then merge them.
    fn run_by_segments(&self, threads: &Threads, units: &[Unit]) {
        let (key_stride, stride) = (self.shape.key_stride(), self.shape.value_stride());
        let rows = units.iter().map(Unit::rows).sum();
        let segments: Vec<Range<usize>> = units.iter().map(|unit| self.segments(&unit.tokens)).collect();
        let most = segments.iter().map(Range::len).max().unwrap_or(0);
        let slots = slots(Partial::room(rows, stride), units.len(), threads.count()).min(most.max(1));
        // Per unit: room for `slots` results; the others are merged into the first.
        let firsts: Vec<usize> = units
            .iter()
            .scan(0, |first, unit| Some(std::mem::replace(first, *first + slots * Partial::room(unit.rows(), stride))))
            .collect();
        let place = |unit: usize, slot: usize| {
            let room = Partial::room(units[unit].rows(), stride);
            firsts[unit] + slot * room..firsts[unit] + (slot + 1) * room
        };
        with_scratch(slots * Partial::room(rows, stride), |memory| {
            let parts = Disjoint::new(memory);
            let mut folded = 0;
            while folded < most {
                let (before, first) = (folded, usize::from(folded > 0));
                folded += slots - first;
                let wave = |unit: usize| segments[unit].clone().skip(before).take(slots - first).zip(first..);
                let jobs: Vec<(usize, usize, usize)> = (0..units.len())
                    .flat_map(|unit| wave(unit).map(move |(segment, slot)| (unit, segment, slot)))
                    .collect();
                threads.run(jobs.len(), &|job| {
                    let (at, segment, slot) = jobs[job];
                    let (unit, rows) = (&units[at], units[at].rows());
                    with_scratch(rows * key_stride + scratch_room(self.shape, rows), |memory| {
                        let (q, scratch) = memory.split_at_mut(rows * key_stride);
                        let block = self.block(unit, q);
                        // SAFETY: every job of a wave has its own slot.
                        let part = unsafe { parts.part(place(at, slot)) };
                        self.fold(&block, segment, scratch, &mut Partial::new(part, rows, stride));
                    });
                });
                threads.run(units.len(), &|at| {
                    let (unit, rows) = (&units[at], units[at].rows());
                    // SAFETY: the wave is over, and every slot belongs to one unit.
                    let partial = |slot| Partial::new(unsafe { parts.part(place(at, slot)) }, rows, stride);
                    let mut total = partial(0);
                    if segments[at].is_empty() {
                        total.sum.fill(0.0);
                    }
                    wave(at).filter(|(_, slot)| *slot > 0).for_each(|(_, slot)| total.merge(&partial(slot)));
                    if folded >= most {
                        self.write(unit, &total);
                    }
                });
            }
        });
    }
}

/// Default capacity for unmerged results, in f32, over all units: for one token after a hundred thousand others, each segment
/// produces a block's worth. Small in tests, so that they run several waves.
const WAITING: usize = if cfg!(test) { 1 << 10 } else { 1 << 20 };

/// Concurrent results per unit, given units that together need `room` f32 per segment.
fn slots(room: usize, units: usize, threads: usize) -> usize {
    (WAITING / room.max(1)).max(slots_at_least(units, threads))
}

/// One to merge into and one to merge, and work for every thread.
fn slots_at_least(units: usize, threads: usize) -> usize {
    (2 * threads).div_ceil(units.max(1)).max(2)
}

/// Runs of consecutive tokens on the same pages, at most about [`BLOCK_ROWS`] rows each, their pages checked.
fn blocks(shape: &AttentionShape, queries: &[Query<'_>]) -> Vec<Range<usize>> {
    let (most, page) = ((BLOCK_ROWS / shape.group()).max(1), shape.page());
    let mut blocks: Vec<Range<usize>> = Vec::new();
    // The first page after which all pages are present.
    let mut there = 0;
    for (token, query) in queries.iter().enumerate() {
        match blocks.last_mut() {
            Some(last) if last.len() < most && std::ptr::eq(queries[last.start].pages, query.pages) => last.end += 1,
            _ => {
                let fit = query.pages.iter().all(|memory| memory.is_empty() || memory.len() == page);
                assert!(fit, "pages hold {page} elements, or are gone");
                there = query.pages.iter().rposition(|memory| memory.is_empty()).map_or(0, |gone| gone + 1);
                blocks.push(token..token + 1);
            }
        }
        let Range { start, end } = query.positions;
        if start < end {
            let pages = query.pages.len();
            assert!(end.div_ceil(PAGE_TOKENS) <= pages, "{end} visible positions, {pages} pages");
            assert!(start / PAGE_TOKENS >= there, "positions {start}..{end} are seen, page {} is gone", there - 1);
        }
    }
    blocks
}

/// f32 of scratch that a segment kernel needs for `rows` rows: a page's keys and values, and the scores.
fn scratch_room(shape: &AttentionShape, rows: usize) -> usize {
    PAGE_TOKENS * (shape.key_stride() + shape.value_stride()) + rows * PAGE_TOKENS
}

/// Memory that a thread keeps for attention with these heads, in bytes.
pub fn thread_bytes(shape: &AttentionShape) -> usize {
    let room = Partial::room(BLOCK_ROWS, shape.value_stride());
    (BLOCK_ROWS * shape.key_stride() + 2 * room + scratch_room(shape, BLOCK_ROWS)) * size_of::<f32>()
}

/// Upper bound of what the thread calling [`super::attention()`] keeps in addition for unmerged segment results, in bytes, given
/// the number of threads and positions.
pub fn shared_bytes(shape: &AttentionShape, threads: usize, positions: usize) -> usize {
    if threads == 1 {
        return 0;
    }
    // Segments are distributed only with fewer units than this.
    let units = 4 * threads - 1;
    let room = Partial::room(units * BLOCK_ROWS, shape.value_stride());
    let waiting = WAITING.max(room * slots_at_least(units, threads)).min(room * positions.div_ceil(SEGMENT));
    (waiting * size_of::<f32>()).max(thread_bytes(shape))
}

thread_local! {
    /// Memory that a thread keeps between calls, never cleared; a nested call uses the second piece.
    static SCRATCH: Cell<[Vec<f32>; 2]> = const { Cell::new([Vec::new(), Vec::new()]) };
}

/// Calls `work` with `count` f32 of arbitrary content, cache-line aligned.
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
