//! Answers in OpenAI's format: whole or as chunks of a stream, with log-probabilities, usage and timings.
//!
//! In addition to OpenAI's fields there is `timings`, as in llama.cpp's server: counts, milliseconds and tokens per second
//! of prefill and decode, and how much of the context is used.

use std::hash::{BuildHasher, RandomState};

use serde_json::{Map, Value, json};

use crate::server::dialect::Choice;
use crate::session::{StopReason, TextFinished, TextToken};

/// The endpoint, which determines the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Completions,
}

/// `b` and a build's number in llama.cpp's server, whose clients look for the letter.
const FINGERPRINT: &str = concat!("build-satchel-", env!("CARGO_PKG_VERSION"));

/// Fields repeated in every object of one answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Determines the format.
    pub endpoint: Endpoint,
    id: String,
    created: u64,
    model: String,
}

impl Answer {
    /// A new answer of `model`, at `created` (Unix seconds).
    pub fn new(endpoint: Endpoint, model: &str, created: u64) -> Self {
        let prefix = if endpoint == Endpoint::Chat { "chatcmpl" } else { "cmpl" };
        let id = format!("{prefix}-{:016x}{:08x}", RandomState::new().hash_one(created), created as u32);
        Self { endpoint, id, created, model: model.to_string() }
    }

    /// The whole answer.
    pub fn whole(&self, choices: &[Value], usage: Value, timings: Value) -> Value {
        let mut object =
            self.object(if self.endpoint == Endpoint::Chat { "chat.completion" } else { "text_completion" });
        object.insert("choices".into(), choices.into());
        object.insert("usage".into(), usage);
        object.insert("timings".into(), timings);
        object.into()
    }

    /// One chunk of a stream.
    pub fn chunk(&self, choices: Vec<Value>) -> Map<String, Value> {
        let mut object =
            self.object(if self.endpoint == Endpoint::Chat { "chat.completion.chunk" } else { "text_completion" });
        object.insert("choices".into(), choices.into());
        object
    }

    fn object(&self, kind: &str) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("id".into(), self.id.as_str().into());
        object.insert("object".into(), kind.into());
        object.insert("created".into(), self.created.into());
        object.insert("model".into(), self.model.as_str().into());
        object.insert("system_fingerprint".into(), FINGERPRINT.into());
        object
    }

    /// A whole choice.
    pub fn choice(&self, index: usize, choice: &Choice, logprobs: Value) -> Value {
        let finish_reason = finish_reason(choice.reason.as_ref(), !choice.calls.is_empty());
        if self.endpoint == Endpoint::Completions {
            return json!({"index": index, "text": choice.text, "logprobs": logprobs, "finish_reason": finish_reason});
        }
        let mut message = json!({"role": "assistant", "content": choice.text, "refusal": null});
        if !choice.reasoning.is_empty() {
            message["reasoning_content"] = choice.reasoning.as_str().into();
        }
        let call = |(id, name, arguments): &(String, String, String)| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
        if !choice.calls.is_empty() {
            message["tool_calls"] = choice.calls.iter().map(call).collect();
        }
        json!({"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish_reason})
    }

    /// A chunk's choice with a delta other than text.
    pub fn message_part(&self, index: usize, delta: Value) -> Value {
        json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": null})
    }

    /// A choice of the first chunk, which has no text yet; `None` for completions, which have no such chunk.
    pub fn opening(&self, index: usize) -> Option<Value> {
        let delta = json!({"role": "assistant", "content": null, "refusal": null});
        let choice = json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": null});
        (self.endpoint == Endpoint::Chat).then_some(choice)
    }

    /// A chunk's choice with more text.
    pub fn piece(&self, index: usize, text: &str, logprobs: Value) -> Value {
        match self.endpoint {
            Endpoint::Chat => {
                json!({"index": index, "delta": {"content": text}, "logprobs": logprobs, "finish_reason": null})
            }
            Endpoint::Completions => json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": null}),
        }
    }

    /// A choice's last chunk.
    pub fn ending(&self, index: usize, reason: &StopReason, called: bool) -> Value {
        let finish_reason = finish_reason(Some(reason), called);
        match self.endpoint {
            Endpoint::Chat => {
                json!({"index": index, "delta": {}, "logprobs": null, "finish_reason": finish_reason})
            }
            Endpoint::Completions => {
                json!({"index": index, "text": "", "logprobs": null, "finish_reason": finish_reason})
            }
        }
    }
}

/// `stop`: the model or a stop string ended it; `tool_calls`: likewise, and it called tools. `length`: `max_tokens`, or the
/// context is full.
fn finish_reason(reason: Option<&StopReason>, called: bool) -> &'static str {
    match reason {
        Some(StopReason::EndToken | StopReason::Complete | StopReason::StopString(_)) if called => "tool_calls",
        Some(StopReason::EndToken | StopReason::Complete | StopReason::StopString(_)) => "stop",
        _ => "length",
    }
}

