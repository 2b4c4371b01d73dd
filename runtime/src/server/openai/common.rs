//! Parameters shared by both endpoints: sampling, lengths, stop strings, streaming.
//!
//! OpenAI's parameters, plus those of llama.cpp's server, such as `top_k` and `min_p`: the whole parameter table that the
//! command line, packed settings and the page also use. Missing ones take the model's defaults.

use satchel_container::parameters::PARAMETERS;
use serde_json::{Map, Value};

use super::error::{ApiError, shown};
use super::fields::{Fields, wrong_type};
use super::format::{Asked, take_format};
use crate::TokenId;
use crate::sampling::SamplingParams;

/// Most answers per request: prompts times `n`.
pub const MAX_CHOICES: usize = 8;
const MAX_STOP_STRINGS: usize = 16;
const MAX_STOP_BYTES: usize = 1024;

/// Defaults for a request's parameters, and the vocabulary size that token ids are checked against.
#[derive(Clone, Debug)]
pub struct Baseline {
    /// The model's default sampling.
    pub sampling: SamplingParams,
    /// The model's default answer length; `None`: until the context is full.
    pub max_tokens: Option<usize>,
    /// Number of tokens in the vocabulary.
    pub vocabulary: usize,
}

/// The shared part of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Common {
    /// The requested model; with adapters loaded, there are several names.
    pub model: Option<String>,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Generated tokens at most; `None`: until the context is full.
    pub max_tokens: Option<usize>,
    /// Strings that end an answer and are not part of it.
    pub stop: Vec<String>,
    /// Answers per prompt, each sampled independently.
    pub n: usize,
    /// Stream the answer as it is generated.
    pub stream: bool,
    /// `stream_options.include_usage`.
    pub include_usage: bool,
    /// Continue past end tokens.
    pub ignore_end: bool,
    /// What the answer must follow.
    pub format: Option<Asked>,
}

impl Common {
    /// Takes the shared parameters.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub fn take(fields: &mut Fields, baseline: &Baseline) -> Result<Self, ApiError> {
        let model = fields.take_string("model")?;
        fields.ignore(&HARMLESS);
        let (sampling, max_tokens) = take_sampling(fields, baseline)?;
        let stream = fields.take_bool("stream")?.unwrap_or(false);
        Ok(Self {
            model,
            sampling,
            max_tokens: max_tokens.or(baseline.max_tokens),
            stop: take_stop(fields)?,
            n: fields.take_integer("n", 1..=MAX_CHOICES as i64)?.unwrap_or(1) as usize,
            stream,
            include_usage: take_stream_options(fields, stream)?,
            ignore_end: fields.take_bool("ignore_eos")?.unwrap_or(false),
            format: take_format(fields)?,
        })
    }
}

/// Ignored: parameters about accounts, caching or routing that never change an answer here.
const HARMLESS: [&str; 14] = [
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prediction",
    "cache_prompt",
    "id_slot",
    "return_progress",
    "timings_per_token",
    "slot_id",
    "request_id",
];

/// The request's sampling parameters, and its `max_tokens`.
fn take_sampling(fields: &mut Fields, baseline: &Baseline) -> Result<(SamplingParams, Option<usize>), ApiError> {
    let mut sampling = baseline.sampling.clone();
    let mut max_tokens = None;
    for parameter in &PARAMETERS {
        if let Some(value) = fields.take_parameter(parameter)?
            && !sampling.set(parameter, value)
        {
            max_tokens = Some(value.as_count());
        }
    }
    // Clients written for llama.cpp, where it is an array, send an empty array for none.
    if fields.peek("logit_bias").is_some_and(|bias| bias.as_array().is_some_and(Vec::is_empty)) {
        fields.ignore(&["logit_bias"]);
    }
    if let Some(bias) = fields.take_object("logit_bias")? {
        sampling.logit_bias = logit_bias(bias, baseline.vocabulary)?;
    }
    Ok((sampling, max_tokens))
}

/// `{"token id": bias}`; -100 bans a token, as OpenAI documents it.
fn logit_bias(map: Map<String, Value>, vocabulary: usize) -> Result<Vec<(TokenId, f32)>, ApiError> {
    let fail = |message: String| ApiError::parameter("logit_bias", message);
    let banned = map.values().filter(|bias| bias.as_f64() == Some(-100.0)).count();
    let bias: Vec<_> = map
        .into_iter()
        .map(|(key, value)| {
            let shown = shown(&key);
            let id = token_id(&key, vocabulary).ok_or_else(|| {
                fail(format!("`logit_bias` has the key `{shown}`, which is not a token id below {vocabulary}"))
            })?;
            match value.as_f64() {
                Some(-100.0) => Ok((id, f32::NEG_INFINITY)),
                Some(bias) if (-100.0..=100.0).contains(&bias) => Ok((id, bias as f32)),
                _ => Err(fail(format!("`logit_bias` of token {id} must be a number between -100 and 100"))),
            }
        })
        .collect::<Result<_, _>>()?;
    if banned >= vocabulary {
        return Err(fail(format!("`logit_bias` bans all {vocabulary} tokens, which leaves none to answer with")));
    }
    Ok(bias)
}

/// Parses a key as a token id, canonical form only: `05` would be a second key for token 5.
fn token_id(key: &str, vocabulary: usize) -> Option<TokenId> {
    let canonical = key == "0" || !key.starts_with(['0', '+']);
    key.parse().ok().filter(|&id: &TokenId| canonical && (id as usize) < vocabulary)
}

fn take_stop(fields: &mut Fields) -> Result<Vec<String>, ApiError> {
    let strings = match fields.take("stop") {
        None => return Ok(Vec::new()),
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(items)) => items
            .into_iter()
            .map(|item| match item {
                Value::String(text) => Ok(text),
                other => Err(wrong_type("stop", "a string or an array of strings", &other)),
            })
            .collect::<Result<_, _>>()?,
        Some(other) => return Err(wrong_type("stop", "a string or an array of strings", &other)),
    };
    if strings.len() > MAX_STOP_STRINGS {
        let message = format!("`stop` takes {MAX_STOP_STRINGS} strings at most, there are {}", strings.len());
        return Err(ApiError::parameter("stop", message));
    }
    if strings.iter().any(|text| text.is_empty() || text.len() > MAX_STOP_BYTES) {
        let message = format!("each string of `stop` must have 1 to {MAX_STOP_BYTES} bytes");
        return Err(ApiError::parameter("stop", message));
    }
    Ok(strings)
}

fn take_stream_options(fields: &mut Fields, stream: bool) -> Result<bool, ApiError> {
    let Some(options) = fields.take_object("stream_options")? else { return Ok(false) };
    if !stream {
        return Err(ApiError::parameter("stream_options", "`stream_options` is only allowed with `stream: true`"));
    }
    let mut include_usage = false;
    for (name, value) in options {
        match (name.as_str(), value) {
            (_, Value::Null) => {}
            ("include_usage", Value::Bool(flag)) => include_usage = flag,
            ("include_usage", other) => {
                return Err(wrong_type("stream_options.include_usage", "true or false", &other));
            }
            ("include_obfuscation", _) => {} // padding against traffic analysis of TLS; there is no TLS here
            (other, _) => {
                let name = format!("stream_options.{}", shown(other));
                return Err(ApiError::parameter(name.clone(), format!("unknown parameter `{name}`; leave it out")));
            }
        }
    }
    Ok(include_usage)
}
