//! Answers in Anthropic's format: one message, or the events of its stream.
//!
//! The order of events is message_start, then each block's start, deltas and stop, then message_delta with the reason and the
//! counts, then message_stop; `ping` may come anywhere.

use std::hash::{BuildHasher, RandomState};

use serde_json::{Value, json};

use super::blocks::{Blocks, call_id};
use super::error::{body, error_response};
use super::thought::signature;
use crate::server::dialect::{Choice, Delta, Dialect};
use crate::server::http::Response;
use crate::server::openai::{ApiError, Tally};
use crate::session::StopReason;

/// An id that no other message, request, … has.
pub(super) fn new_id(prefix: &str) -> String {
    let random = RandomState::new();
    format!("{prefix}_{:016x}{:08x}", random.hash_one(0), random.hash_one(1) as u32)
}

/// One answer in Anthropic's format.
pub(super) struct Anthropic {
    id: String,
    model: String,
    shows_thinking: bool,
    /// Tokens of the prompt, for the first event.
    prompt_tokens: usize,
    blocks: Blocks,
    called: bool,
    reason: Option<StopReason>,
}

impl Anthropic {
    pub(super) fn new(model: String, prompt_tokens: usize, shows_thinking: bool) -> Self {
        let blocks = Blocks::new(shows_thinking);
        Self { id: new_id("msg"), model, shows_thinking, prompt_tokens, blocks, called: false, reason: None }
    }

    fn message(&self, content: Vec<Value>, reason: &Value, sequence: &Value, usage: Value) -> Value {
        json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": reason,
            "stop_sequence": sequence,
            "usage": usage,
        })
    }

    fn content(&self, choice: &Choice) -> Vec<Value> {
        let mut content = Vec::new();
        if !choice.reasoning.is_empty() {
            let (shown, text) = (self.shows_thinking, choice.reasoning.as_str());
            let signature = signature(text, shown);
            content
                .push(json!({"type": "thinking", "thinking": if shown { text } else { "" }, "signature": signature}));
        }
        if !choice.text.is_empty() {
            content.push(json!({"type": "text", "text": choice.text}));
        }
        for (id, name, arguments) in &choice.calls {
            // Arguments are an object, where OpenAI has text.
            let input: Value = serde_json::from_str(arguments).unwrap_or_else(|_| json!({}));
            content.push(json!({"type": "tool_use", "id": call_id(id), "name": name, "input": input}));
        }
        content
    }
}

/// The reason, and the stop sequence if it was one.
fn stop(reason: Option<&StopReason>, called: bool) -> (Value, Value) {
    match reason {
        Some(StopReason::EndToken | StopReason::Complete) if called => ("tool_use".into(), Value::Null),
        Some(StopReason::EndToken | StopReason::Complete) => ("end_turn".into(), Value::Null),
        Some(StopReason::StopString(text)) => ("stop_sequence".into(), text.as_str().into()),
        Some(StopReason::ContextFull) => ("model_context_window_exceeded".into(), Value::Null),
        _ => ("max_tokens".into(), Value::Null),
    }
}

/// Counts. Unlike in OpenAI's API, `input_tokens` are those that were not in the cache.
fn usage(prompt: usize, cached: usize, generated: usize, reasoning: usize) -> Value {
    json!({
        "input_tokens": prompt.saturating_sub(cached),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": generated,
        "output_tokens_details": {"thinking_tokens": reasoning},
        "service_tier": "standard",
    })
}

fn usage_of(tally: &Tally) -> Value {
    usage(tally.prompt_tokens, tally.cached_tokens, tally.generated_tokens, tally.reasoning_tokens)
}

impl Dialect for Anthropic {
    fn open(&mut self, out: &mut Vec<u8>) {
        let message = self.message(Vec::new(), &Value::Null, &Value::Null, usage(self.prompt_tokens, 0, 0, 0));
        event(out, &json!({"type": "message_start", "message": message}));
        self.heartbeat(out);
    }

    fn delta(&mut self, out: &mut Vec<u8>, _: usize, delta: &Delta) {
        match delta {
            Delta::ToolCall { .. } => self.called = true,
            Delta::End { reason } => self.reason = Some(reason.clone()),
            _ => {}
        }
        let mut events = Vec::new();
        self.blocks.push(delta, &mut events);
        events.iter().for_each(|one| event(out, one));
    }

    fn heartbeat(&self, out: &mut Vec<u8>) {
        event(out, &json!({"type": "ping"}));
    }

    fn close(&mut self, out: &mut Vec<u8>, tally: &Tally) {
        let (reason, sequence) = stop(self.reason.as_ref(), self.called);
        let delta = json!({"stop_reason": reason, "stop_sequence": sequence});
        event(out, &json!({"type": "message_delta", "delta": delta, "usage": usage_of(tally)}));
        event(out, &json!({"type": "message_stop"}));
    }

    fn fail(&mut self, out: &mut Vec<u8>, error: &ApiError) {
        event(out, &body(error, &new_id("req")));
    }

