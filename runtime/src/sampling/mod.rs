//! Logits to a token: what a request may set, and the sampler that applies it.
//!
//! Knows token ids and numbers only. One `Sampler` belongs to one sequence and holds its random state and the tokens
//! it has seen, so that a sequence gives the same tokens whoever runs beside it.
//!
//! The one idea to know: no stage sorts the vocabulary. `select` finds the few tokens that can still win, and the
//! stages after it work on those.

mod constraint;
mod error;
mod logprobs;
mod sampler;
mod select;
mod stages;

pub use constraint::{Constraint, TokenMask};
pub use error::SamplingError;
pub use logprobs::{log_softmax_at, top_logprobs};
pub use sampler::Sampler;

use std::hash::{BuildHasher, Hasher};

use crate::TokenId;

/// How the next token is chosen. `Default` is plain sampling at temperature 1 with nothing cut off.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// 0: always the most likely token. Otherwise logits are divided by it.
    pub temperature: f32,
    /// Keep this many most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the smallest set of tokens whose probabilities sum to this; 1 keeps all.
    pub top_p: f32,
    /// Drop tokens less likely than this share of the most likely one; 0 drops none.
    pub min_p: f32,
    /// Locally typical sampling: keep tokens near the entropy up to this mass; 1 keeps all.
    pub typical_p: f32,
    /// Divide (positive) or multiply (negative) logits of tokens in the penalty window by this; 1 is off.
    pub repeat_penalty: f32,
    /// How many of the last tokens the penalties look at; 0 none, `usize::MAX` all.
    pub repeat_last_n: usize,
    /// Subtracted from the logit of every token in the window.
    pub presence_penalty: f32,
    /// Subtracted once for each occurrence in the window.
    pub frequency_penalty: f32,
    /// Seed of the random state; `None` draws one, which the result reports.
    pub seed: Option<u64>,
    /// Added to the logits of these tokens, before everything else; negative infinity bans a token.
    pub logit_bias: Vec<(TokenId, f32)>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: None,
            logit_bias: Vec::new(),
        }
    }
}

impl SamplingParams {
    /// What answers are drawn with when neither the request nor the packed file says: llama.cpp's defaults, which keep
    /// small models from rambling.
    pub fn for_answers() -> Self {
        Self { temperature: 0.8, top_k: 40, top_p: 0.95, min_p: 0.05, ..Self::default() }
    }

    /// Checks every value against its range. The error names the parameter, the value and the range.
    pub fn validate(&self) -> Result<(), String> {
        check("temperature", self.temperature, self.temperature >= 0.0 && self.temperature.is_finite(), "0 or more")?;
        check("top_p", self.top_p, (0.0..=1.0).contains(&self.top_p), "between 0 and 1")?;
        check("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), "between 0 and 1")?;
        check("typical_p", self.typical_p, (0.0..=1.0).contains(&self.typical_p), "between 0 and 1")?;
        let repeat = self.repeat_penalty;
        check("repeat_penalty", repeat, repeat > 0.0 && repeat.is_finite(), "greater than 0 (1 is off)")?;
        check("presence_penalty", self.presence_penalty, (-2.0..=2.0).contains(&self.presence_penalty), PENALTY)?;
        check("frequency_penalty", self.frequency_penalty, (-2.0..=2.0).contains(&self.frequency_penalty), PENALTY)?;
        for &(token, bias) in &self.logit_bias {
            if bias.is_nan() || bias == f32::INFINITY {
                return Err(format!("logit_bias of token {token} must be a finite number (it is {bias})"));
            }
        }
        Ok(())
    }

    /// The seed to use: the given one, or one drawn from the operating system's randomness.
    pub fn seed_or_random(&self) -> u64 {
        // `RandomState` is keyed from the system's random source; a counter inside it makes each call differ.
        self.seed.unwrap_or_else(|| std::hash::RandomState::new().build_hasher().finish())
    }
}

const PENALTY: &str = "between -2 and 2";

fn check(name: &str, value: f32, good: bool, range: &str) -> Result<(), String> {
    if good { Ok(()) } else { Err(format!("{name} must be {range} (it is {value})")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validate_names_parameter_value_and_range() {
        assert_eq!(SamplingParams::default().validate(), Ok(()));
        let bad = [
            (SamplingParams { temperature: -1.0, ..Default::default() }, "temperature must be 0 or more (it is -1)"),
            (
                SamplingParams { temperature: f32::NAN, ..Default::default() },
                "temperature must be 0 or more (it is NaN)",
            ),
            (SamplingParams { top_p: 1.5, ..Default::default() }, "top_p must be between 0 and 1 (it is 1.5)"),
            (SamplingParams { min_p: -0.1, ..Default::default() }, "min_p must be between 0 and 1 (it is -0.1)"),
            (SamplingParams { typical_p: 2.0, ..Default::default() }, "typical_p must be between 0 and 1 (it is 2)"),
            (
                SamplingParams { repeat_penalty: 0.0, ..Default::default() },
                "repeat_penalty must be greater than 0 (1 is off) (it is 0)",
            ),
            (
                SamplingParams { presence_penalty: 3.0, ..Default::default() },
                "presence_penalty must be between -2 and 2 (it is 3)",
            ),
            (
                SamplingParams { frequency_penalty: f32::INFINITY, ..Default::default() },
                "frequency_penalty must be between -2 and 2 (it is inf)",
            ),
            (
                SamplingParams { logit_bias: vec![(7, f32::NAN)], ..Default::default() },
                "logit_bias of token 7 must be a finite number (it is NaN)",
            ),
        ];
        for (params, message) in bad {
            assert_eq!(params.validate(), Err(message.to_string()));
        }
        let banned = SamplingParams { logit_bias: vec![(7, f32::NEG_INFINITY)], ..Default::default() };
        assert_eq!(banned.validate(), Ok(()));
    }

    #[test]
    fn a_given_seed_is_kept_and_drawn_seeds_differ() {
        assert_eq!(SamplingParams { seed: Some(0), ..Default::default() }.seed_or_random(), 0);
        let params = SamplingParams::default();
        assert_ne!(params.seed_or_random(), params.seed_or_random());
    }
}
