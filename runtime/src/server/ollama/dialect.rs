//! Ollama's two endpoints as a dialect: a stream of JSON objects, one a line, or a whole answer.
//!
//! The last object has `done: true`, the reason, counts, and durations in nanoseconds. There are no empty lines: clients parse
//! every line, so the heartbeat is an object without text. Errors within a stream are `{"error": …}`.

use std::time::Instant;

use serde_json::{Value, json};

use super::error::error_response;
use super::request::Endpoint;
use crate::server::dialect::{Choice, Delta, Dialect};
use crate::server::http::Response;
use crate::server::openai::{ApiError, Tally};
use crate::session::StopReason;

/// One answer in Ollama's format.
pub(super) struct Ollama {
    endpoint: Endpoint,
    model: String,
    begun: Instant,
    /// The tool calls and the reason, held back for the last object.
    rest: Choice,
}

impl Ollama {
    /// A dialect for an answer of `model` to a request that came at `begun`.
    pub(super) fn new(endpoint: Endpoint, model: String, begun: Instant) -> Self {
        Self { endpoint, model, begun, rest: Choice::default() }
    }

    /// The whole answer to a request without a prompt, which loads or unloads the model; here it stays loaded.
    pub(super) fn loaded(&self, unload: bool) -> Value {
        let mut object = self.object("");
        object["done"] = true.into();
        object["done_reason"] = if unload { "unload" } else { "load" }.into();
        object
    }

    fn object(&self, text: &str) -> Value {
        let mut object = json!({"model": self.model, "created_at": jiff::Timestamp::now().to_string(), "done": false});
        match self.endpoint {
            Endpoint::Chat => object["message"] = json!({"role": "assistant", "content": text}),
            Endpoint::Generate => object["response"] = text.into(),
        }
        object
    }

    /// Where an object has its text: in the message of a chat.
    fn place<'a>(&self, object: &'a mut Value) -> &'a mut Value {
        match self.endpoint {
            Endpoint::Chat => &mut object["message"],
            Endpoint::Generate => object,
        }
    }

    fn last(&self, choice: &Choice, tally: &Tally) -> Value {
        let mut object = self.object(&choice.text);
        if !choice.reasoning.is_empty() {
            self.place(&mut object)["thinking"] = choice.reasoning.as_str().into();
        }
        if self.endpoint == Endpoint::Chat && !choice.calls.is_empty() {
            object["message"]["tool_calls"] = choice.calls.iter().map(tool_call).collect();
        }
        object["done"] = true.into();
        object["done_reason"] = done_reason(choice.reason.as_ref()).into();
        object["total_duration"] = nanoseconds(self.begun.elapsed().as_secs_f64()).into();
        // The model was loaded when the server started.
        object["load_duration"] = 0.into();
        object["prompt_eval_count"] = tally.prompt_tokens.into();
        object["prompt_eval_duration"] = nanoseconds(tally.prefill_seconds).into();
        object["eval_count"] = tally.generated_tokens.into();
        object["eval_duration"] = nanoseconds(tally.decode_seconds).into();
        object
    }
}

impl Dialect for Ollama {
    fn content_type(&self) -> &'static str {
        "application/x-ndjson"
    }

    fn open(&mut self, _: &mut Vec<u8>) {}

    fn delta(&mut self, out: &mut Vec<u8>, _: usize, delta: &Delta) {
        match delta {
            Delta::Text { text, .. } if text.is_empty() => {} // held back for a possible stop string or a partial character
            Delta::Text { text, .. } => line(out, &self.object(text)),
            Delta::Reasoning { text } => {
                let mut object = self.object("");
                self.place(&mut object)["thinking"] = text.as_str().into();
                line(out, &object);
            }
            Delta::ToolCall { .. } | Delta::Arguments { .. } | Delta::End { .. } => self.rest.push(delta.clone()),
        }
    }

    fn heartbeat(&self, out: &mut Vec<u8>) {
        line(out, &self.object(""));
    }

    fn close(&mut self, out: &mut Vec<u8>, tally: &Tally) {
        line(out, &self.last(&self.rest, tally));
    }

    fn fail(&mut self, out: &mut Vec<u8>, error: &ApiError) {
        line(out, &json!({"error": error.message}));
    }

    fn whole(&mut self, choices: &[Choice], tally: &Tally) -> Value {
        choices.first().map_or(Value::Null, |choice| self.last(choice, tally))
    }

    fn refuse(&self, error: &ApiError) -> Response {
        error_response(error)
    }
}

fn line(out: &mut Vec<u8>, object: &Value) {
    out.extend_from_slice(object.to_string().as_bytes());
    out.push(b'\n');
}

