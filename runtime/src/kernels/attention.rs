//! Attention over a paged F16 cache: shapes, the walk over positions, and who computes what.
//!
//! Flash style: one pass over the positions with an online softmax, so no matrix of scores exists. A query's positions
//! are walked page by page in *spans* of [`SPAN_TOKENS`]; each span starts from nothing and gives a partial result
//! (largest score, sum of powers, weighted values), and the partials are merged first to last. Where spans begin and end
//! depends on positions alone, so a query gives the same bits alone, in a batch, and on any number of threads:
//!
//! ```text
//! one query, long context      unit = (query, kv head, span): threads share the spans, the caller merges
//! many queries (prefill)       unit = (queries of one sequence, kv head): each page is widened to f32 once for all
//! ```
//!
//! What an instruction set provides is four small functions on rows of f32 ([`AttentionKernels`]).

use std::cell::RefCell;
use std::ops::Range;

use half::f16;

use super::Kernels;
use super::threads::{Disjoint, Threads};

/// Positions of one page.
pub const PAGE_TOKENS: usize = 64;

/// Positions whose partial results are merged as one: eight pages.
const SPAN_TOKENS: usize = 8 * PAGE_TOKENS;

/// Queries that share a widened page.
const QUERY_BLOCK: usize = 16;

/// One query token: what it may look at.
pub struct Query<'a> {
    /// Its sequence's pages of this layer: keys, then values, each `(kv_heads, PAGE_TOKENS, head_dim)`.
    pub pages: &'a [&'a [f16]],
    /// Positions `0..visible` are attended to; at least one.
    pub visible: usize,
    /// Only this many last positions of them.
    pub window: Option<usize>,
}

impl Query<'_> {
    /// The positions it attends to.
    fn positions(&self) -> Range<usize> {
        self.window.map_or(0, |window| self.visible.saturating_sub(window))..self.visible
    }
}

/// Heads, and how scores are made.
pub struct AttentionShape {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Columns of a head.
    pub head_dim: usize,
    /// Scores are multiplied by this.
    pub scale: f32,
    /// Scores are squashed to `cap * tanh(score / cap)`.
    pub softcap: Option<f32>,
}

impl AttentionShape {
    /// Query heads that share a key and value head.
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Elements of one layer's page.
    fn page_elements(&self) -> usize {
        2 * self.kv_heads * PAGE_TOKENS * self.head_dim
    }
}

/// What a table gives for attention. All slices of a call fit each other.
///
/// Each is unsafe to call because the processor must have what the table needs.
pub struct AttentionKernels {
    /// `f16` to `f32`.
    pub(crate) widen: unsafe fn(&[f16], &mut [f32]),
    /// `f32` to the nearest `f16`.
    pub(crate) narrow: unsafe fn(&[f32], &mut [f16]),
    /// `out[p] = scale * Σ q[i] keys[p][i]`; keys are `(out.len(), q.len())`.
    pub(crate) scores: unsafe fn(q: &[f32], keys: &[f32], scale: f32, out: &mut [f32]),
    /// `scores[p] = exp(scores[p] - largest)`; gives their sum.
    pub(crate) powers: unsafe fn(scores: &mut [f32], largest: f32) -> f32,
    /// `sum[i] = fade * sum[i] + Σ weights[p] values[p][i]`; values are `(weights.len(), sum.len())`.
    pub(crate) weigh: unsafe fn(weights: &[f32], values: &[f32], fade: f32, sum: &mut [f32]),
}

/// A partial softmax: of one query head over some of its positions.
#[derive(Clone, Copy)]
struct Partial {
    largest: f32,
    sum: f32,
}

const NOTHING: Partial = Partial { largest: f32::NEG_INFINITY, sum: 0.0 };

/// Puts a later partial result behind an earlier one. `values` are the weighted sums, not yet divided.
fn merge(into: &mut Partial, into_values: &mut [f32], later: Partial, later_values: &[f32]) {
    if into.sum == 0.0 {
        *into = later;
        into_values.copy_from_slice(later_values);
        return;
    }
    let largest = into.largest.max(later.largest);
    let (fade, weight) = ((into.largest - largest).exp(), (later.largest - largest).exp());
    for (value, later) in into_values.iter_mut().zip(later_values) {
        *value = fade * *value + weight * later;
    }
    *into = Partial { largest, sum: fade * into.sum + weight * later.sum };
}

