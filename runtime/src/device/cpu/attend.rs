//! Stores keys and values in the cache, and attends over them.

use half::f16;

use super::program::CpuProgram;
use crate::kernels::attention::{self, Query};
use crate::plan::{Attention, BLOCK_TOKENS, Kept, Slot, Window};

impl CpuProgram {
    /// Stores the rows' keys and values at their positions.
    pub(super) fn store(&mut self, kept: Kept, key: Slot, value: Slot) {
        let shape = self.state.heads(kept.group);
        let (keys, values) = (self.take(key), self.take(value));
        let keys_of_rows = keys.chunks_exact(shape.kv_heads * shape.key_dim);
        let rows = keys_of_rows.zip(values.chunks_exact(shape.kv_heads * shape.value_dim));
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
        // If every row sees all rows of its sequence, the range ends at the last one.
        let mut ends = vec![0; self.step.states.len()];
        for (&sequence, &position) in self.step.sequences.iter().zip(&self.step.positions) {
            ends[sequence] = ends[sequence].max(position + 1);
        }
        let queries: Vec<Query<'_>> = self
            .step
            .sequences
            .iter()
            .zip(&self.step.positions)
            .map(|(&sequence, &position)| {
                let end = if shape.causal { position + 1 } else { ends[sequence] };
                let first = match shape.window {
                    None => 0,
                    Some(Window::Sliding(length)) => (position + 1).saturating_sub(length),
                    Some(Window::Chunked(length)) => position / length * length,
                };
                Query { pages: &pages[sequence], positions: first..end, position }
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
        let count = self.elements(out);
        let sinks = shape.sinks.map(|sinks| self.weights.vector(sinks));
        let (kernels, threads) = (self.kernels, &self.threads);
        attention::attention(kernels, threads, &heads, sinks, self.values(query), &queries, &mut buffer[..count]);
        self.put(out, buffer);
    }
}
