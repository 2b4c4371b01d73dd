//! An answer as a stream of deltas, and what an API makes of it.
//!
//! Streaming is written once (`generate`): it turns the engine's events into deltas, looks after the client, the stop
//! signal and the heartbeat, and collects what a whole answer needs. An API is a `Dialect`: it shapes what it is given and
//! knows neither sockets nor the engine.

use serde_json::Value;

use super::http::Response;
use super::openai::{ApiError, Tally};
use crate::session::{StopReason, TextToken};

/// What happens next in one choice of an answer.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // the variants say what their fields are
pub enum Delta {
    /// Text of the answer, and the tokens it came from (with log-probabilities where they were asked for). Text may be held
    /// back behind its tokens, so either may be empty.
    Text { text: String, tokens: Vec<TextToken> },
    /// Text that the model thinks before it answers.
    Reasoning { text: String },
    /// A call of a tool begins; calls of a choice are numbered from 0.
    ToolCall { call: usize, id: String, name: String },
    /// More of a call's arguments, a piece of JSON.
    Arguments { call: usize, json: String },
    /// The choice is whole.
    End { reason: StopReason },
}

/// A whole choice.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// The answer.
    pub text: String,
    /// What the model thought before it.
    pub reasoning: String,
    /// Calls of tools: id, name, arguments as JSON.
    pub calls: Vec<(String, String, String)>,
    /// The answer's tokens.
    pub tokens: Vec<TextToken>,
    /// Why it ended.
    pub reason: Option<StopReason>,
}

impl Choice {
    /// Takes the next delta.
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

/// What an API makes of an answer. What goes to the client is appended to `out`, and sent at once.
pub trait Dialect: Send {
    /// The type of a stream's content.
    fn content_type(&self) -> &'static str {
        "text/event-stream; charset=utf-8"
    }

    /// A stream begins.
    fn open(&mut self, out: &mut Vec<u8>);

    /// A choice goes on.
    fn delta(&mut self, out: &mut Vec<u8>, choice: usize, delta: &Delta);

    /// Something that keeps proxies from closing a silent stream.
    fn heartbeat(&self, out: &mut Vec<u8>);

    /// All choices have ended.
    fn close(&mut self, out: &mut Vec<u8>, tally: &Tally);

    /// The stream ends early.
    fn fail(&mut self, out: &mut Vec<u8>, error: &ApiError);

    /// The answer in one piece.
    fn whole(&mut self, choices: &[Choice], tally: &Tally) -> Value;

    /// An error in place of an answer.
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
