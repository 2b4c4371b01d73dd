//! Stores keys and values in the cache, and attends over them.

use std::ops::Range;

use half::f16;

use super::program::CpuProgram;
use crate::kernels::attention::{self, Query};
use crate::plan::{Attention, BLOCK_TOKENS, Kept, Slot, Window};

impl CpuProgram {
    /// Stores the rows' keys and values at their positions.
    pub(super) fn store(&mut self, kept: Kept, key: Slot, value: Slot) {
        let shape = self.state.heads(kept.group);
        let (key_columns, value_columns) = (shape.kv_heads * shape.key_dim, shape.kv_heads * shape.value_dim);
        let (keys, values) = (self.take(key), self.take(value));
        let rows = keys.chunks_exact(key_columns).zip(values.chunks_exact(value_columns));
        let places = self.step.sequences.iter().zip(&self.step.positions);
        for ((&sequence, &position), (key, value)) in places.zip(rows) {
            let page = self.step.states[sequence][kept.group][position / BLOCK_TOKENS].expect("the page is held");
            let memory = self.state.keys_and_values_mut(kept.group, kept.layer, page);
            attention::store_kv(self.kernels, &shape, memory, position % BLOCK_TOKENS, key, value);
        }
        self.put(key, keys);
        self.put(value, values);
    }

    /// Scales queries with the logarithm of their position.
    pub(super) fn temperature(&mut self, x: Slot, scale: f32, length: usize, offset: f32) {
        let columns = self.columns(x);
        self.write(x, |program, x| {
            for (&position, row) in program.step.positions.iter().zip(x.chunks_exact_mut(columns)) {
                let periods = ((position as f32 + offset) / length as f32).floor();
                let factor = 1.0 + scale * periods.ln_1p();
                row.iter_mut().for_each(|value| *value *= factor);
            }
        });
    }

    /// Attention of every row over its own sequence's positions.
    pub(super) fn attend(&mut self, kept: Kept, shape: &Attention, query: Slot, out: Slot) {
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
            cache: self.state.cache(),
        };
        let sinks = shape.sinks.map(|sinks| self.weights.vector(sinks));
        let count = self.elements(out);
        let (q, out_values) = (self.values(query), &mut buffer[..count]);
        attention::attention(self.kernels, &self.threads, &heads, sinks, q, &queries, out_values);
        self.put(out, buffer);
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
