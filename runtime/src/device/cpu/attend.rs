//! Keys and values into the cache, and attention over them.
//!
//! What is cached in a quantised type is transformed first, head by head (`kernels::attention::hadamard`): an element far larger
//! than the others would take the levels of its block. Queries then take the keys' transform, which leaves scores as they are;
//! of transformed values, the result takes it back. In F16 there is nothing to gain, and everything stays as it was.

use half::f16;

use super::program::CpuProgram;
use crate::kernels::attention::{self, Query};
use crate::plan::{Attention, BLOCK_TOKENS, CacheType, Kept, Slot, Window};

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
        let (key_buffer, value_buffer) = (self.take(key), self.take(value));
        let keys = if turns(shape.cache.keys) { &turned_keys } else { &key_buffer };
        let values = if turns(shape.cache.values) { &turned_values } else { &value_buffer };
        let keys_of_rows = keys.chunks_exact(shape.kv_heads * shape.key_dim);
        let rows = keys_of_rows.zip(values.chunks_exact(shape.kv_heads * shape.value_dim));
        let places = self.step.sequences.iter().zip(&self.step.positions);
        for ((&sequence, &position), (key, value)) in places.zip(rows) {
            let page = self.step.states[sequence][kept.group][position / BLOCK_TOKENS].expect("the page is held");
            let memory = self.state.keys_and_values_mut(kept.group, kept.layer, page);
            attention::store_kv(self.kernels, &shape, memory, position % BLOCK_TOKENS, key, value);
        }
        self.put(key, key_buffer);
        self.put(value, value_buffer);
        self.turned = [turned_keys, turned_values];
    }

    /// Queries that grow with the logarithm of their position.
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
        // Where every row sees all rows of its sequence, it sees as far as the last one.
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
            cache,
        };
        let count = self.elements(out);
        let sinks = shape.sinks.map(|sinks| self.weights.vector(sinks));
        let (kernels, threads) = (self.kernels, &self.threads);
        let q = if turns(cache.keys) { &turned } else { self.values(query) };
        attention::attention(kernels, threads, &heads, sinks, q, &queries, &mut buffer[..count]);
        if turns(cache.values) {
            attention::hadamard(kernels, threads, &mut buffer[..count], shape.value_dim);
        }
        self.put(out, buffer);
        self.turned = [turned, spare];
    }
}