/// Memory that a thread keeps: a page in f32, and the scores of one row.
#[derive(Default)]
struct Scratch {
    keys: Vec<f32>,
    values: Vec<f32>,
    scores: Vec<f32>,
    span_values: Vec<f32>,
    totals: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Some query heads that share a key and value head, and their state over one span.
struct Rows<'a> {
    kernels: &'a AttentionKernels,
    shape: &'a AttentionShape,
    kv_head: usize,
}

impl Rows<'_> {
    /// One page's keys or values of the head, positions `0..count`.
    fn widen(&self, page: &[f16], values: bool, count: usize, out: &mut Vec<f32>) {
        let head = PAGE_TOKENS * self.shape.head_dim;
        let start = (usize::from(values) * self.shape.kv_heads + self.kv_head) * head;
        let elements = count * self.shape.head_dim;
        out.resize(elements, 0.0);
        // SAFETY: the table was checked against the processor; both slices have `elements`.
        unsafe { (self.kernels.widen)(&page[start..start + elements], out) };
    }

    /// Takes the positions of one widened page into the state of one query head.
    fn attend(
        &self,
        q: &[f32],
        keys: &[f32],
        values: &[f32],
        scores: &mut Vec<f32>,
        state: &mut Partial,
        sum: &mut [f32],
    ) {
        scores.resize(keys.len() / self.shape.head_dim, 0.0);
        // SAFETY: the table was checked against the processor; `keys` are as many rows of `q`'s length as there are scores.
        unsafe { (self.kernels.scores)(q, keys, self.shape.scale, scores) };
        if let Some(cap) = self.shape.softcap {
            scores.iter_mut().for_each(|score| *score = cap * (*score / cap).tanh());
        }
        let largest = scores.iter().copied().fold(state.largest, f32::max);
        let fade = if state.sum == 0.0 { 0.0 } else { (state.largest - largest).exp() };
        // SAFETY: as above.
        let powers = unsafe { (self.kernels.powers)(scores, largest) };
        // SAFETY: as above; `values` are rows of `sum`'s length.
        unsafe { (self.kernels.weigh)(scores, values, fade, sum) };
        *state = Partial { largest, sum: fade * state.sum + powers };
    }
}

/// The part of `positions` that lies in page `page`, as positions within the page.
fn within_page(positions: &Range<usize>, page: usize) -> Range<usize> {
    let start = page * PAGE_TOKENS;
    positions.start.clamp(start, start + PAGE_TOKENS) - start..positions.end.clamp(start, start + PAGE_TOKENS) - start
}

