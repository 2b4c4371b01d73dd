//! Prefill and decode speed in tokens per second.

use std::time::Instant;

use crate::TokenId;
use crate::device::MemoryUse;
use crate::engine::{EvaluateError, Evaluator, Wanted};

/// Prefill batch size, the engine's own.
pub(super) const BATCH_TOKENS: usize = 512;

/// The timed part of a test; takes a number of tokens.
type Work = fn(&mut Speed, usize) -> Result<(), EvaluateError>;

/// One test and its results.
#[derive(Clone, Debug)]
pub(super) struct Test {
    /// `pp512`, `tg128@d4096`
    pub(super) name: String,
    /// Tokens per second of each run.
    pub(super) samples: Vec<f64>,
}

impl Test {
    pub(super) fn mean(&self) -> f64 {
        self.samples.iter().sum::<f64>() / self.samples.len() as f64
    }

    /// Standard deviation of the samples; 0 for a single one.
    pub(super) fn deviation(&self) -> f64 {
        let mean = self.mean();
        let square: f64 = self.samples.iter().map(|sample| (sample - mean).powi(2)).sum();
        (square / (self.samples.len().max(2) - 1) as f64).sqrt()
    }
}

/// Runs tests on a model.
pub(super) struct Speed {
    evaluator: Evaluator,
    vocabulary: u64,
    depth: usize,
    repetitions: usize,
    state: u64,
    /// Peak over the tests so far.
    memory: MemoryUse,
}

impl Speed {
    /// Each test starts after `depth` tokens of context, and runs `repetitions` times after a warm-up.
    pub(super) fn new(evaluator: Evaluator, depth: usize, repetitions: usize) -> Self {
        let vocabulary = evaluator.plan().vocabulary as u64;
        Self { evaluator, vocabulary, depth, repetitions, state: 12_345, memory: MemoryUse::default() }
    }

    /// Prefills `prompt` tokens and decodes `generate`; 0 skips a test.
    pub(super) fn tests(&mut self, prompt: usize, generate: usize) -> Result<Vec<Test>, EvaluateError> {
        let suffix = if self.depth > 0 { format!("@d{}", self.depth) } else { String::new() };
        let tests: [(&str, usize, Work); 2] = [("pp", prompt, Self::prefill), ("tg", generate, Self::decode)];
        let wanted = tests.into_iter().filter(|(_, tokens, _)| *tokens > 0);
        let test = |(name, tokens, work)| {
            Ok(Test { name: format!("{name}{tokens}{suffix}"), samples: self.samples(tokens, work)? })
        };
        wanted.map(test).collect()
    }

    /// Peak memory so far, weights excluded.
    pub(super) fn memory(&self) -> MemoryUse {
        self.memory
    }

    /// The evaluator, its sequence cleared.
    pub(super) fn into_evaluator(mut self) -> Evaluator {
        self.evaluator.clear();
        self.evaluator
    }

    /// Any tokens will do, as long as they differ: a linear congruential sequence.
    fn tokens(&mut self, count: usize) -> Vec<TokenId> {
        let mut next = || {
            self.state = (self.state * 1_103_515_245 + 12_345) & 0x7fff_ffff;
            (self.state % self.vocabulary) as TokenId
        };
        (0..count).map(|_| next()).collect()
    }

    fn prefill(&mut self, count: usize) -> Result<(), EvaluateError> {
        for chunk in self.tokens(count).chunks(BATCH_TOKENS) {
            self.evaluator.append(chunk, Wanted::Last)?;
        }
        Ok(())
    }

    fn decode(&mut self, count: usize) -> Result<(), EvaluateError> {
        for token in self.tokens(count) {
            self.evaluator.answer(token)?;
        }
        Ok(())
    }

    /// Tokens per second of each run; the first is a warm-up and not counted.
    fn samples(&mut self, tokens: usize, work: Work) -> Result<Vec<f64>, EvaluateError> {
        let mut samples = Vec::with_capacity(self.repetitions);
        for run in 0..=self.repetitions {
            self.evaluator.clear();
            self.prefill(self.depth)?;
            let start = Instant::now();
            work(self, tokens)?;
            let speed = tokens as f64 / start.elapsed().as_secs_f64();
            let held = self.evaluator.memory();
            self.memory.state_bytes = self.memory.state_bytes.max(held.state_bytes);
            self.memory.scratch_bytes = self.memory.scratch_bytes.max(held.scratch_bytes);
            if run > 0 {
                samples.push(speed);
            }
        }
        Ok(samples)
    }
}
