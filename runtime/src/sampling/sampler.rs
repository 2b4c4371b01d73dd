//! One sequence's sampler: its parameters, its random state, and the tokens in the penalty window.
//!
//! The stages run in llama.cpp's default order, so that users' existing settings mean the same here: logit bias, penalties
//! (repetition, then frequency and presence), top-k, typical, top-p, min-p, what fills a gap if that is wanted, temperature, draw.
//! At temperature 0 the most likely token after the penalties is taken, and the stages between are skipped, unless a gap is filled.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::select::{Candidate, argmax, by_likelihood, select_top};
use super::{Infill, SamplingError, SamplingParams, stages};
use crate::TokenId;
use crate::kernels::scan;

/// How many candidates top-p tries first if top-k has not limited them; most distributions need fewer.
const FIRST_CANDIDATES: usize = 128;

/// Chooses the tokens of one sequence.
pub struct Sampler {
    params: SamplingParams,
    infill: Option<Infill>,
    random: oorandom::Rand64,
    /// The last `repeat_last_n` tokens, oldest first; empty if no penalty is on.
    window: VecDeque<TokenId>,
    /// How often each token occurs in the window.
    counts: HashMap<TokenId, u32>,
    /// Kept between calls to reuse its memory.
    candidates: Vec<Candidate>,
}

/// The logits of a vocabulary, or of some of its tokens.
pub(super) trait Logits {
    /// How many there are.
    fn count(&self) -> usize;

    /// A token's.
    fn of(&mut self, token: TokenId) -> Option<&mut f32>;
}

impl Logits for [f32] {
    fn count(&self) -> usize {
        self.len()
    }

    fn of(&mut self, token: TokenId) -> Option<&mut f32> {
        self.get_mut(token as usize)
    }
}

impl Logits for BTreeMap<TokenId, f32> {
    fn count(&self) -> usize {
        self.len()
    }

    fn of(&mut self, token: TokenId) -> Option<&mut f32> {
        self.get_mut(&token)
    }
}

impl Sampler {
    /// A sampler for one sequence. `params` must be valid (`SamplingParams::validate`); `seed` determines every draw, and
    /// `params.seed` is ignored (`SamplingParams::seed_or_random` gives the one to pass).
    pub fn new(params: &SamplingParams, seed: u64) -> Self {
        Self {
            params: params.clone(),
            infill: None,
            random: oorandom::Rand64::new(u128::from(seed)),
            window: VecDeque::new(),
            counts: HashMap::new(),
            candidates: Vec::new(),
        }
    }

    /// Samples as it suits text in a gap, behind min-p.
    pub fn with_infill(self, infill: Option<Infill>) -> Self {
        Self { infill, ..self }
    }

