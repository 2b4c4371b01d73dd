//! Parameters shared by both endpoints: sampling, lengths, stop strings, streaming.
//!
//! OpenAI's parameters, plus those of llama.cpp's server, such as `top_k` and `min_p`: the whole parameter table that the
//! command line, packed settings and the page also use. Missing ones take the model's defaults.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use satchel_container::parameters::{PARAMETERS, Parameter};
use serde_json::Value;

use super::error::{ApiError, shown};
use super::fields::{Fields, wrong_type};
use super::format::{Asked, take_format};
use super::samplers::take_stages;
use crate::TokenId;
use crate::sampling::{SamplingParams, Stage};
use crate::tokenizer::Tokenizer;

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
    /// Cuts up the texts of a `logit_bias`.
    pub tokenizer: Option<Arc<Tokenizer>>,
}

/// An adapter by its number, and the factor that it is to have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaled {
    /// Its place in the list of adapters, from 0.
    pub id: usize,
    /// 0: it is not used.
    pub scale: f32,
}

/// `[{"id": 0, "scale": 1.0}, …]`; `at` is its name in errors.
///
/// # Errors
/// 400 naming the entry's field.
pub fn scaled_adapters(at: &str, value: Value) -> Result<Vec<Scaled>, ApiError> {
    let Value::Array(items) = value else { return Err(wrong_type(at, "an array of {id, scale}", &value)) };
    let scaled = |(index, item): (usize, Value)| {
        let field = |name: &str| (format!("{at}[{index}].{name}"), item.get(name).and_then(Value::as_f64));
        let refused = |here: String, what: &str| ApiError::parameter(here.clone(), format!("`{here}` must be {what}"));
        let id = match field("id") {
            (_, Some(id)) if id >= 0.0 && id.fract() == 0.0 => id as usize,
            (here, _) => return Err(refused(here, "an adapter's number, from 0")),
        };
        match field("scale") {
            (_, Some(scale)) => Ok(Scaled { id, scale: scale as f32 }),
            (here, None) => Err(refused(here, "a number")),
        }
    };
    items.into_iter().enumerate().map(scaled).collect()
}

/// The shared part of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Common {
    /// The requested model; with adapters loaded, there are several names.
    pub model: Option<String>,
    /// Adapters and their factors, as llama.cpp's clients name them; `None`: none were named.
    pub lora: Option<Vec<Scaled>>,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// The stages by which they are, in order; all others are switched off in `sampling`.
    pub stages: Vec<Stage>,
    /// Generated tokens at most; `None`: until the context is full.
    pub max_tokens: Option<usize>,
    /// Strings that end an answer and are not part of it.
    pub stop: Vec<String>,
    /// Time from the first token on, behind which the next line feed ends an answer.
    pub time_limit: Option<Duration>,
    /// Blanks that every line of an answer but the first has at least.
    pub least_indent: usize,
    /// Answers per prompt, each sampled independently.
    pub n: usize,
    /// Stream the answer as it is generated.
    pub stream: bool,
    /// `stream_options.include_usage`.
    pub include_usage: bool,
    /// Continue past end tokens.
    pub ignore_end: bool,
    /// Report, in a stream, how much of the prompt has been read.
    pub progress: bool,
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
        let lora = fields.take("lora").map(|value| scaled_adapters("lora", value)).transpose()?;
        fields.ignore(&HARMLESS);
        let limit = take_limit(fields)?;
        let mut sampling = take_sampling(fields, baseline)?;
        let stages = take_stages(fields)?;
        sampling.keep(&stages);
        let stream = fields.take_bool("stream")?.unwrap_or(false);
        Ok(Self {
            model,
            lora,
            sampling,
            stages,
            max_tokens: limit.unwrap_or(baseline.max_tokens),
            stop: take_stop(fields)?,
            time_limit: take_positive(fields, "t_max_predict_ms")?.map(Duration::from_millis),
            least_indent: take_positive(fields, "n_indent")?.map_or(0, |blanks| blanks as usize),
            n: take_count(fields)?,
            stream,
            include_usage: take_stream_options(fields, stream)?,
            ignore_end: fields.take_bool("ignore_eos")?.unwrap_or(false),
            progress: fields.take_bool("return_progress")?.unwrap_or(false),
            format: take_format(fields)?,
        })
    }
}

/// Ignored: parameters about accounts, caching or routing that never change an answer here.
const HARMLESS: [&str; 19] = [
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
    "n_cache_reuse",
    "sse_ping_interval",
    "verbose",
    "timings_per_token",
    "slot_id",
    "request_id",
    "backend_sampling", // where llama.cpp samples
    "t_max_prompt_ms",  // llama.cpp's server takes it and does nothing with it
    "response_fields",  // of llama.cpp's own answers, where it is taken before
];

/// `max_tokens`, or `n_predict` as llama.cpp calls it, where -1 is no limit and 0 only reads the prompt. The outer `None`: neither
/// was given.
fn take_limit(fields: &mut Fields) -> Result<Option<Option<usize>>, ApiError> {
    let unlimited = |value: &Value| value.as_i64() == Some(-1);
    let predicted = fields.take_integer("n_predict", -2..=i64::MAX)?;
    // No limit of its own beside the other one is what frontends send that know both names.
    if let Some(limit) = predicted.filter(|limit| *limit >= 0 || fields.peek("max_tokens").is_none()) {
        let other = fields.peek("max_tokens").filter(|other| other.as_i64() != Some(limit));
        if other.is_some() {
            return Err(ApiError::parameter(
                "n_predict",
                "`n_predict` and `max_tokens` are the same; send one of them",
            ));
        }
        fields.ignore(&["max_tokens"]);
        return Ok(Some(usize::try_from(limit).ok()));
    }
    if fields.peek("max_tokens").is_some_and(unlimited) {
        fields.ignore(&["max_tokens"]);
        return Ok(Some(None));
    }
    match Parameter::named("max_tokens") {
        Some(parameter) => Ok(fields.take_parameter(parameter)?.map(|limit| Some(limit.as_count()))),
        None => Ok(None),
    }
}

