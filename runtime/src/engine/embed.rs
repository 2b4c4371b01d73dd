//! One vector of each sequence: what embeddings and reranking stand on.
//!
//! A sequence is in one step as a whole, as its positions may see all others; as many as fit go beside it. What stands beside a
//! sequence changes no bit of its result.

use super::Loaded;
use crate::TokenId;
use crate::device::DeviceError;
use crate::plan::{Plan, Step};
use crate::state::{Sequence, StateCache, StateError};

/// Rows of a step with several sequences; one that is longer has a step of its own.
const STEP_TOKENS: usize = 512;

/// Sequences of a step at the most.
const STEP_SEQUENCES: usize = 64;

/// A model that gives a vector for each sequence, on the calling thread.
pub struct Embedder {
    loaded: Loaded,
    state: StateCache,
    longest: usize,
}

/// Why sequences got no vectors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmbedError {
    /// A sequence is longer than the model can take.
    #[error("text {number} has {tokens} tokens, but the model takes {longest} at the most; shorten it, or divide it")]
    TooLong {
        /// Which one, counted from 1.
        number: usize,
        /// Its tokens.
        tokens: usize,
        /// The most there may be.
        longest: usize,
    },
    /// A sequence without a token.
    #[error("text {number} is empty: there is nothing to embed")]
    Empty {
        /// Which one, counted from 1.
        number: usize,
    },
    /// A token id that the vocabulary does not have.
    #[error("text {number}: token {token} is outside the vocabulary of {vocabulary}")]
    TokenOutOfRange {
        /// Which one, counted from 1.
        number: usize,
        /// The id.
        token: TokenId,
        /// Number of tokens.
        vocabulary: usize,
    },
    /// The device could not go on.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// No page is left.
    #[error(transparent)]
    State(#[from] StateError),
}

impl Embedder {
    /// An embedder of sequences of at most `longest` tokens.
    pub fn new(loaded: Loaded, longest: usize) -> Self {
        let state = StateCache::new(&loaded.plan.state, STEP_SEQUENCES, longest, longest);
        Self { loaded, state, longest }
    }

    /// The model.
    pub fn plan(&self) -> &Plan {
        &self.loaded.plan
    }

    /// The most tokens that a sequence may have.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// Checks sequences without computing anything.
    ///
    /// # Errors
    /// Where one is empty, too long, or has a token that the vocabulary lacks.
    pub fn check(&self, sequences: &[Vec<TokenId>]) -> Result<(), EmbedError> {
        let (vocabulary, longest) = (self.loaded.plan.vocabulary, self.longest);
        for (at, tokens) in sequences.iter().enumerate() {
            let number = at + 1;
            if tokens.is_empty() {
                return Err(EmbedError::Empty { number });
            }
            if tokens.len() > longest {
                return Err(EmbedError::TooLong { number, tokens: tokens.len(), longest });
            }
            if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocabulary) {
                return Err(EmbedError::TokenOutOfRange { number, token, vocabulary });
            }
        }
        Ok(())
    }

    /// How many of the first sequences go into one step.
    pub fn fitting(&self, sequences: &[Vec<TokenId>]) -> usize {
        let mut rows = 0;
        let fits = sequences.iter().take(STEP_SEQUENCES).take_while(|tokens| {
            rows += tokens.len();
            rows <= STEP_TOKENS
        });
        fits.count().max(1).min(sequences.len())
    }

    /// A vector for each sequence, in their order.
    ///
    /// # Errors
    /// As [`Embedder::check`], before anything is computed; or memory is missing.
    pub fn embed(&mut self, sequences: &[Vec<TokenId>]) -> Result<Vec<Vec<f32>>, EmbedError> {
        self.check(sequences)?;
        let mut vectors = Vec::with_capacity(sequences.len());
        let mut rest = sequences;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(self.fitting(rest));
            vectors.extend(self.step(now)?);
            rest = later;
        }
        Ok(vectors)
    }

    /// One step over all of `sequences`.
    fn step(&mut self, sequences: &[Vec<TokenId>]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let mut held = Vec::with_capacity(sequences.len());
        let done = self.run(sequences, &mut held);
        for sequence in held {
            self.state.discard(&mut *self.loaded.program, sequence);
        }
        done?;
        let columns = self.loaded.plan.output_columns();
        Ok(self.loaded.program.output().chunks_exact(columns).map(<[f32]>::to_vec).collect())
    }

    fn run(&mut self, sequences: &[Vec<TokenId>], held: &mut Vec<Sequence>) -> Result<(), EmbedError> {
        let program = &mut *self.loaded.program;
        let mut step = Step::default();
        for (index, tokens) in sequences.iter().enumerate() {
            held.push(self.state.begin(program, 0, &[]));
            let sequence = &mut held[index];
            for &token in tokens {
                step.push(token, sequence.len(), index);
                self.state.push(program, sequence, token)?;
            }
            step.states.push(sequence.pages().to_vec());
            step.outputs.push(step.len() - 1);
        }
        Ok(program.run(&step)?)
    }
}
