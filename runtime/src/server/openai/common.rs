//! What both endpoints share: sampling, lengths, stop strings, streaming, and the parameters that are refused.
//!
//! OpenAI's parameters, and those that local users know from llama.cpp's server: `top_k`, `min_p`, `typical_p`,
//! `repeat_penalty`, `repeat_last_n`, `ignore_eos`. What a request leaves out comes from the model's defaults.

use serde_json::{Map, Value};

use super::error::{ApiError, shown};
use super::fields::{Fields, integer, wrong_type};
use crate::TokenId;
use crate::sampling::SamplingParams;

/// Answers that one request may ask for: prompts times `n`.
pub const MAX_CHOICES: usize = 8;
const MAX_STOP_STRINGS: usize = 16;
const MAX_STOP_BYTES: usize = 1024;

/// What a request's parameters start from, and are checked against.
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
    /// The model that is asked for: of several names where adapters are loaded.
    pub model: Option<String>,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Generated tokens at most; `None`: until the context is full.
    pub max_tokens: Option<usize>,
    /// Strings that end an answer and are not part of it.
    pub stop: Vec<String>,
    /// Answers to each prompt; each draws its own random numbers.
    pub n: usize,
    /// Send the answer as it grows.
    pub stream: bool,
    /// `stream_options.include_usage`.
    pub include_usage: bool,
    /// Generate on past end tokens.
    pub ignore_end: bool,
}

impl Common {
    /// Takes the shared parameters.
    ///
    /// # Errors
    /// 400 that names the parameter.
    pub fn take(fields: &mut Fields, baseline: &Baseline) -> Result<Self, ApiError> {
        let model = fields.take_string("model")?;
        fields.ignore(&HARMLESS);
        let sampling = take_sampling(fields, baseline)?;
        let stream = fields.take_bool("stream")?.unwrap_or(false);
        let limit = fields.take_integer("max_tokens", 1..=i64::MAX)?;
        Ok(Self {
            model,
            sampling,
            max_tokens: limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)).or(baseline.max_tokens),
            stop: take_stop(fields)?,
            n: fields.take_integer("n", 1..=MAX_CHOICES as i64)?.unwrap_or(1) as usize,
            stream,
            include_usage: take_stream_options(fields, stream)?,
            ignore_end: fields.take_bool("ignore_eos")?.unwrap_or(false),
        })
    }
}

/// Parameters that are about accounts, caching or routing elsewhere and never change an answer here.
const HARMLESS: [&str; 12] = [
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prediction",
    "parallel_tool_calls",
    "cache_prompt",
    "id_slot",
    "return_progress",
];

/// Parameters of other servers that change the answer, and the values that change nothing.
pub(super) fn refuse_unsupported(fields: &mut Fields) -> Result<(), ApiError> {
    let empty = |value: &Value| match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Null => true,
    };
    let is = |text: &'static str| move |value: &Value| value.as_str() == Some(text);
    for name in ["tools", "functions"] {
        fields.refuse_unless(name, "describe what can be called in a message instead", empty)?;
    }
    for name in ["tool_choice", "function_call"] {
        fields
            .refuse_unless(name, "there are no tools to choose from", |value| is("none")(value) || is("auto")(value))?;
    }
    fields.refuse_unless("response_format", "answers are plain text (`{\"type\": \"text\"}`)", |value| {
        value.get("type").is_some_and(is("text"))
    })?;
    fields.refuse_unless("modalities", "answers are text", |value| {
        value.as_array().is_some_and(|items| items.iter().all(is("text")))
    })?;
    for name in ["grammar", "json_schema", "guided_json", "guided_regex", "guided_choice", "guided_grammar"] {
        fields.refuse_unless(name, "answers are not constrained by grammars", empty)?;
    }
    for name in ["audio", "web_search_options", "reasoning_effort", "verbosity", "images", "image_data"] {
        fields.refuse_unless(name, "it belongs to another kind of model", empty)?;
    }
    for name in ["mirostat", "dry_multiplier", "xtc_probability", "dynatemp_range", "adaptive_target", "samplers"] {
        fields.refuse_unless(name, "use temperature, top_k, top_p, min_p or typical_p", empty)?;
    }
    for (name, ours) in [
        ("n_predict", "max_tokens"),
        ("max_new_tokens", "max_tokens"),
        ("repetition_penalty", "repeat_penalty"),
        ("n_probs", "logprobs"),
        ("stop_token_ids", "stop"),
        ("seeds", "seed"),
    ] {
        fields.refuse_unless(name, &format!("use `{ours}`"), |_| false)?;
    }
    Ok(())
}

