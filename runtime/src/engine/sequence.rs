//! One running request: what is cached, what is still to compute, what was generated.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Instant;

use super::{Event, FinishReason, Finished, GeneratedToken, Request};
use crate::TokenId;
use crate::plan::AdapterSet;
use crate::sampling::{Sampler, SamplingError, log_softmax_at, top_logprobs};
use crate::state::Sequence;

/// A seed that differs between runs and requests.
fn random_seed() -> u64 {
    // RandomState is keyed from the operating system's random source.
    // 32 bits, to survive JSON and be short enough to retype.
    RandomState::new().build_hasher().finish() & 0xffff_ffff
}

/// A request admitted by the engine.
pub(super) struct Running {
    request: Request,
    events: Sender<Event>,
    cancelled: Arc<AtomicBool>,
    sampler: Sampler,
    seed: u64,
    pub(super) state: Sequence,
    /// How much of the sequence has been computed.
    computed: usize,
    /// Prompt tokens, then generated ones; `state` holds a prefix of them.
    tokens: Vec<TokenId>,
    cached: usize,
    generated: usize,
    /// Tokens that were dropped to make room.
    pub(super) shifted: usize,
    started: Instant,
    first_token: Option<Instant>,
}

impl Running {
    pub(super) fn new(
        request: Request,
        events: Sender<Event>,
        cancelled: Arc<AtomicBool>,
        state: Sequence,
        started: Instant,
    ) -> Self {
        let seed = request.sampling.seed.unwrap_or_else(random_seed);
        let mut sampler = Sampler::new(&request.sampling, seed);
        for &token in &request.prompt {
            sampler.accept(token);
        }
        let cached = state.len();
        let tokens = request.prompt.clone();
        let running = Self {
            request,
            events,
            cancelled,
            sampler,
            seed,
            state,
            computed: cached,
            tokens,
            cached,
            generated: 0,
            shifted: 0,
            started,
            first_token: None,
        };
        running.report_prompt();
        running
    }

    /// Whether the client cancelled.
    pub(super) fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Tokens without keys and values yet: the rest of the prompt, or the last sampled one.
    pub(super) fn pending(&self) -> &[TokenId] {
        &self.tokens[self.state.len()..]
    }

    /// Whether prefill is done, so that it wants one token per step.
    pub(super) fn decoding(&self) -> bool {
        self.pending().len() == 1
    }

    /// Who asks.
    pub(super) fn caller(&self) -> u64 {
        self.request.caller
    }

    /// All tokens that are not dropped.
    pub(super) fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// Drops tokens to make room, where the request wants that.
    pub(super) fn shift(&mut self, context: usize) -> bool {
        let dropped = self.request.overflow.shift(&mut self.tokens, context);
        self.shifted += dropped;
        dropped > 0
    }

    /// Takes up after a shift, with what the cache still holds of the tokens.
    pub(super) fn go_on_from(&mut self, state: Sequence) {
        self.computed = state.len();
        self.state = state;
    }

    /// The adapters it uses.
    pub(super) fn adapters(&self) -> AdapterSet {
        self.request.adapters
    }

    /// Tokens generated so far.
    pub(super) fn generated(&self) -> usize {
        self.generated
    }

    /// Undoes tokens added to a step that was not run.
    pub(super) fn take_back(&mut self) {
        self.state.forget_from(self.computed);
    }

    /// Records that the step with its tokens was run.
    pub(super) fn step_done(&mut self) {
        self.computed = self.state.len();
    }

    /// Reports prefill progress.
    pub(super) fn report_prompt(&self) {
        if self.generated > 0 {
            return; // what is read again after a shift
        }
        let total = self.request.prompt.len();
        let _ = self.events.send(Event::Prompt { done: self.state.len().min(total), total });
    }

    /// Takes the logits after the last pending token: samples, reports, and returns whether the sequence ends.
    pub(super) fn advance(&mut self, logits: &mut [f32], context: usize) -> Option<FinishReason> {
        self.first_token.get_or_insert_with(Instant::now);
        if self.request.max_tokens == Some(0) {
            return Some(FinishReason::MaxTokens);
        }
        let original = self.request.logprobs.map(|_| logits.to_vec());
        let id = match self.choose(logits) {
            Ok(id) => id,
            Err(reason) => return Some(reason),
        };
        if self.request.end_tokens.contains(&id) {
            return Some(FinishReason::EndToken(id));
        }
        let (logprob, top) = match (&original, self.request.logprobs) {
            (Some(original), Some(count)) => (Some(log_softmax_at(original, id)), top_logprobs(original, count)),
            _ => (None, Vec::new()),
        };
        self.tokens.push(id);
        self.generated += 1;
        if self.events.send(Event::Token(GeneratedToken { id, logprob, top })).is_err() {
            return Some(FinishReason::Cancelled);
        }
        if self.is_complete() {
            return Some(FinishReason::Complete);
        }
        if self.request.max_tokens.is_some_and(|most| self.generated >= most) {
            return Some(FinishReason::MaxTokens);
        }
        (self.tokens.len() >= context).then_some(FinishReason::ContextFull)
    }

    /// Whether the constraint lets nothing follow.
    fn is_complete(&self) -> bool {
        self.request.constraint.as_ref().is_some_and(|constraint| constraint.is_complete())
    }

    /// Samples the next token, among those that the request's constraint allows.
    fn choose(&mut self, logits: &mut [f32]) -> Result<TokenId, FinishReason> {
        if let Some(constraint) = &mut self.request.constraint {
            constraint.allowed().map_err(FinishReason::Failed)?.apply(logits);
        }
        // Only now it may be seen that nothing can follow, and the model may have no end token to say so.
        if self.is_complete() {
            return Err(FinishReason::Complete);
        }
        let id = self.sampler.sample(logits).map_err(|error| match error {
            SamplingError::NothingLeft => FinishReason::Refused(error.to_string()),
            _ => FinishReason::Failed(error.to_string()),
        })?;
        self.sampler.accept(id);
        if let Some(constraint) = &mut self.request.constraint {
            constraint.accept(id).map_err(FinishReason::Failed)?;
        }
        Ok(id)
    }

    /// Reports the end; returns what the cache holds of it.
    pub(super) fn finish(self, reason: FinishReason) -> Sequence {
        let first = self.first_token.unwrap_or_else(Instant::now);
        let _ = self.events.send(Event::Finished(Finished {
            reason,
            prompt_tokens: self.request.prompt.len(),
            shifted_tokens: self.shifted,
            cached_tokens: self.cached,
            generated_tokens: self.generated,
            prefill_seconds: first.duration_since(self.started).as_secs_f64(),
            decode_seconds: first.elapsed().as_secs_f64(),
            seed: self.seed,
        }));
        self.state
    }
}
