//! Logits of given tokens, without sampling: what `logits`, `perplexity` and `bench` stand on.

use crate::TokenId;
use crate::backend::{Backend, Batch, MemoryUse};
use crate::kv::{BLOCK_TOKENS, KvCache, KvSequence};
use crate::model::Model;

/// One sequence, evaluated on the calling thread.
pub struct Evaluator {
    model: Model,
    backend: Box<dyn Backend>,
    kv: KvCache,
    sequence: KvSequence,
    logits: Vec<f32>,
}

/// Which rows' logits an evaluation gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// None: only keys and values.
    Nothing,
    /// The last token's.
    Last,
    /// Every token's.
    All,
}

impl Evaluator {
    /// An evaluator with room for `context` positions.
    pub fn new(model: Model, backend: Box<dyn Backend>, context: usize) -> Self {
        let kv = KvCache::new(context.div_ceil(BLOCK_TOKENS));
        Self { model, backend, kv, sequence: KvSequence::default(), logits: Vec::new() }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Memory that the backend holds, and the copy of the logits.
    pub fn memory(&self) -> MemoryUse {
        let mut memory = self.backend.memory();
        memory.scratch_bytes += (self.logits.capacity() * size_of::<f32>()) as u64;
        memory
    }

    /// Forgets the sequence.
    pub fn clear(&mut self) {
        self.kv.discard(&mut *self.backend, std::mem::take(&mut self.sequence));
    }

    /// Appends `tokens` in one batch; gives the wanted logits, `(rows, vocabulary)`, or `None` where the context has no
    /// room for them (nothing is appended then).
    ///
    /// # Panics
    /// When a token is outside the vocabulary.
    pub fn append(&mut self, tokens: &[TokenId], wanted: Wanted) -> Option<&[f32]> {
        let room = self.kv.free_blocks() + self.sequence.blocks().len();
        if self.sequence.len() + tokens.len() > room * BLOCK_TOKENS {
            return None;
        }
        let mut batch = Batch::default();
        for &token in tokens {
            assert!((token as usize) < self.model.vocabulary, "token {token} is outside the vocabulary");
            batch.positions.push(self.sequence.len());
            batch.tokens.push(token);
            batch.sequences.push(0);
            assert!(self.kv.push(&mut *self.backend, &mut self.sequence, token), "room was checked");
        }
        batch.tables.push(self.sequence.blocks().to_vec());
        batch.outputs = match wanted {
            Wanted::Nothing => Vec::new(),
            Wanted::Last => tokens.len().checked_sub(1).into_iter().collect(),
            Wanted::All => (0..tokens.len()).collect(),
        };
        self.model.forward(&mut *self.backend, &batch, &mut self.logits);
        Some(&self.logits)
    }
}
