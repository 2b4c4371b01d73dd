//! Logits to a token: a request's sampling settings, and the sampler that applies them.
//!
//! Knows token ids and numbers only. A `Sampler` belongs to one sequence and holds its random state and recent tokens, so that
//! a sequence gives the same tokens whatever runs beside it.
//!
//! The one idea to know: no stage sorts the vocabulary. `select` finds the few tokens that can still win, and later stages work
//! on those.

mod constraint;
mod error;
mod infill;
mod logprobs;
mod picked;
mod sampler;
mod select;
mod stage;
mod stages;

pub use constraint::{Constraint, TokenMask};
pub use error::SamplingError;
pub use infill::{Infill, TokenTexts};
pub use logprobs::{log_softmax_at, top_logprobs};
pub use sampler::Sampler;
pub use stage::Stage;

use std::hash::{BuildHasher, Hasher};

use satchel_container::parameters::{PARAMETERS, Parameter, Value};

use crate::TokenId;

/// How the next token is sampled. `Default` is plain sampling at temperature 1 without truncation.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// 0: greedy, always the most likely token. Otherwise logits are divided by it.
    pub temperature: f32,
    /// Keep the k most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the smallest set of tokens whose probabilities sum to this; 1 keeps all.
    pub top_p: f32,
    /// Drop tokens less likely than this fraction of the most likely one; 0 drops none.
    pub min_p: f32,
    /// Locally typical sampling: keep tokens near the entropy up to this mass; 1 keeps all.
    pub typical_p: f32,
    /// Divide (positive) or multiply (negative) logits of tokens in the penalty window by this; 1 is off.
    pub repeat_penalty: f32,
    /// Length of the penalty window in tokens; 0 none, `usize::MAX` all.
    pub repeat_last_n: usize,
    /// Subtracted from the logit of every token in the window.
    pub presence_penalty: f32,
    /// Subtracted once per occurrence in the window.
    pub frequency_penalty: f32,
    /// Random seed; `None` draws one, which the result reports.
    pub seed: Option<u64>,
    /// Added to these tokens' logits, before everything else; negative infinity bans a token.
    pub logit_bias: Vec<(TokenId, f32)>,
    /// Sample as it suits text in a gap (`Infill`).
    pub infill: bool,
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
            infill: false,
        }
    }
}

impl SamplingParams {
    /// Defaults for answers if neither the request nor the packed file sets anything: the parameter table's, which are
    /// llama.cpp's and keep small models from rambling.
    pub fn for_answers() -> Self {
        let mut params = Self::default();
        for parameter in &PARAMETERS {
            if let Some(default) = parameter.default {
                params.set(parameter, Value::Real(default));
            }
        }
        params
    }

    /// Sets the field of a parameter in the table; false if there is none (`max_tokens`).
    pub fn set(&mut self, parameter: &Parameter, value: Value) -> bool {
        match parameter.name {
            "temperature" => self.temperature = value.as_f32(),
            "top_k" => self.top_k = value.as_count(),
            "top_p" => self.top_p = value.as_f32(),
            "min_p" => self.min_p = value.as_f32(),
            "typical_p" => self.typical_p = value.as_f32(),
            "repeat_penalty" => self.repeat_penalty = value.as_f32(),
            "repeat_last_n" => self.repeat_last_n = value.as_count(),
            "presence_penalty" => self.presence_penalty = value.as_f32(),
            "frequency_penalty" => self.frequency_penalty = value.as_f32(),
            "seed" => self.seed = value.as_seed(),
            _ => return false,
        }
        true
    }

    /// The value of a parameter in the table, `None` if it has none.
    pub fn get(&self, parameter: &Parameter) -> Option<Value> {
        // `usize::MAX` means "all": -1 for the penalty window, and as good as any large number for `top_k`.
        let whole = |value: usize, all: i64| Value::Whole(i64::try_from(value).unwrap_or(all).into());
        Some(match parameter.name {
            "temperature" => self.temperature.into(),
            "top_k" => whole(self.top_k, i64::MAX),
            "top_p" => self.top_p.into(),
            "min_p" => self.min_p.into(),
            "typical_p" => self.typical_p.into(),
            "repeat_penalty" => self.repeat_penalty.into(),
            "repeat_last_n" => whole(self.repeat_last_n, -1),
            "presence_penalty" => self.presence_penalty.into(),
            "frequency_penalty" => self.frequency_penalty.into(),
            "seed" => Value::Whole(self.seed?.into()),
            _ => return None,
        })
    }

    /// Checks every value against the table's range. The error names the parameter, the value and the range.
    pub fn validate(&self) -> Result<(), String> {
        for parameter in &PARAMETERS {
            if let Some(value) = self.get(parameter) {
                parameter.check(value).map_err(|line| format!("{} {line}", parameter.name))?;
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validate_names_parameter_value_and_range() {
        assert_eq!(SamplingParams::default().validate(), Ok(()));
        let bad = [
            (
                SamplingParams { temperature: -1.0, ..Default::default() },
                "temperature must be a number between 0 and 100 (it is -1)",
            ),
            (
                SamplingParams { temperature: f32::NAN, ..Default::default() },
                "temperature must be a number between 0 and 100 (it is NaN)",
            ),
            (SamplingParams { top_p: 1.5, ..Default::default() }, "top_p must be a number between 0 and 1 (it is 1.5)"),
            (
                SamplingParams { min_p: -0.1, ..Default::default() },
                "min_p must be a number between 0 and 1 (it is -0.1)",
            ),
            (
                SamplingParams { typical_p: 2.0, ..Default::default() },
                "typical_p must be a number between 0 and 1 (it is 2)",
            ),
            (
                SamplingParams { repeat_penalty: 0.0, ..Default::default() },
                "repeat_penalty must be a number between 0.01 and 100 (it is 0)",
            ),
            (
                SamplingParams { presence_penalty: 3.0, ..Default::default() },
                "presence_penalty must be a number between -2 and 2 (it is 3)",
            ),
            (
                SamplingParams { frequency_penalty: f32::INFINITY, ..Default::default() },
                "frequency_penalty must be a number between -2 and 2 (it is inf)",
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
    fn every_parameter_of_the_table_but_max_tokens_has_a_field() {
        for parameter in PARAMETERS.iter().filter(|parameter| parameter.name != "max_tokens") {
            let mut params = SamplingParams::default();
            assert!(params.set(parameter, Value::Whole(1)), "{}", parameter.name);
            assert_eq!(params.get(parameter).map(Value::as_f32), Some(1.0), "{}", parameter.name);
            assert_eq!(params.validate(), Ok(()));
        }
        let answers = SamplingParams::for_answers();
        assert_eq!((answers.temperature, answers.top_k, answers.repeat_last_n, answers.seed), (0.8, 40, 64, None));
    }

    #[test]
    fn a_given_seed_is_kept_and_drawn_seeds_differ() {
        assert_eq!(SamplingParams { seed: Some(0), ..Default::default() }.seed_or_random(), 0);
        let params = SamplingParams::default();
        assert_ne!(params.seed_or_random(), params.seed_or_random());
    }
}
