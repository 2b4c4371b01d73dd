//! One vector of each sequence: what embeddings and reranking stand on.
//!
//! Where positions see all others, a sequence is in one step as a whole; as many as fit go beside it. Where they look back only,
//! a long one goes in pieces. What stands beside a sequence changes no bit of its result.

#[cfg(test)]
mod tests;

use super::Loaded;
use crate::TokenId;
use crate::device::{DeviceError, Program};
use crate::plan::{AdapterSet, Op, Plan, Pooling, Step};
use crate::state::{Sequence, StateCache, StateError};

/// Rows of a step with several sequences; one that is longer has steps of its own.
const STEP_TOKENS: usize = 512;

/// Sequences of a step at the most.
const STEP_SEQUENCES: usize = 64;

/// A model that gives a vector for each sequence, on the calling thread.
pub struct Embedder {
    loaded: Loaded,
    state: StateCache,
    longest: usize,
    adapters: AdapterSet,
    /// Rows of a step at the most.
    step_tokens: usize,
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
        let step_tokens = Self::step_tokens(&loaded.plan, longest);
        let state = StateCache::new(&loaded.plan.state, STEP_SEQUENCES, longest, step_tokens);
        Self { loaded, state, longest, adapters: AdapterSet::default(), step_tokens }
    }

    /// The same with adapters in use.
    #[must_use]
    pub fn with_adapters(self, adapters: AdapterSet) -> Self {
        Self { adapters, ..self }
    }

    /// Rows of the largest step that sequences of at most `longest` tokens need.
    pub fn step_tokens(plan: &Plan, longest: usize) -> usize {
        if plan.is_causal() && pooling(plan).is_some() { STEP_TOKENS } else { STEP_TOKENS.max(longest) }
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
            rows <= STEP_TOKENS.min(self.step_tokens)
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
            match now {
                [tokens] if tokens.len() > self.step_tokens => vectors.push(self.in_pieces(tokens)?),
                _ => vectors.extend(self.step(now)?),
            }
            rest = later;
        }
        Ok(vectors)
    }

    /// Steps over the pieces of a sequence that is longer than one may be.
    fn in_pieces(&mut self, tokens: &[TokenId]) -> Result<Vec<f32>, EmbedError> {
        let mut sequence = self.state.begin(&mut *self.loaded.program, 0, &[]);
        let vector = self.run_pieces(tokens, &mut sequence);
        self.state.discard(&mut *self.loaded.program, sequence);
        vector
    }

    fn run_pieces(&mut self, tokens: &[TokenId], sequence: &mut Sequence) -> Result<Vec<f32>, EmbedError> {
        let pooling = pooling(&self.loaded.plan);
        let mut vector = vec![0.0; self.loaded.plan.output_columns()];
        for piece in tokens.chunks(self.step_tokens) {
            let program = &mut *self.loaded.program;
            self.state.trim(program, sequence);
            let mut step = Step::default();
            push(&mut step, &mut self.state, program, sequence, piece)?;
            step.adapters.push(self.adapters);
            if pooling == Some(Pooling::Last) && sequence.len() < tokens.len() {
                step.outputs.clear();
            }
            program.run(&step)?;
            match pooling {
                Some(Pooling::Mean) => {
                    let share = piece.len() as f32 / tokens.len() as f32;
                    vector.iter_mut().zip(program.output()).for_each(|(sum, mean)| *sum += share * mean);
                }
                _ if step.outputs.is_empty() => {}
                _ => vector.copy_from_slice(program.output()),
            }
            if pooling == Some(Pooling::First) {
                break;
            }
        }
        Ok(vector)
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
        for tokens in sequences {
            held.push(self.state.begin(program, 0, &[]));
            let sequence = held.last_mut().expect("just pushed");
            push(&mut step, &mut self.state, program, sequence, tokens)?;
            step.adapters.push(self.adapters);
        }
        Ok(program.run(&step)?)
    }
}

/// Appends tokens of a sequence to a step, and wants their last row.
fn push(
    step: &mut Step,
    state: &mut StateCache,
    program: &mut dyn Program,
    sequence: &mut Sequence,
    tokens: &[TokenId],
) -> Result<(), StateError> {
    let index = step.states.len();
    for &token in tokens {
        step.push(token, sequence.len(), index);
        state.push(program, sequence, token)?;
    }
    step.states.push(sequence.pages().to_vec());
    step.outputs.push(step.len() - 1);
    Ok(())
}

/// How a plan pools rows, where that is the last that it does.
fn pooling(plan: &Plan) -> Option<Pooling> {
    match plan.ops.last() {
        Some(Op::Pool { pooling, .. }) => Some(*pooling),
        _ => None,
    }
}
