//! Stores keys and values in the cache, and attends over them.
//!
//! What is cached in a quantised type is transformed first, head by head (`kernels::attention::hadamard`): an element far larger
//! than the others would take the levels of its block. Queries then take the keys' transform, which leaves scores as they are;
//! of transformed values, the result takes it back. In F16 there is nothing to gain, and nothing is transformed.

use std::ops::Range;

use half::f16;

use super::program::CpuProgram;
use crate::kernels::attention::{self, NewPositions, Query};
use crate::plan::{Attention, BLOCK_TOKENS, CacheType, Kept, PageId, Slot, Window};

/// A sequence's rows of this step, and the pages they are written to.
struct Writing {
    rows: Range<usize>,
    /// Of the first row, in the first page.
    slot: usize,
    pages: Vec<(PageId, Vec<f16>)>,
    /// The page before those, unless a window has passed it.
    before: Option<PageId>,
}

/// Whether what is cached in this type is transformed.
pub(super) fn turns(ty: CacheType) -> bool {
    ty != CacheType::F16
}

impl CpuProgram {
    /// A slot's values, heads of `dim` elements, as they go to or meet a cache of type `ty`: transformed in a copy, as later
    /// operations may read the slot.
    fn turned(&self, slot: Slot, ty: CacheType, dim: usize, copy: &mut Vec<f32>) {
        copy.clear();
        if turns(ty) {
            copy.extend_from_slice(self.values(slot));
            attention::hadamard(self.kernels, &self.threads, copy, dim);
        }
    }

    /// Stores the rows' keys and values at their positions.
    pub(super) fn store(&mut self, kept: Kept, key: Slot, value: Slot) {
        let shape = self.state.heads(kept.group);
        let [mut turned_keys, mut turned_values] = std::mem::take(&mut self.turned);
        self.turned(key, shape.cache.keys, shape.key_dim, &mut turned_keys);
        self.turned(value, shape.cache.values, shape.value_dim, &mut turned_values);
        let mut writing = self.begin_writing(kept);
        let keys = if turns(shape.cache.keys) { &turned_keys } else { self.values(key) };
        let values = if turns(shape.cache.values) { &turned_values } else { self.values(value) };
        let layer = self.state.layer(kept.group, kept.layer);
        let mut runs: Vec<NewPositions<'_>> = writing
            .iter_mut()
            .map(|run| NewPositions {
                rows: run.rows.clone(),
                slot: run.slot,
                pages: run.pages.iter_mut().map(|(_, elements)| &mut elements[layer.clone()]).collect(),
                before: run.before.map(|before| self.state.keys_and_values(kept.group, kept.layer, Some(before))),
            })
            .collect();
        attention::store(self.kernels, &self.threads, &shape, keys, values, &mut runs);
        for (page, elements) in writing.into_iter().flat_map(|run| run.pages) {
            self.state.put_paged(kept.group, page, elements);
        }
        self.turned = [turned_keys, turned_values];
    }

    /// Takes out the pages that each sequence's rows are written to.
    fn begin_writing(&mut self, kept: Kept) -> Vec<Writing> {
        let Self { step, state, .. } = self;
        let runs = step.runs().into_iter().map(|(sequence, rows)| {
            let held = &step.states[sequence][kept.group];
            let (first, last) = (step.positions[rows.start], step.positions[rows.end - 1]);
            assert_eq!(last + 1 - first, rows.len(), "a sequence's rows are consecutive positions");
            let page_of = |position: usize| position / BLOCK_TOKENS;
            let pages = (page_of(first)..=page_of(last)).map(|page| {
                let page = held[page].expect("the page is held");
                (page, state.take_paged(kept.group, page))
            });
            let pages = pages.collect();
            let before = page_of(first).checked_sub(1).and_then(|before| held[before]);
            Writing { rows, slot: first % BLOCK_TOKENS, pages, before }
        });
        runs.collect()
    }

    /// Scales queries with the logarithm of their position.
    pub(super) fn temperature(&mut self, x: Slot, scale: f32, length: usize, offset: f32) {
        let columns = self.columns(x);
        self.write_rows(x, columns, |program, range, x| {
            for (&position, row) in program.step.positions[range].iter().zip(x.chunks_exact_mut(columns)) {
                let periods = ((position as f32 + offset) / length as f32).floor();
                let factor = 1.0 + scale * periods.ln_1p();
                row.iter_mut().for_each(|value| *value *= factor);
            }
        });
    }

