//! One running request: what is cached, what is still to compute, what was generated.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Instant;

use super::lookup::Lookup;
use super::masks::{Constrained, Masks};
use super::speculate::{Kind, MOST_GUESSED, Odds};
use super::{Event, FinishReason, Finished, GeneratedToken, Request};
use crate::TokenId;
use crate::device::{PickLimits, Picked, Wish};
use crate::plan::{AdapterSet, BLOCK_TOKENS};
use crate::sampling::{Sampler, SamplingError, log_softmax_at, top_logprobs};
use crate::state::Sequence;

/// A seed that differs between runs and requests.
fn random_seed() -> u64 {
    // RandomState is keyed from the operating system's random source.
    // 32 bits, to survive JSON and be short enough to retype.
    RandomState::new().build_hasher().finish() & 0xffff_ffff
}

/// A sequence that was admitted before and is reading what another would read, too.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leader {
    id: u64,
    /// Leading tokens that both have.
    common: usize,
}

/// A request admitted by the engine.
pub(super) struct Running {
    /// Differs from that of all others.
    id: u64,
    /// Without its constraint.
    request: Request,
    constraint: Option<Constrained>,
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
    /// The sequence that reads the same prompt, as far as it is the same.
    leader: Option<Leader>,
    lookup: Lookup,
    odds: Odds,
    /// What may follow the last token.
    guess: Vec<TokenId>,
    guessed: usize,
    accepted: usize,
    /// What was wished of the step's row.
    wish: Option<Wish>,
}

