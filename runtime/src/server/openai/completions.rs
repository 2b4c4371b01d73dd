//! `POST /v1/completions`: the request body, checked.

use serde_json::Value;

use super::common::{Baseline, Common, MAX_CHOICES};
use super::error::ApiError;
use super::fields::{Fields, integer, wrong_type};
use super::foreign::refuse_foreign;
use crate::TokenId;

/// Largest `logprobs`.
const MAX_LOGPROBS: i64 = 5;

/// A prompt, as text or tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// Text, to tokenize with the model's begin-of-sequence token.
    Text(String),
    /// Tokens, used as they are.
    Tokens(Vec<TokenId>),
}

/// A checked completion request.
#[derive(Clone, Debug)]
pub struct CompletionRequest {
    /// One or more prompts; the answers to prompt `i` have the indices `i * n ..` (`n` answers each).
    pub prompts: Vec<Prompt>,
    /// What follows the gap that the answer fills; the prompts are what precedes it.
    pub suffix: Option<String>,
    /// Alternatives to report with each token; `None`: no log-probabilities.
    pub logprobs: Option<usize>,
    /// Parameters shared with chats.
    pub common: Common,
}

impl CompletionRequest {
    /// Parses and checks a body.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub fn parse(body: &[u8], baseline: &Baseline) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let prompts = match fields.take("prompt") {
            Some(value) => prompts(value, baseline.vocabulary)?,
            None => {
                return Err(ApiError::parameter(
                    "prompt",
                    "`prompt` is missing; it must be a string or an array of tokens",
                ));
            }
        };
        let common = Common::take(&mut fields, baseline)?;
        let logprobs = fields.take_integer("logprobs", 0..=MAX_LOGPROBS)?.map(|top| top as usize);
        fields
            .refuse_unless("echo", "put the prompt before the answer yourself", |value| value == &Value::Bool(false))?;
        let suffix = fields.take_string("suffix")?.filter(|suffix| !suffix.is_empty());
        if suffix.is_some() && prompts.iter().any(|prompt| matches!(prompt, Prompt::Tokens(_))) {
            return Err(ApiError::parameter("suffix", "`suffix` needs a `prompt` that is text, not tokens"));
        }
        let n = common.n;
        fields.refuse_unless("best_of", "ask for `n` answers and choose", |value| integer(value) == Some(n as i128))?;
        refuse_foreign(&mut fields)?;
        fields.finish()?;
        if prompts.len() * common.n > MAX_CHOICES {
            let message = format!(
                "{} prompts times n = {} are more than {MAX_CHOICES} answers, the most one request may ask for",
                prompts.len(),
                common.n
            );
            return Err(ApiError::parameter(if common.n > 1 { "n" } else { "prompt" }, message));
        }
        Ok(Self { prompts, suffix, logprobs, common })
    }
}

/// A string, an array of tokens, or an array of either.
fn prompts(value: Value, vocabulary: usize) -> Result<Vec<Prompt>, ApiError> {
    let items = match value {
        Value::String(text) => return Ok(vec![Prompt::Text(text)]),
        Value::Array(items) if items.is_empty() => {
            return Err(ApiError::parameter("prompt", "`prompt` is an empty array"));
        }
        Value::Array(items) => items,
        other => return Err(wrong_type("prompt", "a string, an array of tokens, or an array of these", &other)),
    };
    if items[0].is_number() {
        return Ok(vec![Prompt::Tokens(token_ids("prompt", &items, vocabulary)?)]);
    }
    items
        .into_iter()
        .enumerate()
        .map(|(index, item)| match item {
            Value::String(text) => Ok(Prompt::Text(text)),
            Value::Array(ids) => token_ids(&format!("prompt[{index}]"), &ids, vocabulary).map(Prompt::Tokens),
            other => Err(wrong_type(&format!("prompt[{index}]"), "a string or an array of tokens", &other)),
        })
        .collect()
}

/// Reads token ids below `vocabulary` from the JSON array at path `at`.
///
/// # Errors
/// 400 naming the first invalid one.
pub fn token_ids(at: &str, ids: &[Value], vocabulary: usize) -> Result<Vec<TokenId>, ApiError> {
    ids.iter()
        .enumerate()
        .map(|(index, id)| {
            let valid = integer(id).and_then(|id| TokenId::try_from(id).ok()).filter(|&id| (id as usize) < vocabulary);
            valid.ok_or_else(|| {
                let here = format!("{at}[{index}]");
                ApiError::parameter(
                    here.clone(),
                    format!("`{here}` must be a token id from 0 to {}", vocabulary.saturating_sub(1)),
                )
            })
        })
        .collect()
}
