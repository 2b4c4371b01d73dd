//! An answer as a stream of deltas, and how an API encodes it.
//!
//! Streaming is written once (`generate`): it turns the engine's events into deltas, watches for a client that
//! disconnects and for shutdown, sends the heartbeat, and collects whole answers. An API is a `Dialect`: it encodes deltas
//! and knows neither sockets nor the engine.

use serde_json::Value;

use super::http::Response;
use super::openai::{ApiError, Tally};
pub use crate::session::Delta;
use crate::session::{StopReason, TextToken};

/// A complete choice.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// The answer.
    pub text: String,
    /// Reasoning text before it.
    pub reasoning: String,
    /// Tool calls as (id, name, arguments as JSON text).
    pub calls: Vec<(String, String, String)>,
    /// The answer's tokens.
    pub tokens: Vec<TextToken>,
    /// Why it ended.
    pub reason: Option<StopReason>,
}

impl Choice {
    /// Appends a delta.
    pub fn push(&mut self, delta: Delta) {
        match delta {
            Delta::Text { text, tokens } => {
                self.text.push_str(&text);
                self.tokens.extend(tokens);
            }
            Delta::Reasoning { text } => self.reasoning.push_str(&text),
            Delta::ToolCall { id, name, .. } => self.calls.push((id, name, String::new())),
            Delta::Arguments { call, json } => {
                if let Some((_, _, arguments)) = self.calls.get_mut(call) {
                    arguments.push_str(&json);
                }
            }
            Delta::End { reason } => self.reason = Some(reason),
        }
    }
}

/// Encodes answers for an API. Stream methods append bytes to `out`, which is sent at once.
pub trait Dialect: Send {
    /// Content type of a stream.
    fn content_type(&self) -> &'static str {
        "text/event-stream; charset=utf-8"
    }

    /// A stream begins.
    fn open(&mut self, out: &mut Vec<u8>);

    /// `done` of a prompt's `total` tokens have been read; the first time, those that were kept from before.
    fn progress(&mut self, _out: &mut Vec<u8>, _choice: usize, _done: usize, _total: usize) {}

    /// A choice changes.
    fn delta(&mut self, out: &mut Vec<u8>, choice: usize, delta: &Delta);

    /// Bytes without meaning that keep proxies from closing an idle stream.
    fn heartbeat(&self, out: &mut Vec<u8>);

    /// All choices have ended.
    fn close(&mut self, out: &mut Vec<u8>, tally: &Tally);

    /// The stream ends early, with an error.
    fn fail(&mut self, out: &mut Vec<u8>, error: &ApiError);

    /// The answer as one JSON body.
    fn whole(&mut self, choices: &[Choice], tally: &Tally) -> Value;

    /// An error response in place of an answer.
    fn refuse(&self, error: &ApiError) -> Response;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_the_sum_of_its_deltas() {
        let mut choice = Choice::default();
        let text = |text: &str| Delta::Text { text: text.into(), tokens: Vec::new() };
        for delta in [
            Delta::Reasoning { text: "so ".into() },
            Delta::Reasoning { text: "then".into() },
            text("Let me "),
            text("see."),
            Delta::ToolCall { call: 0, id: "a".into(), name: "add".into() },
            Delta::Arguments { call: 0, json: "{\"x\":".into() },
            Delta::ToolCall { call: 1, id: "b".into(), name: "now".into() },
            Delta::Arguments { call: 0, json: " 1}".into() },
            Delta::Arguments { call: 1, json: "{}".into() },
            Delta::Arguments { call: 2, json: "of no call".into() },
            Delta::End { reason: StopReason::EndToken },
        ] {
            choice.push(delta);
        }
        let call = |id: &str, name: &str, json: &str| (id.to_string(), name.to_string(), json.to_string());
        assert_eq!((choice.text.as_str(), choice.reasoning.as_str()), ("Let me see.", "so then"));
        assert_eq!(choice.calls, [call("a", "add", "{\"x\": 1}"), call("b", "now", "{}")]);
        assert_eq!(choice.reason, Some(StopReason::EndToken));
    }
}