/// What the next token is sampled from.
#[derive(Debug)]
pub(super) enum Scores<'a> {
    /// The logits of the vocabulary.
    All(&'a mut [f32]),
    /// What was wished for.
    Few(&'a Picked),
}

impl Running {
    pub(super) fn new(
        mut request: Request,
        events: Sender<Event>,
        cancelled: Arc<AtomicBool>,
        state: Sequence,
        started: Instant,
        id: u64,
    ) -> Self {
        let seed = request.sampling.seed.unwrap_or_else(random_seed);
        let mut sampler = Sampler::new(&request.sampling, seed).with_infill(request.infill.take());
        for &token in &request.prompt {
            sampler.accept(token);
        }
        let cached = state.len();
        let tokens = request.prompt.clone();
        let constraint = request.constraint.take().map(Constrained::new);
        let running = Self {
            id,
            request,
            constraint,
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
            leader: None,
            lookup: Lookup::default(),
            odds: Odds::default(),
            guess: Vec::new(),
            guessed: 0,
            accepted: 0,
            wish: None,
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

    /// Whether its next row belongs to the answer: what follows a prompt that was read whole.
    pub(super) fn answers(&self) -> bool {
        self.decoding() && !self.reads()
    }

    /// Whether its prompt is not read yet.
    fn reads(&self) -> bool {
        self.generated == 0
    }

    /// Follows the one of `others`, admitted before, that reads the longest beginning of the same prompt.
    pub(super) fn follow(&mut self, others: &[Self]) {
        let usable = &self.tokens[..self.tokens.len() - 1];
        let leader = |other: &Self| {
            let same = other.caller() == self.caller() && other.adapters() == self.adapters();
            let pairs = || usable.iter().zip(&other.tokens);
            let common =
                if same && other.reads() { pairs().take_while(|(one, other)| one == other).count() } else { 0 };
            Leader { id: other.id, common }
        };
        let longest = others.iter().map(leader).max_by_key(|leader| leader.common);
        // Less than a block is read sooner than waited for.
        self.leader = longest.filter(|leader| leader.common >= self.state.len() + BLOCK_TOKENS);
    }

    /// Whether it waits for a leader.
    pub(super) fn follows(&self) -> bool {
        self.leader.is_some()
    }

    /// Whether the leader among `others` has nothing more to read for it, or is gone.
    pub(super) fn is_ahead(&self, others: &[Self]) -> bool {
        let Some(Leader { id, common }) = self.leader else { return false };
        let leader = others.iter().find(|other| other.id == id);
        leader.is_none_or(|leader| !leader.reads() || leader.computed >= common)
    }

    /// Takes over what the cache has of its prompt by now.
    pub(super) fn join(&mut self, state: Sequence) {
        self.leader = None;
        self.cached = state.len();
        self.go_on_from(state);
        self.report_prompt();
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
        self.lookup = Lookup::default();
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

    /// Records that the step with its tokens was run, and that the last `wrong` of them are not the sequence's.
    pub(super) fn step_done(&mut self, wrong: usize) {
        let length = self.state.len() - wrong;
        self.state.forget_from(length);
        self.computed = length;
    }

    /// Reports prefill progress.
    pub(super) fn report_prompt(&self) {
        if self.generated > 0 {
            return; // what is read again after a shift
        }
        let total = self.request.prompt.len();
        let _ = self.events.send(Event::Prompt { done: self.state.len().min(total), total });
    }

    /// Differs from that of all others.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// The most tokens that are of use as guesses: what its context and its length leave.
    pub(super) fn most_guesses(&self, context: usize) -> usize {
        let left = self.request.max_tokens.map_or(usize::MAX, |most| most.saturating_sub(self.generated));
        // The step's last row gives a token without being guessed.
        left.min(context.saturating_sub(self.tokens.len())).saturating_sub(1).min(MOST_GUESSED)
    }

    /// Whether its answer can begin, once the prompt is read.
    pub(super) fn is_ready(&self) -> bool {
        self.constraint.as_ref().is_none_or(Constrained::is_ready)
    }

    /// Lets what may come next be computed beside the step that is about to run.
    pub(super) fn prepare_mask(&mut self, masks: &mut Masks) {
        if let Some(constraint) = &mut self.constraint {
            constraint.prepare(masks);
        }
    }

    /// Guesses how the sequence goes on; gives the number of tokens and their kind.
    pub(super) fn guess(&mut self, most: usize) -> Option<(usize, Kind)> {
        let forced = self.constraint.as_mut().map_or(Vec::new(), Constrained::forced);
        let (mut tokens, kind) = if forced.is_empty() {
            let found = self.lookup.guess(&self.tokens, most);
            (found.tokens, Kind::found(found.past))
        } else {
            (forced, Kind::Forced)
        };
        tokens.truncate(most);
        let guesses = self.set_guess(tokens);
        (guesses > 0).then_some((guesses, kind))
    }

    /// Takes these tokens for a guess; gives how many of them are of use.
    pub(super) fn set_guess(&mut self, mut tokens: Vec<TokenId>) -> usize {
        // Nothing is sampled behind an end.
        if let Some(end) = tokens.iter().position(|token| self.request.end_tokens.contains(token)) {
            tokens.truncate(end + 1);
        }
        self.guess = tokens;
        self.guess.len()
    }

    /// The probability that a guess of this kind is right.
    pub(super) fn odds(&self, kind: Kind) -> f64 {
        self.odds.of(kind)
    }

    /// The guessed tokens.
    pub(super) fn guesses(&self, count: usize) -> &[TokenId] {
        &self.guess[..count]
    }

    /// Records that guesses of this kind were not checked.
    pub(super) fn rest(&mut self, kind: Kind) {
        self.odds.rest(kind);
    }

    /// Takes the logits after the last pending token and after each of its guesses, as long as these are what is sampled. Gives
    /// how many were right, and whether the sequence ends.
    pub(super) fn advance_over(
        &mut self,
        logits: &mut [f32],
        columns: usize,
        checked: Option<(usize, Kind)>,
        context: usize,
    ) -> (usize, Option<FinishReason>) {
        let guesses = checked.map_or(0, |(guesses, _)| guesses);
        let mut right = 0;
        let mut end = None;
        for (at, row) in logits.chunks_exact_mut(columns).enumerate() {
            end = self.advance(Scores::All(row), context);
            // Of an ended sequence only an end token may have been guessed, which has no state.
            if end.is_some() || at == guesses || self.tokens.last() != Some(&self.guess[at]) {
                break;
            }
            right += 1;
        }
        if let Some((guesses, kind)) = checked {
            self.odds.note(kind, guesses, right);
            self.guessed += guesses;
            self.accepted += right;
        }
        (right, end)
    }

    /// What its next token depends on, if a device can give that instead of all logits.
    pub(super) fn wish(&mut self, vocabulary: usize, limits: PickLimits) -> Option<Wish> {
        self.wish = None;
        if self.request.logprobs.is_some() {
            return None;
        }
        let mask = self.constraint.as_mut().map(Constrained::allowed).transpose().ok()?;
        self.wish = self.sampler.wish(vocabulary, limits, mask);
        self.wish.clone()
    }

    /// Takes the logits after the last pending token: samples, reports, and returns whether the sequence ends.
    pub(super) fn advance(&mut self, scores: Scores<'_>, context: usize) -> Option<FinishReason> {
        let first = *self.first_token.get_or_insert_with(Instant::now);
        if self.request.max_tokens == Some(0) {
            return Some(FinishReason::MaxTokens);
        }
        let original = match &scores {
            Scores::All(logits) => self.request.logprobs.map(|_| logits.to_vec()),
            Scores::Few(_) => None,
        };
        let id = match self.choose(scores) {
            Ok(id) => id,
            Err(reason) => return Some(reason),
        };
        if self.request.end_tokens.contains(&id) {
            return Some(FinishReason::EndToken(id));
        }
        let (logprob, top) = match (&original, self.request.logprobs) {
            (Some(_), Some(count)) if self.request.after_sampling => {
                let (logprob, top) = self.sampler.left(id, count);
                (Some(logprob), top)
            }
            (Some(original), Some(count)) => (Some(log_softmax_at(original, id)), top_logprobs(original, count)),
            _ => (None, Vec::new()),
        };
        self.tokens.push(id);
        self.generated += 1;
        let token = GeneratedToken { id, logprob, top, since_first: first.elapsed() };
        if self.events.send(Event::Token(token)).is_err() {
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
        self.constraint.as_ref().is_some_and(Constrained::is_complete)
    }

    /// Samples the next token, among those that the request's constraint allows.
    fn choose(&mut self, scores: Scores<'_>) -> Result<TokenId, FinishReason> {
        let mask = self.constraint.as_mut().map(Constrained::allowed);
        mask.transpose().map_err(FinishReason::Failed)?;
        // Only now it may be seen that nothing can follow, and the model may have no end token to say so.
        if self.is_complete() {
            return Err(FinishReason::Complete);
        }
        let mask = self.constraint.as_ref().and_then(Constrained::mask);
        let sampled = match scores {
            Scores::All(logits) => {
                if let Some(mask) = mask {
                    mask.apply(logits);
                }
                self.sampler.sample(logits)
            }
            Scores::Few(picked) => {
                let wish = self.wish.take().expect("it was wished for");
                self.sampler.sample_picked(&wish, picked, mask)
            }
        };
        let id = sampled.map_err(|error| match error {
            SamplingError::NothingLeft => FinishReason::Refused(error.to_string()),
            _ => FinishReason::Failed(error.to_string()),
        })?;
        self.sampler.accept(id);
        if let Some(constraint) = &mut self.constraint {
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
            guessed_tokens: self.guessed,
            accepted_tokens: self.accepted,
            prefill_seconds: first.duration_since(self.started).as_secs_f64(),
            decode_seconds: first.elapsed().as_secs_f64(),
            seed: self.seed,
        }));
        self.state
    }
}