    fn whole(&mut self, choices: &[Choice], tally: &Tally) -> Value {
        let Some(choice) = choices.first() else { return Value::Null };
        let (reason, sequence) = stop(choice.reason.as_ref(), !choice.calls.is_empty());
        self.message(self.content(choice), &reason, &sequence, usage_of(tally))
    }

    fn refuse(&self, error: &ApiError) -> Response {
        error_response(error)
    }
}

fn event(out: &mut Vec<u8>, data: &Value) {
    let name = data["type"].as_str().unwrap_or_default();
    out.extend_from_slice(format!("event: {name}\ndata: {data}\n\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally() -> Tally {
        let mut tally = Tally::default();
        (tally.prompt_tokens, tally.cached_tokens) = (10, 4);
        (tally.generated_tokens, tally.reasoning_tokens) = (7, 3);
        tally
    }

    /// The events of one step: name and data.
    fn events(step: impl FnOnce(&mut Vec<u8>)) -> Vec<Value> {
        let mut out = Vec::new();
        step(&mut out);
        let text = String::from_utf8(out).expect("UTF-8");
        let event = |event: &str| {
            let (name, data) = event.split_once('\n').expect("two lines");
            let data: Value = serde_json::from_str(data.strip_prefix("data: ").expect("data")).expect("JSON");
            assert_eq!(name.strip_prefix("event: "), data["type"].as_str());
            data
        };
        text.split_terminator("\n\n").map(event).collect()
    }

    #[test]
    fn a_stream_has_its_events_in_order() {
        let mut dialect = Anthropic::new("m".into(), 10, true);
        let mut all = events(|out| dialect.open(out));
        for delta in [
            Delta::Reasoning { text: "hm".into() },
            Delta::Text { text: "Hi".into(), tokens: Vec::new() },
            Delta::ToolCall { call: 0, id: "call_1".into(), name: "f".into() },
            Delta::Arguments { call: 0, json: "{}".into() },
            Delta::End { reason: StopReason::EndToken },
        ] {
            all.extend(events(|out| dialect.delta(out, 0, &delta)));
        }
        all.extend(events(|out| dialect.close(out, &tally())));
        let names: Vec<&str> = all.iter().map(|event| event["type"].as_str().unwrap_or_default()).collect();
        let block = ["content_block_start", "content_block_delta", "content_block_stop"];
        let thinking = ["content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"];
        let wanted = [&["message_start", "ping"][..], &thinking, &block, &block, &["message_delta", "message_stop"]];
        assert_eq!(names, wanted.concat());
        let first = &all[0]["message"];
        assert_eq!((&first["content"], &first["stop_reason"]), (&json!([]), &Value::Null));
        assert_eq!(first["usage"]["input_tokens"], 10);
        let last = &all[all.len() - 2];
        assert_eq!(last["delta"], json!({"stop_reason": "tool_use", "stop_sequence": null}));
        let usage = &last["usage"];
        assert_eq!((&usage["input_tokens"], &usage["cache_read_input_tokens"]), (&json!(6), &json!(4)));
        assert_eq!(
            (&usage["output_tokens"], &usage["output_tokens_details"]["thinking_tokens"]),
            (&json!(7), &json!(3))
        );
        assert!(all.iter().any(|event| event["content_block"]["id"] == "toolu_1"));
    }

    #[test]
    fn a_whole_answer_has_the_same_blocks() {
        let choice = Choice {
            text: "Hi".into(),
            reasoning: "hm".into(),
            calls: vec![("call_1".into(), "f".into(), "{\"x\": 1}".into()), ("b".into(), "g".into(), "{".into())],
            reason: Some(StopReason::Complete),
            ..Choice::default()
        };
        let whole = Anthropic::new("m".into(), 10, true).whole(std::slice::from_ref(&choice), &tally());
        let content = json!([
            {"type": "thinking", "thinking": "hm", "signature": signature("hm", true)},
            {"type": "text", "text": "Hi"},
            {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"x": 1}},
            {"type": "tool_use", "id": "b", "name": "g", "input": {}},
        ]);
        assert_eq!((&whole["content"], &whole["stop_reason"]), (&content, &json!("tool_use")));
        assert_eq!(
            (&whole["role"], &whole["model"], &whole["type"]),
            (&json!("assistant"), &json!("m"), &json!("message"))
        );
        let hidden = Anthropic::new("m".into(), 10, false).whole(&[choice], &tally());
        assert_eq!(hidden["content"][0]["thinking"], "");
    }

    #[test]
    fn reasons_are_those_of_the_api() {
        for (reason, wanted, sequence) in [
            (StopReason::EndToken, "end_turn", Value::Null),
            (StopReason::MaxTokens, "max_tokens", Value::Null),
            (StopReason::ContextFull, "model_context_window_exceeded", Value::Null),
            (StopReason::StopString("END".into()), "stop_sequence", json!("END")),
        ] {
            assert_eq!(stop(Some(&reason), false), (json!(wanted), sequence));
        }
    }

    #[test]
    fn a_stream_that_fails_says_so_in_an_event() {
        let failed = events(|out| Anthropic::new("m".into(), 1, true).fail(out, &ApiError::new(500, "broken")));
        assert_eq!(failed[0]["error"], json!({"type": "api_error", "message": "broken"}));
    }
}