    /// Attention of every row over its own sequence's positions.
    pub(super) fn attend(&mut self, kept: Kept, shape: &Attention, query: Slot, out: Slot) {
        let cache = self.state.cache();
        let [mut turned, spare] = std::mem::take(&mut self.turned);
        self.turned(query, cache.keys, shape.key_dim, &mut turned);
        let mut buffer = self.take(out);
        let pages: Vec<Vec<&[f16]>> = self
            .step
            .states
            .iter()
            .map(|groups| {
                let pages = groups[kept.group].iter();
                pages.map(|&page| self.state.keys_and_values(kept.group, kept.layer, page)).collect()
            })
            .collect();
        let lengths = self.lengths();
        let places = self.step.sequences.iter().zip(&self.step.positions);
        let queries: Vec<Query<'_>> = places
            .map(|(&sequence, &position)| Query {
                pages: &pages[sequence],
                positions: seen(shape, position, lengths[sequence]),
                position,
            })
            .collect();
        let heads = attention::AttentionShape {
            heads: shape.heads,
            kv_heads: shape.kv_heads,
            key_dim: shape.key_dim,
            value_dim: shape.value_dim,
            scale: shape.scale,
            softcap: shape.softcap,
            alibi: shape.alibi,
            cache,
        };
        let sinks = shape.sinks.map(|sinks| self.weights.vector(sinks));
        let count = self.elements(out);
        let (kernels, threads) = (self.kernels, &self.threads);
        let q = if turns(cache.keys) { &turned } else { self.values(query) };
        attention::attention(kernels, threads, &heads, sinks, q, &queries, &mut buffer[..count]);
        if turns(cache.values) {
            attention::hadamard(kernels, threads, &mut buffer[..count], shape.value_dim);
        }
        self.put(out, buffer);
        self.turned = [turned, spare];
    }

    /// Positions of each sequence once this step's rows are there.
    fn lengths(&self) -> Vec<usize> {
        let mut lengths = vec![0; self.step.states.len()];
        for (&sequence, &position) in self.step.sequences.iter().zip(&self.step.positions) {
            lengths[sequence] = lengths[sequence].max(position + 1);
        }
        lengths
    }
}

/// The positions that a row at `position` sees in a sequence of `length`.
fn seen(shape: &Attention, position: usize, length: usize) -> Range<usize> {
    match (shape.window, shape.causal) {
        (None, true) => 0..position + 1,
        (None, false) => 0..length,
        (Some(Window::Sliding(window)), true) => (position + 1).saturating_sub(window)..position + 1,
        // Half of the window to either side.
        (Some(Window::Sliding(window)), false) => {
            position.saturating_sub(window / 2)..(position + window / 2 + 1).min(length)
        }
        (Some(Window::Chunked(chunk)), true) => position / chunk * chunk..position + 1,
        (Some(Window::Chunked(chunk)), false) => {
            position / chunk * chunk..(position / chunk * chunk + chunk).min(length)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_say_what_is_seen() {
        let shape = |window, causal| Attention {
            heads: 1,
            kv_heads: 1,
            key_dim: 8,
            value_dim: 8,
            scale: 1.0,
            window,
            softcap: None,
            alibi: None,
            sinks: None,
            causal,
        };
        let sliding = shape(Some(Window::Sliding(4)), true);
        assert_eq!(seen(&sliding, 2, 9), 0..3);
        assert_eq!(seen(&sliding, 3, 9), 0..4);
        assert_eq!(seen(&sliding, 4, 9), 1..5, "a key is seen from less than four positions away");
        let around = shape(Some(Window::Sliding(4)), false);
        assert_eq!(seen(&around, 1, 9), 0..4);
        assert_eq!(seen(&around, 4, 9), 2..7);
        assert_eq!(seen(&around, 8, 9), 6..9);
        let chunked = shape(Some(Window::Chunked(4)), true);
        assert_eq!(seen(&chunked, 3, 9), 0..4);
        assert_eq!(seen(&chunked, 4, 9), 4..5);
        assert_eq!(seen(&shape(None, true), 4, 9), 0..5);
        assert_eq!(seen(&shape(None, false), 4, 9), 0..9);
    }
}