/// Encodes tokens' log-probabilities; keeps the text offset between chunks.
#[derive(Clone, Debug, Default)]
pub struct LogProbs {
    characters: usize,
}

impl LogProbs {
    /// The `logprobs` value for these tokens; null if none were requested.
    pub fn value(&mut self, endpoint: Endpoint, tokens: &[TextToken]) -> Value {
        if tokens.iter().all(|token| token.logprob.is_none()) {
            return Value::Null;
        }
        match endpoint {
            Endpoint::Chat => json!({"content": tokens.iter().map(chat_token).collect::<Vec<_>>(), "refusal": null}),
            Endpoint::Completions => {
                // Offsets count characters of the answer; a continuation byte does not start a new one.
                let mut offsets = Vec::with_capacity(tokens.len());
                for token in tokens {
                    offsets.push(self.characters);
                    let shown = if token.control { &[][..] } else { &token.bytes };
                    self.characters += shown.iter().filter(|&&byte| byte & 0xc0 != 0x80).count();
                }
                json!({
                    "tokens": tokens.iter().map(|token| token_string(&token.bytes)).collect::<Vec<_>>(),
                    "token_logprobs": tokens.iter().map(|token| token.logprob.map(finite)).collect::<Vec<_>>(),
                    "top_logprobs": tokens.iter().map(top_map).collect::<Vec<_>>(),
                    "text_offset": offsets,
                })
            }
        }
    }
}

/// A token with its log-probability and the alternatives.
pub(in crate::server) fn chat_token(token: &TextToken) -> Value {
    let entry = |bytes: &[u8], logprob: f32| json!({"token": String::from_utf8_lossy(bytes), "bytes": bytes, "logprob": finite(logprob)});
    let mut object = entry(&token.bytes, token.logprob.unwrap_or(f32::NEG_INFINITY));
    object["top_logprobs"] = token.top.iter().map(|(_, bytes, logprob)| entry(bytes, *logprob)).collect();
    object
}

fn top_map(token: &TextToken) -> Value {
    let map: Map<String, Value> =
        token.top.iter().map(|(_, bytes, logprob)| (token_string(bytes), finite(*logprob).into())).collect();
    map.into()
}

/// A token as a JSON string; partial characters are written as OpenAI does: `bytes:\xe2\x80`.
fn token_string(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_string(),
        Err(_) => bytes.iter().fold("bytes:".to_string(), |text, byte| text + &format!("\\x{byte:02x}")),
    }
}

/// JSON has no infinity: a banned token gets -9999, as OpenAI does.
pub(in crate::server) fn finite(logprob: f32) -> f64 {
    // Via text: converting an f32 to f64 directly would print spurious digits.
    if logprob.is_finite() { logprob.to_string().parse().unwrap_or(-9999.0) } else { -9999.0 }
}

/// Token counts and timings of a request's finished choices.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub(in crate::server) prompt_tokens: usize,
    pub(in crate::server) cached_tokens: usize,
    pub(in crate::server) generated_tokens: usize,
    pub(in crate::server) reasoning_tokens: usize,
    processed_tokens: usize,
    decode_steps: usize,
    pub(in crate::server) prefill_seconds: f64,
    pub(in crate::server) decode_seconds: f64,
    context_used: usize,
    pub(in crate::server) shifted_tokens: usize,
    accepted_tokens: usize,
    rejected_tokens: usize,
}

impl Tally {
    /// Adds a choice. `usage` counts a prompt's tokens once: only its `first` choice adds them.
    pub fn add(&mut self, finished: &TextFinished, first: bool) {
        let engine = &finished.engine;
        if first {
            self.prompt_tokens += engine.prompt_tokens;
            self.cached_tokens += engine.cached_tokens;
        }
        self.processed_tokens += engine.prompt_tokens.saturating_sub(engine.cached_tokens);
        self.generated_tokens += engine.generated_tokens;
        // Prefill yields the first token; an end token takes a decode step, too.
        let ended = usize::from(finished.reason == StopReason::EndToken);
        self.decode_steps += (engine.generated_tokens + ended).saturating_sub(1);
        self.prefill_seconds = self.prefill_seconds.max(engine.prefill_seconds);
        self.decode_seconds = self.decode_seconds.max(engine.decode_seconds);
        self.shifted_tokens += engine.shifted_tokens;
        self.accepted_tokens += engine.accepted_tokens;
        self.rejected_tokens += engine.guessed_tokens - engine.accepted_tokens;
        self.context_used = self.context_used.max(engine.prompt_tokens + engine.generated_tokens);
    }

