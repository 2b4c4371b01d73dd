//! Sequences in, tokens out.
//!
//! One thread owns the model, the KV cache and the worker threads. Requests reach it through a channel; each gets a
//! channel of its own back. Every step runs one batch over all sequences that want a token or have prompt left, so
//! streams progress together. Token ids only: no text, no HTTP.

use std::sync::Arc;

use crate::TokenId;
use crate::sampling::SamplingParams;

/// What to generate.
#[derive(Clone, Debug)]
pub struct Request {
    /// The prompt; at least one token.
    pub prompt: Vec<TokenId>,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Stop after this many generated tokens; `None`: until the context is full.
    pub max_tokens: Option<usize>,
    /// Tokens that end the generation; they are not reported as `Event::Token`.
    pub end_tokens: Arc<[TokenId]>,
    /// Report the log-probability of each token and of this many most likely alternatives; `None`: no log-probabilities.
    pub logprobs: Option<usize>,
}

/// What a generation reports, in order: `Prompt*`, `Token*`, `Finished`.
#[derive(Clone, Debug)]
pub enum Event {
    /// Prompt tokens processed so far (prefix-cached ones counted).
    Prompt {
        /// Tokens in the KV cache.
        done: usize,
        /// Tokens in the prompt.
        total: usize,
    },
    /// A generated token.
    Token(GeneratedToken),
    /// The last event.
    Finished(Finished),
}

/// One generated token.
#[derive(Clone, Debug)]
pub struct GeneratedToken {
    /// Its id.
    pub id: TokenId,
    /// Natural logarithm of its probability under the model (before temperature and cut-offs); `None` unless asked for.
    pub logprob: Option<f32>,
    /// The most likely tokens with theirs, best first; empty unless asked for.
    pub top: Vec<(TokenId, f32)>,
}

/// Why a generation ended.
#[derive(Clone, Debug, PartialEq)]
pub enum FinishReason {
    /// The model gave an end token.
    EndToken(TokenId),
    /// `max_tokens` reached.
    MaxTokens,
    /// No room left in the context.
    ContextFull,
    /// The receiver went away, or `Generation::cancel` was called.
    Cancelled,
    /// The engine could not go on; one line for the person.
    Failed(String),
}

/// The end of a generation, with its figures.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Why.
    pub reason: FinishReason,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of these, tokens whose keys and values were still in the cache.
    pub cached_tokens: usize,
    /// Generated tokens, the end token not counted.
    pub generated_tokens: usize,
    /// Seconds from the request's start in the engine to its first token.
    pub prefill_seconds: f64,
    /// Seconds from the first token to the end.
    pub decode_seconds: f64,
    /// The seed that was used.
    pub seed: u64,
}
