//! Logits to a token: what a request may set, and the sampler that applies it.
//!
//! Knows token ids and numbers only. One `Sampler` belongs to one sequence and holds its random state and the tokens
//! it has seen, so that a sequence gives the same tokens whoever runs beside it.

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
    /// Added to the logits of these tokens, before everything else.
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