    /// OpenAI's `usage`.
    pub fn usage(&self) -> Value {
        let mut usage = json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.generated_tokens,
            "total_tokens": self.prompt_tokens + self.generated_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
        });
        // Rejected ones were computed, but are not part of the answer, nor of `completion_tokens`.
        if self.accepted_tokens + self.rejected_tokens > 0 {
            usage["completion_tokens_details"]["accepted_prediction_tokens"] = self.accepted_tokens.into();
            usage["completion_tokens_details"]["rejected_prediction_tokens"] = self.rejected_tokens.into();
        }
        // Our extension: tokens dropped by the overflow policy `shift`.
        if self.shifted_tokens > 0 {
            usage["shifted_tokens"] = self.shifted_tokens.into();
        }
        usage
    }

    /// `timings`; speeds are over all choices of the request, 0 if nothing was measured.
    pub fn timings(&self, context_length: usize) -> Value {
        let rate = |tokens: usize, seconds: f64| if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 };
        let each = |tokens: usize, seconds: f64| if tokens > 0 { seconds * 1e3 / tokens as f64 } else { 0.0 };
        json!({
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "prompt_ms": self.prefill_seconds * 1e3,
            "prompt_per_second": rate(self.processed_tokens, self.prefill_seconds),
            "generated_tokens": self.generated_tokens,
            "generated_ms": self.decode_seconds * 1e3,
            "generated_per_second": rate(self.decode_steps, self.decode_seconds),
            // llama.cpp's names of what clients read of these; `prompt_n` counts what was computed.
            "cache_n": self.cached_tokens,
            "prompt_n": self.processed_tokens,
            "predicted_n": self.generated_tokens,
            "predicted_ms": self.decode_seconds * 1e3,
            "predicted_per_second": rate(self.decode_steps, self.decode_seconds),
            "prompt_per_token_ms": each(self.processed_tokens, self.prefill_seconds),
            "predicted_per_token_ms": each(self.decode_steps, self.decode_seconds),
            "context_used": self.context_used,
            "context_length": context_length,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(bytes: &[u8], logprob: f32) -> TextToken {
        let top = vec![(1, bytes.to_vec(), logprob), (2, b"other".to_vec(), f32::NEG_INFINITY)];
        TextToken { id: 1, bytes: bytes.to_vec(), control: false, logprob: Some(logprob), top }
    }

    #[test]
    fn chat_logprobs_hold_bytes_and_alternatives() {
        let value = LogProbs::default().value(Endpoint::Chat, &[token("é".as_bytes(), -0.1)]);
        let first = &value["content"][0];
        assert_eq!(
            (&first["token"], &first["bytes"], &first["logprob"]),
            (&json!("é"), &json!([195, 169]), &json!(-0.1))
        );
        assert_eq!(first["top_logprobs"][1], json!({"token": "other", "bytes": b"other".to_vec(), "logprob": -9999.0}));
    }

    #[test]
    fn completion_logprobs_count_characters_across_chunks_and_tokens() {
        let mut logprobs = LogProbs::default();
        let first = logprobs.value(Endpoint::Completions, &[token(b"ab", -1.0), token(b"\xc3", -1.0)]);
        assert_eq!(first["text_offset"], json!([0, 2]));
        assert_eq!(first["tokens"], json!(["ab", "bytes:\\xc3"]));
        assert_eq!(first["top_logprobs"][0], json!({"ab": -1.0, "other": -9999.0}));
        let second = logprobs.value(Endpoint::Completions, &[token(b"\xa9", -1.0), token(b"c", -1.0)]);
        assert_eq!(second["text_offset"], json!([3, 3]));
        // A control token has a name but no text.
        let control = TextToken { control: true, ..token(b"<|im_end|>", -1.0) };
        let third = logprobs.value(Endpoint::Completions, &[control, token(b"d", -1.0)]);
        assert_eq!((&third["tokens"][0], &third["text_offset"]), (&json!("<|im_end|>"), &json!([4, 4])));
    }

    #[test]
    fn no_logprobs_are_null() {
        let silent = TextToken { id: 1, bytes: b"a".to_vec(), control: false, logprob: None, top: Vec::new() };
        assert_eq!(LogProbs::default().value(Endpoint::Chat, &[silent]), Value::Null);
    }
}
