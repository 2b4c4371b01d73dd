//! One call of [`super::attention`]: cuts it into units of work, and shares these out over the threads.

use std::cell::Cell;
use std::ops::Range;

use super::{AttentionShape, BLOCK_ROWS, Block, PAGE_TOKENS, Partial, Query, SEGMENT, alibi, scratch_room};
use crate::kernels::Kernels;
use crate::kernels::threads::{Disjoint, Threads};

/// One call of [`super::attention`], its lengths checked.
pub(super) struct Call<'a> {
    kernels: &'a Kernels,
    shape: &'a AttentionShape,
    sinks: Option<&'a [f32]>,
    /// Slopes of all heads, in units of ln 2; empty: none.
    slopes: Vec<f32>,
    q: &'a [f32],
    queries: &'a [Query<'a>],
    out: Disjoint<'a, f32>,
}

/// A block of tokens, and query heads that share a KV head.
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

/// One segment of a unit, by the unit's number, and where its result goes.
struct Job {
    unit: usize,
    segment: usize,
    place: Range<usize>,
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
        // The last blocks of a prompt see most: taken first, they leave the small ones to even out the threads.
        threads.run(units.len(), &|unit| self.whole_unit(&units[units.len() - 1 - unit]));
    }

    /// Every block of tokens with the heads of every KV head, at most [`BLOCK_ROWS`] rows each.
    fn units(&self) -> Vec<Unit> {
        let (heads, group) = (self.shape.heads, self.shape.group());
        let groups = (0..heads).step_by(group).map(|first| first..first + group);
        // One query token may have more heads to a KV head than a block has rows.
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

    /// The segments that any token of the block sees, by number.
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

    /// A unit's rows of queries, scaled so that a product with a key is the score, or what `tanh` takes.
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
            // SAFETY: a unit is one block and some heads, written once; units share neither tokens nor heads.
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

    /// The threads share the segments of every unit, and then merge.
    fn run_by_segments(&self, threads: &Threads, units: &[Unit]) {
        let (key_stride, stride) = (self.shape.key_stride(), self.shape.value_stride());
        let mut jobs = Vec::new();
        let mut jobs_of_units = Vec::new();
        let mut room = 0;
        for (unit, of) in units.iter().enumerate() {
            let first = jobs.len();
            for segment in self.segments(&of.tokens) {
                let end = room + Partial::room(of.rows(), stride);
                jobs.push(Job { unit, segment, place: room..end });
                room = end;
            }
            jobs_of_units.push(first..jobs.len());
        }
        with_scratch(room, |memory| {
            let parts = Disjoint::new(memory);
            threads.run(jobs.len(), &|job| {
                let Job { unit, segment, place } = &jobs[job];
                let unit = &units[*unit];
                let rows = unit.rows();
                with_scratch(rows * key_stride + scratch_room(self.shape, rows), |memory| {
                    let (q, scratch) = memory.split_at_mut(rows * key_stride);
                    let block = self.block(unit, q);
                    // SAFETY: every job has a place of its own.
                    let part = unsafe { parts.part(place.clone()) };
                    self.fold(&block, *segment, scratch, &mut Partial::new(part, rows, stride));
                });
            });
            threads.run(units.len(), &|at| {
                let (unit, rows) = (&units[at], units[at].rows());
                let mut partials = jobs[jobs_of_units[at].clone()].iter().map(|job| {
                    // SAFETY: the first run is over, and every place belongs to one unit.
                    Partial::new(unsafe { parts.part(job.place.clone()) }, rows, stride)
                });
                match partials.next() {
                    Some(mut total) => {
                        partials.for_each(|next| total.merge(&next));
                        self.write(unit, &total);
                    }
                    None => {
                        let mut empty = vec![0.0; Partial::room(rows, stride)];
                        self.write(unit, &Partial::new(&mut empty, rows, stride));
                    }
                }
            });
        });
    }
}

/// Runs of consecutive tokens on the same pages, at most some [`BLOCK_ROWS`] rows each, their pages checked.
fn blocks(shape: &AttentionShape, queries: &[Query<'_>]) -> Vec<Range<usize>> {
    let (most, page) = ((BLOCK_ROWS / shape.group()).max(1), shape.page());
    let mut blocks: Vec<Range<usize>> = Vec::new();
    // The first page from which on all are there.
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