fn take_sampling(fields: &mut Fields, baseline: &Baseline) -> Result<SamplingParams, ApiError> {
    let mut sampling = baseline.sampling.clone();
    let mut number = |name: &str, range, target: &mut f32| {
        fields.take_number(name, range).map(|value| *target = value.unwrap_or(*target))
    };
    number("temperature", 0.0..=2.0, &mut sampling.temperature)?;
    number("top_p", 0.0..=1.0, &mut sampling.top_p)?;
    number("min_p", 0.0..=1.0, &mut sampling.min_p)?;
    number("typical_p", 0.0..=1.0, &mut sampling.typical_p)?;
    number("repeat_penalty", 0.01..=10.0, &mut sampling.repeat_penalty)?;
    number("presence_penalty", -2.0..=2.0, &mut sampling.presence_penalty)?;
    number("frequency_penalty", -2.0..=2.0, &mut sampling.frequency_penalty)?;
    if let Some(top_k) = fields.take_integer("top_k", 0..=i64::MAX)? {
        sampling.top_k = usize::try_from(top_k).unwrap_or(usize::MAX);
    }
    if let Some(last) = fields.take_integer("repeat_last_n", -1..=i64::MAX)? {
        sampling.repeat_last_n = usize::try_from(last).unwrap_or(usize::MAX); // -1: the whole context, as in llama.cpp
    }
    if let Some(value) = fields.take("seed") {
        let seed = integer(&value).ok_or_else(|| wrong_type("seed", "an integer", &value))?;
        if seed < i64::MIN.into() || seed > u64::MAX.into() {
            return Err(ApiError::parameter("seed", "`seed` must fit into 64 bits"));
        }
        sampling.seed = Some(seed as u64); // negative seeds are seeds like any other
    }
    if let Some(bias) = fields.take_object("logit_bias")? {
        sampling.logit_bias = logit_bias(bias, baseline.vocabulary)?;
    }
    sampling.validate().map_err(|message| {
        let name = message.split(' ').next().unwrap_or_default().to_string();
        ApiError::parameter(name, message)
    })?;
    Ok(sampling)
}

/// `{"token id": bias}`; -100 bans a token, as OpenAI documents it.
fn logit_bias(map: Map<String, Value>, vocabulary: usize) -> Result<Vec<(TokenId, f32)>, ApiError> {
    let fail = |message: String| ApiError::parameter("logit_bias", message);
    map.into_iter()
        .map(|(key, value)| {
            let shown = shown(&key);
            let id = key.parse::<TokenId>().ok().filter(|&id| (id as usize) < vocabulary).ok_or_else(|| {
                fail(format!("`logit_bias` has the key `{shown}`, which is not a token id below {vocabulary}"))
            })?;
            match value.as_f64() {
                Some(-100.0) => Ok((id, f32::NEG_INFINITY)),
                Some(bias) if (-100.0..=100.0).contains(&bias) => Ok((id, bias as f32)),
                _ => Err(fail(format!("`logit_bias` of token {id} must be a number between -100 and 100"))),
            }
        })
        .collect()
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
            ("include_obfuscation", _) => {} // pads chunks against eavesdroppers of an encrypted link; nothing to hide here
            (other, _) => {
                let name = format!("stream_options.{}", shown(other));
                return Err(ApiError::parameter(name.clone(), format!("unknown parameter `{name}`; leave it out")));
            }
        }
    }
    Ok(include_usage)
}
