//! A second, smaller model with the same vocabulary that guesses: its most likely tokens, one after the other.
//!
//! It has a state of its own for each running sequence, brought up to date whenever it is asked. What it says is only ever a
//! guess: the model checks it as any other (`speculate`), so the draft's own errors cost time and nothing else.

use std::collections::HashMap;
use std::time::Instant;

use super::Loaded;
use crate::TokenId;
use crate::plan::Step;
use crate::state::{Sequence, StateCache};

/// Guesses of a draft at most: each takes a step of its own.
pub(super) const MOST_DRAFTED: usize = 8;

/// A loaded draft model and its sequences.
pub(super) struct Drafter {
    loaded: Loaded,
    state: StateCache,
    /// By the number of the sequence that they guess for.
    sequences: HashMap<u64, Sequence>,
    context: usize,
    step_tokens: usize,
    /// What a step of one row takes; 0 before the first.
    seconds: f64,
}

impl Drafter {
    /// For `sequences` at once, of `context` positions.
    pub(super) fn new(loaded: Loaded, sequences: usize, context: usize, step_tokens: usize) -> Self {
        let state = StateCache::new(&loaded.plan.state, sequences, context, step_tokens);
        Self { loaded, state, sequences: HashMap::new(), context, step_tokens, seconds: 0.0 }
    }

    /// Seconds that a guess takes.
    pub(super) fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Whether a sequence of this length is within its context.
    pub(super) fn reaches(&self, length: usize) -> bool {
        length + MOST_DRAFTED < self.context
    }

    /// At most `most` tokens that may follow; none if memory is missing.
    pub(super) fn guess(&mut self, id: u64, tokens: &[TokenId], most: usize) -> Vec<TokenId> {
        let mut sequence = match self.sequences.remove(&id) {
            Some(sequence) => sequence,
            // Nothing is shared between sequences: another's would be found by its tokens alone.
            None => self.state.begin(&mut *self.loaded.program, id, &[]),
        };
        match self.run(&mut sequence, tokens, most) {
            Some(guesses) => {
                self.sequences.insert(id, sequence);
                guesses
            }
            None => {
                self.state.discard(&mut *self.loaded.program, sequence);
                Vec::new()
            }
        }
    }

    /// Forgets sequences that have ended: all but these.
    pub(super) fn keep(&mut self, running: &[u64]) {
        let ended: Vec<u64> = self.sequences.keys().copied().filter(|id| !running.contains(id)).collect();
        for id in ended {
            let sequence = self.sequences.remove(&id).expect("just found");
            self.state.discard(&mut *self.loaded.program, sequence);
        }
    }

    fn run(&mut self, sequence: &mut Sequence, tokens: &[TokenId], most: usize) -> Option<Vec<TokenId>> {
        let known =
            sequence.tokens().iter().zip(&tokens[..tokens.len() - 1]).take_while(|(one, other)| one == other).count();
        if !self.state.truncate(&mut *self.loaded.program, sequence, known).ok()? {
            return None;
        }
        for piece in tokens[known..].chunks(self.step_tokens) {
            self.step(sequence, piece)?;
        }
        let mut guesses = Vec::with_capacity(most);
        loop {
            guesses.push(most_likely(self.loaded.program.output())?);
            if guesses.len() >= most {
                return Some(guesses);
            }
            let begun = Instant::now();
            self.step(sequence, &guesses[guesses.len() - 1..])?;
            let took = begun.elapsed().as_secs_f64();
            self.seconds = if self.seconds == 0.0 { took } else { self.seconds * 0.8 + took * 0.2 };
        }
    }

    /// Computes tokens and the logits after the last.
    fn step(&mut self, sequence: &mut Sequence, tokens: &[TokenId]) -> Option<()> {
        let program = &mut *self.loaded.program;
        self.state.trim(program, sequence);
        let mut step = Step::default();
        for &token in tokens {
            step.push(token, sequence.len(), 0);
            self.state.push(program, sequence, token).ok()?;
        }
        step.states.push(sequence.pages().to_vec());
        step.adapters.push(Default::default());
        step.outputs.push(step.len() - 1);
        // A guess may be computed in any order.
        step.answers = step.len();
        program.run(&step).ok()
    }
}

fn most_likely(logits: &[f32]) -> Option<TokenId> {
    let best = logits.iter().enumerate().max_by(|one, other| one.1.total_cmp(other.1))?;
    Some(best.0 as TokenId)
}
