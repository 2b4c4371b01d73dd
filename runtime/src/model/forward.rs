//! The forward pass: tokens of a batch in, logits of its wanted rows out.

use super::blocks::{Attention, FeedForward, Layer, Linear, Mixer, Norm};
use crate::backend::{Backend, Batch, KvShape, Product, Slot, Weight};

/// A model whose weights a backend has taken in.
#[derive(Clone, Debug)]
pub struct Model {
    /// Rows of the token table: every token id is below it.
    pub vocabulary: usize,
    /// Positions it was trained on.
    pub trained_context: usize,
    /// `(vocabulary, embedding)`
    pub token_table: Weight,
    /// In order.
    pub layers: Vec<Layer>,
    /// Before the head.
    pub output_norm: Norm,
    /// The head: `(vocabulary, embedding)`; the token table itself where the model ties them.
    pub output: Linear,
    /// The KV cache it needs.
    pub kv: KvShape,
    /// Its activation buffers.
    pub slots: Slots,
}

/// Activation buffers of a forward pass, each `(tokens, …)`.
#[derive(Clone, Copy, Debug)]
pub struct Slots {
    /// The residual stream: embedding.
    pub residual: Slot,
    /// Normalised input of a block: embedding.
    pub normed: Slot,
    /// heads * head_dim
    pub query: Slot,
    /// kv_heads * head_dim
    pub key: Slot,
    /// kv_heads * head_dim
    pub value: Slot,
    /// heads * head_dim
    pub mixed: Slot,
    /// feed_forward
    pub gate: Slot,
    /// feed_forward
    pub up: Slot,
    /// feed_forward
    pub gated: Slot,
    /// Residual rows whose logits are wanted: embedding.
    pub last: Slot,
    /// The same, normalised: embedding.
    pub last_normed: Slot,
    /// vocabulary
    pub logits: Slot,
}

/// What the widths of the buffers depend on.
#[derive(Clone, Copy, Debug)]
pub struct SlotColumns {
    /// The residual stream.
    pub embedding: usize,
    /// heads * head_dim
    pub attended: usize,
    /// kv_heads * head_dim
    pub cached: usize,
    /// Inside the feed-forward part.
    pub feed_forward: usize,
    /// Logits.
    pub vocabulary: usize,
}

impl SlotColumns {
    /// Columns of all the buffers with a row for each token.
    pub fn of_a_token(&self) -> usize {
        2 * self.embedding + 2 * self.attended + 2 * self.cached + 3 * self.feed_forward
    }

    /// Columns of all the buffers with a row for each token whose logits are wanted.
    pub fn of_an_output(&self) -> usize {
        2 * self.embedding + self.vocabulary
    }
}

impl Slots {
    /// Makes the buffers; [`SlotColumns`] adds their widths up.
    pub fn new(backend: &mut dyn Backend, columns: SlotColumns) -> Self {
        let SlotColumns { embedding, attended, cached, feed_forward, vocabulary } = columns;
        Self {
            residual: backend.slot(embedding),
            normed: backend.slot(embedding),
            query: backend.slot(attended),
            key: backend.slot(cached),
            value: backend.slot(cached),
            mixed: backend.slot(attended),
            gate: backend.slot(feed_forward),
            up: backend.slot(feed_forward),
            gated: backend.slot(feed_forward),
            last: backend.slot(embedding),
            last_normed: backend.slot(embedding),
            logits: backend.slot(vocabulary),
        }
    }
}

fn product(linear: &Linear, out: Slot) -> Product {
    Product { weight: linear.weight, bias: linear.bias, factor: linear.factor, out, add: false }
}

impl Model {
    /// Runs `batch`; keys and values of its rows are in the cache afterwards. `logits` becomes those of
    /// `batch.outputs`, `(outputs, vocabulary)`.
    pub fn forward(&self, backend: &mut dyn Backend, batch: &Batch, logits: &mut Vec<f32>) {
        logits.clear();
        let slots = &self.slots;
        backend.begin(batch);
        backend.embed(self.token_table, slots.residual);
        for layer in &self.layers {
            match &layer.mixer {
                Mixer::Attention(attention) => self.attention(backend, attention),
            }
            self.feed_forward(backend, &layer.feed_forward);
        }
        if batch.outputs.is_empty() {
            return;
        }
        backend.select_outputs(slots.residual, slots.last);
        backend.rms_norm(slots.last, self.output_norm.weight, self.output_norm.epsilon, slots.last_normed);
        backend.matmul(slots.last_normed, &[product(&self.output, slots.logits)]);
        logits.extend_from_slice(backend.read(slots.logits));
    }

    fn attention(&self, backend: &mut dyn Backend, block: &Attention) {
        let slots = &self.slots;
        let shape = &block.shape;
        backend.rms_norm(slots.residual, block.norm.weight, block.norm.epsilon, slots.normed);
        backend.matmul(
            slots.normed,
            &[product(&block.query, slots.query), product(&block.key, slots.key), product(&block.value, slots.value)],
        );
        if let Some(rope) = &block.rope {
            backend.rope(slots.query, rope, shape.heads, shape.head_dim);
            backend.rope(slots.key, rope, shape.kv_heads, shape.head_dim);
        }
        backend.store_kv(block.kv_layer, slots.key, slots.value);
        backend.attention(block.kv_layer, shape, slots.query, slots.mixed);
        backend.matmul(slots.mixed, &[Product { add: true, ..product(&block.output, slots.residual) }]);
    }

    fn feed_forward(&self, backend: &mut dyn Backend, block: &FeedForward) {
        let slots = &self.slots;
        match block {
            FeedForward::Gated { norm, gate, up, down, activation } => {
                backend.rms_norm(slots.residual, norm.weight, norm.epsilon, slots.normed);
                backend.matmul(slots.normed, &[product(gate, slots.gate), product(up, slots.up)]);
                backend.gate(*activation, slots.gate, slots.up, slots.gated);
                backend.matmul(slots.gated, &[Product { add: true, ..product(down, slots.residual) }]);
            }
        }
    }
}
