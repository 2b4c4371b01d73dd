//! Logits of given tokens, without sampling: the basis of `logits`, `perplexity` and `bench`.

use super::Loaded;
use crate::TokenId;
use crate::device::{DeviceError, MemoryUse};
use crate::plan::{AdapterSet, Plan, Step};
use crate::state::{Sequence, StateCache};

/// One sequence, evaluated on the calling thread.
pub struct Evaluator {
    loaded: Loaded,
    state: StateCache,
    sequence: Sequence,
    context: usize,
    adapters: AdapterSet,
}

/// Which rows' logits an evaluation returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// None: only updates the KV cache.
    Nothing,
    /// The last token's.
    Last,
    /// Every token's.
    All,
}

/// Why tokens were not evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluateError {
    /// The sequence would exceed the evaluator's context.
    #[error("{tokens} tokens are more than the context of {context}")]
    ContextFull {
        /// Tokens in total.
        tokens: usize,
        /// Positions in the context.
        context: usize,
    },
    /// The device could not go on.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// No page is left.
    #[error(transparent)]
    State(#[from] crate::state::StateError),
}

impl Evaluator {
    /// An evaluator with room for `context` positions.
    pub fn new(loaded: Loaded, context: usize) -> Self {
        let state = StateCache::new(&loaded.plan.state, 1, context, context);
        Self { loaded, state, sequence: Sequence::default(), context, adapters: AdapterSet::default() }
    }

    /// The same with adapters in use.
    #[must_use]
    pub fn with_adapters(self, adapters: AdapterSet) -> Self {
        Self { adapters, ..self }
    }

    /// The model.
    pub fn plan(&self) -> &Plan {
        &self.loaded.plan
    }

    /// The model, without the sequence.
    pub fn into_loaded(mut self) -> Loaded {
        self.clear();
        self.loaded
    }

    /// Memory that the device holds.
    pub fn memory(&self) -> MemoryUse {
        self.loaded.program.memory()
    }

    /// Clears the sequence.
    pub fn clear(&mut self) {
        self.state.discard(&mut *self.loaded.program, std::mem::take(&mut self.sequence));
    }

    /// Appends `tokens` of a prompt in one step; returns the wanted rows of the result, `(rows, columns)`.
    ///
    /// # Errors
    /// If the context has no room for them (nothing is appended then), or memory runs out.
    ///
    /// # Panics
    /// If a token is outside the vocabulary.
    pub fn append(&mut self, tokens: &[TokenId], wanted: Wanted) -> Result<&[f32], EvaluateError> {
        self.step(tokens, wanted, 0)
    }

    /// Appends a token as an answer's; returns the logits behind it.
    ///
    /// # Errors
    /// As [`Self::append`].
    ///
    /// # Panics
    /// As there.
    pub fn answer(&mut self, token: TokenId) -> Result<&[f32], EvaluateError> {
        self.step(&[token], Wanted::Last, 1)
    }

    fn step(&mut self, tokens: &[TokenId], wanted: Wanted, answers: usize) -> Result<&[f32], EvaluateError> {
        let all = self.sequence.len() + tokens.len();
        if all > self.context {
            return Err(EvaluateError::ContextFull { tokens: all, context: self.context });
        }
        if self.sequence.is_empty() {
            self.sequence = self.state.begin(&mut *self.loaded.program, 0, &[]);
        }
        let program = &mut *self.loaded.program;
        let mut step = Step { answers, ..Step::default() };
        self.state.trim(program, &mut self.sequence);
        for &token in tokens {
            assert!((token as usize) < self.loaded.plan.vocabulary, "token {token} is outside the vocabulary");
            step.push(token, self.sequence.len(), 0);
            self.state.push(program, &mut self.sequence, token)?;
        }
        step.states.push(self.sequence.pages().to_vec());
        step.adapters.push(self.adapters);
        step.outputs = match wanted {
            Wanted::Nothing => Vec::new(),
            Wanted::Last => tokens.len().checked_sub(1).into_iter().collect(),
            Wanted::All => (0..tokens.len()).collect(),
        };
        program.run(&step)?;
        Ok(self.loaded.program.output())
    }
}