    /// Adds a token of the sequence to the penalty window: each of the prompt's, then each chosen one.
    pub fn accept(&mut self, token: TokenId) {
        if !self.has_penalties() {
            return;
        }
        if self.window.len() >= self.params.repeat_last_n
            && let Some(oldest) = self.window.pop_front()
            && let Some(count) = self.counts.get_mut(&oldest)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&oldest);
            }
        }
        self.window.push_back(token);
        *self.counts.entry(token).or_insert(0) += 1;
    }

    /// Samples the next token from the logits of the whole vocabulary. Bias and penalties are written into `logits`. Does not
    /// accept the token.
    pub fn sample(&mut self, logits: &mut [f32]) -> Result<TokenId, SamplingError> {
        self.change(logits)?;
        if let Some(token) = scan::first_not_below(logits, f32::INFINITY) {
            return Err(SamplingError::NotFinite { token: token as TokenId });
        }
        if self.takes_likeliest() {
            return argmax(logits).ok_or(SamplingError::NothingLeft);
        }
        let p = &self.params;
        if p.top_k == 0 && p.typical_p >= 1.0 && p.top_p >= 1.0 && self.infill.is_none() {
            return self.draw_from_all(logits);
        }
        self.narrow(logits)?;
        let mut candidates = std::mem::take(&mut self.candidates);
        let possible = |token| logits.get(token as usize).is_some_and(|logit| *logit > f32::NEG_INFINITY);
        self.fill_gap(&mut candidates, possible);
        let token = self.draw_from(&candidates);
        self.candidates = candidates;
        Ok(token)
    }

    /// Whether the token is the most likely one of all.
    pub(super) fn takes_likeliest(&self) -> bool {
        self.params.temperature == 0.0 && self.infill.is_none()
    }

    /// Runs the stage for text in a gap, if it is wanted, on candidates as [`Self::draw_from`] takes them. `possible` says whether
    /// a token may come next.
    pub(super) fn fill_gap(&self, candidates: &mut Vec<Candidate>, possible: impl Fn(TokenId) -> bool) {
        if let Some(infill) = &self.infill {
            infill.reduce(candidates, infill.end(possible));
        }
    }

    /// Draws from what is left, most likely first; at temperature 0, takes the first.
    pub(super) fn draw_from(&mut self, candidates: &[Candidate]) -> TokenId {
        if self.params.temperature == 0.0 {
            return candidates[0].token;
        }
        let random = self.random.rand_float();
        let index = stages::draw(candidates, candidates[0].logit, self.params.temperature, random);
        candidates[index].token
    }

    /// What the stages left to draw from, as after [`Self::sample`]: the log-probability of `token`, which was drawn, and the `count`
    /// most likely tokens with theirs. There are fewer where fewer were possible.
    pub fn left(&mut self, token: TokenId, count: usize) -> (f32, Vec<(TokenId, f32)>) {
        if self.params.temperature == 0.0 {
            return (0.0, vec![(token, 0.0); count.min(1)]);
        }
        self.candidates.sort_unstable_by(by_likelihood);
        let Some(largest) = self.candidates.first().map(|candidate| candidate.logit) else {
            return (f32::NEG_INFINITY, Vec::new());
        };
        let exponent = |candidate: &Candidate| f64::from((candidate.logit - largest) / self.params.temperature);
        let total = self.candidates.iter().map(|candidate| exponent(candidate).exp()).sum::<f64>().ln();
        let logprob = |candidate: &Candidate| (exponent(candidate) - total) as f32;
        let drawn = self.candidates.iter().find(|candidate| candidate.token == token);
        let possible = self.candidates.iter().filter(|candidate| exponent(candidate).exp() > 0.0);
        let top = possible.take(count).map(|candidate| (candidate.token, logprob(candidate))).collect();
        (drawn.map_or(f32::NEG_INFINITY, logprob), top)
    }

    /// The settings.
    pub(super) fn params(&self) -> &SamplingParams {
        &self.params
    }

    /// The tokens in the penalty window.
    pub(super) fn counted(&self) -> impl Iterator<Item = TokenId> {
        self.counts.keys().copied()
    }

    /// Applies biases, then penalties.
    pub(super) fn change(&self, logits: &mut (impl Logits + ?Sized)) -> Result<(), SamplingError> {
        self.apply_bias(logits)?;
        self.apply_penalties(logits);
        Ok(())
    }

    fn has_penalties(&self) -> bool {
        let p = &self.params;
        p.repeat_last_n > 0 && (p.repeat_penalty != 1.0 || p.presence_penalty != 0.0 || p.frequency_penalty != 0.0)
    }

    fn apply_bias(&self, logits: &mut (impl Logits + ?Sized)) -> Result<(), SamplingError> {
        let vocabulary = logits.count();
        for &(token, bias) in &self.params.logit_bias {
            let logit = logits.of(token).ok_or(SamplingError::BiasOutOfVocabulary { token, vocabulary })?;
            *logit += bias;
        }
        Ok(())
    }

    fn apply_penalties(&self, logits: &mut (impl Logits + ?Sized)) {
        let p = &self.params;
        for (&token, &count) in &self.counts {
            // A prompt may contain ids without an output row; they cannot be chosen, so there is nothing to do.
            let Some(logit) = logits.of(token) else {
                continue;
            };
            if *logit <= 0.0 {
                *logit *= p.repeat_penalty;
            } else {
                *logit /= p.repeat_penalty;
            }
            *logit -= count as f32 * p.frequency_penalty + p.presence_penalty;
        }
    }

    /// Runs top-k, typical, top-p and min-p; leaves at least one candidate, sorted.
    fn narrow(&mut self, logits: &[f32]) -> Result<(), SamplingError> {
        let p = &self.params;
        let limit = if p.top_k == 0 { logits.len() } else { p.top_k.min(logits.len()) };
        let candidates = &mut self.candidates;
        if p.typical_p < 1.0 || limit < logits.len() {
            if limit < logits.len() {
                select_top(logits, limit, candidates);
            } else {
                possible(logits, f32::NEG_INFINITY, candidates);
            }
            if candidates.is_empty() {
                return Err(SamplingError::NothingLeft);
            }
            stages::after_top_k(candidates, p);
        } else {
            // Top-p alone over the vocabulary: start with a few candidates, and take more only if the distribution is flat.
            let largest = scan::largest(logits);
            if largest == f32::NEG_INFINITY {
                return Err(SamplingError::NothingLeft);
            }
            let total: f64 = logits.iter().map(|l| f64::from((l - largest).exp())).sum();
            let mut n = FIRST_CANDIDATES;
            loop {
                select_top(logits, n, candidates);
                if stages::top_p(candidates, p.top_p, total) || candidates.len() < n {
                    break;
                }
                n = n.saturating_mul(8);
            }
            stages::min_p(candidates, p.min_p);
        }
        Ok(())
    }

    /// No stage needs an order: every token above the min-p threshold takes part, unsorted.
    fn draw_from_all(&mut self, logits: &[f32]) -> Result<TokenId, SamplingError> {
        let largest = scan::largest(logits);
        if largest == f32::NEG_INFINITY {
            return Err(SamplingError::NothingLeft);
        }
        // ln(0) is negative infinity: all but banned tokens take part.
        let least = largest + self.params.min_p.ln();
        possible(logits, least, &mut self.candidates);
        let random = self.random.rand_float();
        let index = stages::draw(&self.candidates, largest, self.params.temperature, random);
        Ok(self.candidates[index].token)
    }
}

/// Collects every token with non-zero probability and a logit of at least `least` into `out`, by token id.
fn possible(logits: &[f32], least: f32, out: &mut Vec<Candidate>) {
    out.clear();
    let all = logits.iter().enumerate().filter(|(_, l)| **l >= least && **l > f32::NEG_INFINITY);
    out.extend(all.map(|(token, &logit)| Candidate { logit, token: token as TokenId }));
}

#[cfg(test)]
mod tests;