/// Attention of every query over its own positions. `q` and `out` are `(queries, heads * head_dim)`.
///
/// # Panics
/// If the sizes do not fit, or a query sees no position or more than its pages hold.
pub fn attention(
    kernels: &Kernels,
    threads: &Threads,
    shape: &AttentionShape,
    q: &[f32],
    queries: &[Query<'_>],
    out: &mut [f32],
) {
    let columns = shape.heads * shape.head_dim;
    assert!(shape.kv_heads > 0 && shape.heads.is_multiple_of(shape.kv_heads), "key heads divide query heads");
    assert!(q.len() == queries.len() * columns && out.len() == q.len(), "a row of {columns} a query");
    for query in queries {
        assert!(query.visible > 0 && query.visible <= query.pages.len() * PAGE_TOKENS, "positions lie in the pages");
        assert!(query.pages.iter().all(|page| page.len() == shape.page_elements()), "pages of one layer");
    }
    if queries.len() * shape.kv_heads >= 8 * threads.count() {
        by_blocks(kernels, threads, shape, q, queries, out);
    } else {
        by_spans(kernels, threads, shape, q, queries, out);
    }
}

/// Few queries: units are (query, kv head, span), so that a long context is shared out.
fn by_spans(
    kernels: &Kernels,
    threads: &Threads,
    shape: &AttentionShape,
    q: &[f32],
    queries: &[Query<'_>],
    out: &mut [f32],
) {
    let (group, head_dim) = (shape.group(), shape.head_dim);
    let columns = shape.heads * head_dim;
    // (query, kv head, span)
    let units: Vec<(usize, usize, usize)> = queries
        .iter()
        .enumerate()
        .flat_map(|(index, query)| {
            let positions = query.positions();
            let spans = positions.start / SPAN_TOKENS..positions.end.div_ceil(SPAN_TOKENS);
            (0..shape.kv_heads).flat_map(move |head| spans.clone().map(move |span| (index, head, span)))
        })
        .collect();
    let mut sums = vec![0.0f32; units.len() * group * head_dim];
    let mut states = vec![NOTHING; units.len() * group];
    let (shared_sums, shared_states) = (Disjoint::new(&mut sums), Disjoint::new(&mut states));
    threads.run(units.len(), &|unit| {
        let (index, kv_head, span) = units[unit];
        // SAFETY: each unit runs once and has its own part.
        let (sums, states) = unsafe {
            (
                shared_sums.part(unit * group * head_dim..(unit + 1) * group * head_dim),
                shared_states.part(unit * group..(unit + 1) * group),
            )
        };
        let rows = Rows { kernels: &kernels.attention, shape, kv_head };
        let q = &q[index * columns + kv_head * group * head_dim..][..group * head_dim];
        SCRATCH.with_borrow_mut(|scratch| one_span(&rows, q, &queries[index], span, scratch, states, sums));
    });
    let mut unit = 0;
    let mut totals = vec![NOTHING; group];
    while unit < units.len() {
        let (index, kv_head, _) = units[unit];
        let out = &mut out[index * columns + kv_head * group * head_dim..][..group * head_dim];
        totals.fill(NOTHING);
        while unit < units.len() && units[unit].0 == index && units[unit].1 == kv_head {
            for row in 0..group {
                let partial = unit * group + row;
                let sums = &sums[partial * head_dim..(partial + 1) * head_dim];
                merge(&mut totals[row], &mut out[row * head_dim..(row + 1) * head_dim], states[partial], sums);
            }
            unit += 1;
        }
        divide(out, &totals, head_dim);
    }
}

/// One query's heads of one group over one span.
fn one_span(
    rows: &Rows<'_>,
    q: &[f32],
    query: &Query<'_>,
    span: usize,
    scratch: &mut Scratch,
    states: &mut [Partial],
    sums: &mut [f32],
) {
    let head_dim = rows.shape.head_dim;
    let Scratch { keys, values, scores, .. } = scratch;
    let positions = query.positions();
    let pages = span * (SPAN_TOKENS / PAGE_TOKENS)..query.pages.len().min((span + 1) * (SPAN_TOKENS / PAGE_TOKENS));
    for page in pages {
        let seen = within_page(&positions, page);
        if seen.is_empty() {
            continue;
        }
        rows.widen(query.pages[page], false, seen.end, keys);
        rows.widen(query.pages[page], true, seen.end, values);
        let seen = seen.start * head_dim..seen.end * head_dim;
        for (row, state) in states.iter_mut().enumerate() {
            let columns = row * head_dim..(row + 1) * head_dim;
            let (q, sum) = (&q[columns.clone()], &mut sums[columns]);
            rows.attend(q, &keys[seen.clone()], &values[seen.clone()], scores, state, sum);
        }
    }
}

fn divide(out: &mut [f32], totals: &[Partial], head_dim: usize) {
    for (out, total) in out.chunks_exact_mut(head_dim).zip(totals) {
        let inverse = 1.0 / total.sum;
        out.iter_mut().for_each(|value| *value *= inverse);
    }
}

/// Many queries: units are (queries of one sequence, kv head), so that a page is widened once for all of them.
fn by_blocks(
    kernels: &Kernels,
    threads: &Threads,
    shape: &AttentionShape,
    q: &[f32],
    queries: &[Query<'_>],
    out: &mut [f32],
) {
    let mut blocks: Vec<Range<usize>> = Vec::new();
    for index in 0..queries.len() {
        match blocks.last_mut() {
            Some(block)
                if block.len() < QUERY_BLOCK && std::ptr::eq(queries[block.start].pages, queries[index].pages) =>
            {
                block.end = index + 1;
            }
            _ => blocks.push(index..index + 1),
        }
    }
    let out = Disjoint::new(out);
    // Last blocks first: they see the most positions, and what is left at the end is short.
    threads.run(blocks.len() * shape.kv_heads, &|unit| {
        let block = &blocks[blocks.len() - 1 - unit / shape.kv_heads];
        let rows = Rows { kernels: &kernels.attention, shape, kv_head: unit % shape.kv_heads };
        SCRATCH.with_borrow_mut(|scratch| one_block(&rows, q, &queries[block.clone()], block.start, scratch, &out));
    });
}

/// Some queries of one sequence, the heads of one group, all positions.
fn one_block(
    rows: &Rows<'_>,
    q: &[f32],
    queries: &[Query<'_>],
    first: usize,
    scratch: &mut Scratch,
    out: &Disjoint<'_, f32>,
) {
    let shape = rows.shape;
    let (group, head_dim) = (shape.group(), shape.head_dim);
    let columns = shape.heads * head_dim;
    let count = queries.len() * group;
    let Scratch { keys, values, scores, span_values, totals: total_values } = scratch;
    total_values.clear();
    total_values.resize(count * head_dim, 0.0);
    let mut totals = vec![NOTHING; count];
    let mut states = vec![NOTHING; count];
    let pages = queries[0].pages;
    let begin = queries.iter().map(|query| query.positions().start).min().unwrap_or(0) / SPAN_TOKENS;
    let end = queries.iter().map(|query| query.visible).max().unwrap_or(0);
    for span in begin..end.div_ceil(SPAN_TOKENS) {
        states.fill(NOTHING);
        span_values.clear();
        span_values.resize(count * head_dim, 0.0);
        let last = end.div_ceil(PAGE_TOKENS).min((span + 1) * (SPAN_TOKENS / PAGE_TOKENS));
        for page in span * (SPAN_TOKENS / PAGE_TOKENS)..last {
            let most = within_page(&(0..end), page).end;
            rows.widen(pages[page], false, most, keys);
            rows.widen(pages[page], true, most, values);
            for (row, state) in states.iter_mut().enumerate() {
                let (index, head) = (row / group, rows.kv_head * group + row % group);
                let seen = within_page(&queries[index].positions(), page);
                if seen.is_empty() {
                    continue;
                }
                let seen = seen.start * head_dim..seen.end * head_dim;
                let q = &q[(first + index) * columns + head * head_dim..][..head_dim];
                let sum = &mut span_values[row * head_dim..(row + 1) * head_dim];
                rows.attend(q, &keys[seen.clone()], &values[seen], scores, state, sum);
            }
        }
        for (row, state) in states.iter().enumerate().filter(|(_, state)| state.sum != 0.0) {
            let columns = row * head_dim..(row + 1) * head_dim;
            merge(&mut totals[row], &mut total_values[columns.clone()], *state, &span_values[columns]);
        }
    }
    divide(total_values, &totals, head_dim);
    for (row, values) in total_values.chunks_exact(head_dim).enumerate() {
        let start = (first + row / group) * columns + (rows.kv_head * group + row % group) * head_dim;
        // SAFETY: no other unit has these queries and this group.
        unsafe { out.part(start..start + head_dim) }.copy_from_slice(values);
    }
}

/// Puts one position's keys and values, `(kv_heads, head_dim)` each, at `slot` of a page.
///
/// # Panics
/// If the sizes do not fit.
pub fn store_kv(kernels: &Kernels, shape: &AttentionShape, page: &mut [f16], slot: usize, key: &[f32], value: &[f32]) {
    let head_dim = shape.head_dim;
    assert!(slot < PAGE_TOKENS && page.len() == shape.page_elements(), "slot {slot} of a page");
    assert!(key.len() == shape.kv_heads * head_dim && value.len() == key.len(), "a row of keys and one of values");
    let rows = key.chunks_exact(head_dim).chain(value.chunks_exact(head_dim));
    for (row, head) in rows.zip(page.chunks_exact_mut(PAGE_TOKENS * head_dim)) {
        // SAFETY: the table was checked against the processor; both slices have `head_dim` elements.
        unsafe { (kernels.attention.narrow)(row, &mut head[slot * head_dim..(slot + 1) * head_dim]) };
    }
}