/// Arguments are an object, where OpenAI has text.
fn tool_call((_, name, arguments): &(String, String, String)) -> Value {
    let arguments = serde_json::from_str(arguments).unwrap_or_else(|_| json!({}));
    json!({"function": {"name": name, "arguments": arguments}})
}

/// `stop`: the model or a stop string ended it. `length`: `num_predict`, or the context is full.
fn done_reason(reason: Option<&StopReason>) -> &'static str {
    match reason {
        Some(StopReason::EndToken | StopReason::Complete | StopReason::StopString(_)) => "stop",
        _ => "length",
    }
}

/// At least 1, since clients divide by durations.
pub(super) fn nanoseconds(seconds: f64) -> u64 {
    ((seconds * 1e9) as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialect(endpoint: Endpoint) -> Ollama {
        Ollama::new(endpoint, "m:latest".into(), Instant::now())
    }

    /// The objects of one step, each on a line of its own.
    fn lines(step: impl FnOnce(&mut Vec<u8>)) -> Vec<Value> {
        let mut out = Vec::new();
        step(&mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn text(text: &str) -> Delta {
        Delta::Text { text: text.into(), tokens: Vec::new() }
    }

    #[test]
    fn a_stream_is_lines_and_the_last_has_reason_and_counts() {
        for endpoint in [Endpoint::Chat, Endpoint::Generate] {
            let mut dialect = dialect(endpoint);
            assert!(lines(|out| dialect.open(out)).is_empty());
            assert!(lines(|out| dialect.delta(out, 0, &text(""))).is_empty());
            let piece = &lines(|out| dialect.delta(out, 0, &text("a\nb")))[0];
            let said = |object: &Value| match endpoint {
                Endpoint::Chat => object["message"]["content"].clone(),
                Endpoint::Generate => object["response"].clone(),
            };
            assert_eq!(
                (said(piece), &piece["done"], &piece["model"]),
                (json!("a\nb"), &json!(false), &json!("m:latest"))
            );
            piece["created_at"].as_str().unwrap().parse::<jiff::Timestamp>().expect("a time");
            assert!(lines(|out| dialect.delta(out, 0, &Delta::End { reason: StopReason::EndToken })).is_empty());
            let mut tally = Tally::default();
            (tally.prompt_tokens, tally.generated_tokens, tally.prefill_seconds) = (3, 2, 0.5);
            let last = &lines(|out| dialect.close(out, &tally))[0];
            assert_eq!((said(last), &last["done"], &last["done_reason"]), (json!(""), &json!(true), &json!("stop")));
            assert_eq!((&last["prompt_eval_count"], &last["eval_count"]), (&json!(3), &json!(2)));
            assert_eq!((&last["prompt_eval_duration"], &last["eval_duration"]), (&json!(500_000_000), &json!(1)));
            assert!(last["total_duration"].as_u64().is_some_and(|duration| duration > 0));
        }
    }

    #[test]
    fn a_heartbeat_is_an_object_and_an_error_a_string() {
        let mut chat = dialect(Endpoint::Chat);
        let beat = &lines(|out| chat.heartbeat(out))[0];
        assert_eq!((&beat["message"]["content"], &beat["done"]), (&json!(""), &json!(false)));
        assert_eq!(lines(|out| chat.fail(out, &ApiError::new(503, "no"))), [json!({"error": "no"})]);
    }

    #[test]
    fn a_whole_answer_has_reasoning_and_tool_calls_in_the_message() {
        let mut choice = Choice::default();
        for delta in [
            Delta::Reasoning { text: "hm".into() },
            text("so"),
            Delta::ToolCall { call: 0, id: "a".into(), name: "add".into() },
            Delta::Arguments { call: 0, json: "{\"x\":1}".into() },
            Delta::End { reason: StopReason::MaxTokens },
        ] {
            choice.push(delta);
        }
        let whole = dialect(Endpoint::Chat).whole(std::slice::from_ref(&choice), &Tally::default());
        let call = json!({"function": {"name": "add", "arguments": {"x": 1}}});
        let message = json!({"role": "assistant", "content": "so", "thinking": "hm", "tool_calls": [call]});
        assert_eq!((&whole["message"], &whole["done_reason"]), (&message, &json!("length")));
        let whole = dialect(Endpoint::Generate).whole(&[choice], &Tally::default());
        assert_eq!((&whole["response"], &whole["thinking"]), (&json!("so"), &json!("hm")));
        let thought = &lines(|out| dialect(Endpoint::Chat).delta(out, 0, &Delta::Reasoning { text: "hm".into() }))[0];
        assert_eq!(thought["message"]["thinking"], "hm");
    }
}