/// A number of llama.cpp's, where 0 and less mean that there is no limit.
fn take_positive(fields: &mut Fields, name: &str) -> Result<Option<u64>, ApiError> {
    let number = fields.take_integer(name, i64::MIN..=i64::MAX)?;
    Ok(number.and_then(|number| u64::try_from(number).ok()).filter(|number| *number > 0))
}

/// `n`, or `n_cmpl` as llama.cpp calls it.
fn take_count(fields: &mut Fields) -> Result<usize, ApiError> {
    let mut count = |name| fields.take_integer(name, 1..=MAX_CHOICES as i64);
    let (one, other) = (count("n")?, count("n_cmpl")?);
    if let (Some(one), Some(other)) = (one, other)
        && one != other
    {
        return Err(ApiError::parameter("n_cmpl", "`n_cmpl` and `n` are the same; send one of them"));
    }
    Ok(one.or(other).unwrap_or(1) as usize)
}

/// The request's sampling parameters.
fn take_sampling(fields: &mut Fields, baseline: &Baseline) -> Result<SamplingParams, ApiError> {
    let mut sampling = baseline.sampling.clone();
    for parameter in &PARAMETERS {
        if let Some(value) = fields.take_parameter(parameter)? {
            sampling.set(parameter, value);
        }
    }
    if let Some(bias) = fields.take("logit_bias") {
        sampling.logit_bias = logit_bias(bias, baseline)?;
    }
    Ok(sampling)
}

/// `{"token id": bias}`, or, as llama.cpp's clients write it, `[[token id, bias], …]`. -100 bans a token, as OpenAI documents it,
/// and so does `false`. A text stands for each of its tokens.
fn logit_bias(given: Value, baseline: &Baseline) -> Result<Vec<(TokenId, f32)>, ApiError> {
    let (fail, vocabulary) = (|message: String| ApiError::parameter("logit_bias", message), baseline.vocabulary);
    let pairs: Vec<(Value, Value)> = match given {
        Value::Object(map) => map.into_iter().map(|(key, bias)| (key.into(), bias)).collect(),
        Value::Array(items) => items.into_iter().map(pair).collect::<Result<_, _>>()?,
        other => return Err(wrong_type("logit_bias", "an object of token ids", &other)),
    };
    let mut all = Vec::with_capacity(pairs.len());
    for (key, bias) in pairs {
        let ids = biased_tokens(&key, baseline)?;
        let bias = match bias.as_f64() {
            Some(-100.0) => f32::NEG_INFINITY,
            None if bias == Value::Bool(false) => f32::NEG_INFINITY,
            Some(bias) if (-100.0..=100.0).contains(&bias) => bias as f32,
            _ => {
                let at = shown(&key.as_str().map_or_else(|| key.to_string(), str::to_owned));
                return Err(fail(format!("`logit_bias` of token {at} must be a number between -100 and 100")));
            }
        };
        all.extend(ids.into_iter().map(|id| (id, bias)));
    }
    let banned: HashSet<TokenId> =
        all.iter().filter(|(_, bias)| *bias == f32::NEG_INFINITY).map(|(id, _)| *id).collect();
    if banned.len() >= vocabulary {
        return Err(fail(format!("`logit_bias` bans all {vocabulary} tokens, which leaves none to answer with")));
    }
    Ok(all)
}

fn pair(item: Value) -> Result<(Value, Value), ApiError> {
    let pair = item.as_array().and_then(|pair| <&[Value; 2]>::try_from(pair.as_slice()).ok());
    let [key, bias] = pair.ok_or_else(|| wrong_type("logit_bias", "an object, or an array of [token, bias]", &item))?;
    Ok((key.clone(), bias.clone()))
}

/// The tokens that an entry of `logit_bias` is about.
fn biased_tokens(key: &Value, baseline: &Baseline) -> Result<Vec<TokenId>, ApiError> {
    let vocabulary = baseline.vocabulary;
    let id = match key {
        Value::String(text) => token_id(text, vocabulary),
        other => other.as_u64().and_then(|id| TokenId::try_from(id).ok()).filter(|id| (*id as usize) < vocabulary),
    };
    if let Some(id) = id {
        return Ok(vec![id]);
    }
    let is_number = |text: &str| text.parse::<f64>().is_ok();
    let tokens = match (key, &baseline.tokenizer) {
        (Value::String(text), Some(tokenizer)) if !text.is_empty() && !is_number(text) => {
            tokenizer.encode(text, false, false).ok()
        }
        _ => None,
    };
    tokens.ok_or_else(|| {
        let shown = shown(&key.as_str().map_or_else(|| key.to_string(), str::to_owned));
        let message = format!("`logit_bias` has the key `{shown}`, which is not a token id below {vocabulary}");
        ApiError::parameter("logit_bias", message)
    })
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
