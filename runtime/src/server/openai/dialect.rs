//! OpenAI's two endpoints as a dialect: a stream of server-sent events, or a whole answer.
//!
//! The last chunk with a `finish_reason` carries `timings`; with `include_usage`, a chunk without choices follows and carries
//! `usage` and `timings` instead; no other chunk has `usage`, by whose name some clients tell that one. Errors within a stream
//! are `data: {"error": …}`, which OpenAI's clients raise.

use serde_json::{Value, json};

use super::answer::{Answer, Endpoint, LogProbs, Tally};
use super::error::ApiError;
use super::progress::Progress;
use crate::server::dialect::{Choice, Delta, Dialect};
use crate::server::http::Response;

/// One answer in OpenAI's format.
pub struct OpenAi {
    answer: Answer,
    include_usage: bool,
    context_length: usize,
    logprobs: Vec<LogProbs>,
    /// Which choices called a tool.
    called: Vec<bool>,
    /// Choices that have not ended.
    running: usize,
    /// The last choice's final chunk, held back until the timings are known.
    last: Option<Value>,
    /// How much of the prompt has been read is told, if that is wanted.
    progress: Option<Progress>,
    /// It was asked for by a path of llama.cpp's server.
    native: bool,
}

impl OpenAi {
    /// A dialect for an answer with `choices` choices.
    pub fn new(answer: Answer, choices: usize, include_usage: bool, context_length: usize) -> Self {
        let logprobs = vec![LogProbs::default(); choices];
        let called = vec![false; choices];
        let running = choices;
        Self {
            answer,
            include_usage,
            context_length,
            logprobs,
            called,
            running,
            last: None,
            progress: None,
            native: false,
        }
    }

    /// Tells how much of the prompt has been read.
    pub fn with_progress(mut self, wanted: bool) -> Self {
        self.progress = wanted.then(Progress::default);
        self
    }

    /// Refuses as llama.cpp's server does.
    pub fn for_native(mut self, native: bool) -> Self {
        self.native = native;
        self
    }

    fn send_progress(&self, out: &mut Vec<u8>, shown: Value) {
        let choice = match self.answer.endpoint {
            Endpoint::Chat => self.answer.message_part(0, json!({})),
            Endpoint::Completions => self.answer.piece(0, "", Value::Null),
        };
        let mut chunk = self.answer.chunk(vec![choice]);
        chunk.insert("prompt_progress".into(), shown);
        event(out, &chunk.into());
    }

    fn send(&self, out: &mut Vec<u8>, choice: Value) {
        event(out, &self.answer.chunk(vec![choice]).into());
    }
}

impl Dialect for OpenAi {
    fn open(&mut self, out: &mut Vec<u8>) {
        for index in 0..self.logprobs.len() {
            if let Some(choice) = self.answer.opening(index) {
                self.send(out, choice);
            }
        }
    }

    fn progress(&mut self, out: &mut Vec<u8>, index: usize, done: usize, total: usize) {
        if let Some(progress) = self.progress.as_mut().filter(|_| index == 0) {
            let shown = progress.of(done, total);
            self.send_progress(out, shown);
        }
    }

    fn delta(&mut self, out: &mut Vec<u8>, index: usize, delta: &Delta) {
        if let Some(shown) = self.progress.as_mut().filter(|_| index == 0).and_then(Progress::end) {
            self.send_progress(out, shown);
        }
        let choice = match delta {
            Delta::Text { text, tokens } => {
                let logprobs = self.logprobs[index].value(self.answer.endpoint, tokens);
                if text.is_empty() && logprobs.is_null() {
                    return; // text held back for a possible stop string or a partial character
                }
                self.answer.piece(index, text, logprobs)
            }
            Delta::End { reason } => {
                let choice = self.answer.ending(index, reason, self.called[index]);
                self.running = self.running.saturating_sub(1);
                if self.running == 0 {
                    self.last = Some(choice);
                    return;
                }
                choice
            }
            // Completions have no reasoning or tool calls.
            _ if self.answer.endpoint == Endpoint::Completions => return,
            Delta::Reasoning { text } => self.answer.message_part(index, json!({ "reasoning_content": text })),
            Delta::ToolCall { call, id, name } => {
                self.called[index] = true;
                let begun =
                    json!({"index": call, "id": id, "type": "function", "function": {"name": name, "arguments": ""}});
                self.answer.message_part(index, json!({ "tool_calls": [begun] }))
            }
            Delta::Arguments { call, json } => {
                let more = json!({"index": call, "function": {"arguments": json}});
                self.answer.message_part(index, json!({ "tool_calls": [more] }))
            }
        };
        self.send(out, choice);
    }

    fn heartbeat(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b": still working\n\n");
    }

    fn close(&mut self, out: &mut Vec<u8>, tally: &Tally) {
        let timings = tally.timings(self.context_length);
        let last = self.last.take().into_iter().collect();
        let mut ending = self.answer.chunk(last);
        if self.include_usage {
            event(out, &ending.into());
            ending = self.answer.chunk(Vec::new());
            ending.insert("usage".into(), tally.usage());
        }
        ending.insert("timings".into(), timings);
        event(out, &ending.into());
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn fail(&mut self, out: &mut Vec<u8>, error: &ApiError) {
        event(out, &error.body());
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn whole(&mut self, choices: &[Choice], tally: &Tally) -> Value {
        let choices: Vec<Value> = choices
            .iter()
            .enumerate()
            .map(|(index, choice)| {
                let logprobs = self.logprobs[index].value(self.answer.endpoint, &choice.tokens);
                self.answer.choice(index, choice, logprobs)
            })
            .collect();
        self.answer.whole(&choices, tally.usage(), tally.timings(self.context_length))
    }

    fn refuse(&self, error: &ApiError) -> Response {
        if self.native { error.native_response() } else { error.response() }
    }
}

/// Writes JSON on one line, since a line break would end the event's data.
fn event(out: &mut Vec<u8>, data: &Value) {
    out.extend_from_slice(format!("data: {data}\n\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::StopReason;

    fn dialect(endpoint: Endpoint, choices: usize, include_usage: bool) -> OpenAi {
        OpenAi::new(Answer::new(endpoint, "m", 1), choices, include_usage, 100)
    }

    /// The events of one step.
    fn events(step: impl FnOnce(&mut Vec<u8>)) -> Vec<Value> {
        let mut out = Vec::new();
        step(&mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.is_empty() || text.ends_with("\n\n"));
        let data = text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
        data.map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    fn text(text: &str) -> Delta {
        Delta::Text { text: text.into(), tokens: Vec::new() }
    }

    fn end(reason: StopReason) -> Delta {
        Delta::End { reason }
    }

    #[test]
    fn the_last_choice_carries_the_timings() {
        let mut chat = dialect(Endpoint::Chat, 2, false);
        assert_eq!(events(|out| chat.open(out)).len(), 2);
        assert_eq!(events(|out| chat.delta(out, 1, &text("b")))[0]["choices"][0]["delta"]["content"], "b");
        assert!(events(|out| chat.delta(out, 1, &text(""))).is_empty());
        let first = events(|out| chat.delta(out, 1, &end(StopReason::EndToken)));
        assert!(first[0]["choices"][0]["finish_reason"] == "stop" && first[0]["timings"].is_null());
        assert!(events(|out| chat.delta(out, 0, &end(StopReason::MaxTokens))).is_empty());
        let last = events(|out| chat.close(out, &Tally::default()));
        assert!(
            last.len() == 1 && last[0]["choices"][0]["finish_reason"] == "length" && last[0]["timings"].is_object()
        );
    }

    #[test]
    fn usage_comes_in_a_chunk_of_its_own() {
        let mut completion = dialect(Endpoint::Completions, 1, true);
        assert!(events(|out| completion.open(out)).is_empty());
        let piece = events(|out| completion.delta(out, 0, &text("a")));
        assert!(piece[0]["choices"][0]["text"] == "a" && piece[0].get("usage").is_none());
        completion.delta(&mut Vec::new(), 0, &end(StopReason::EndToken));
        let last = events(|out| completion.close(out, &Tally::default()));
        assert!(last[0]["choices"][0]["finish_reason"] == "stop" && last[0]["timings"].is_null());
        assert!(last[1]["choices"] == json!([]) && last[1]["usage"].is_object() && last[1]["timings"].is_object());
    }

    #[test]
    fn reasoning_and_tool_calls_are_encoded_in_a_chat() {
        let deltas = [
            Delta::Reasoning { text: "hm".into() },
            Delta::ToolCall { call: 0, id: "a".into(), name: "add".into() },
            Delta::Arguments { call: 0, json: "{}".into() },
        ];
        let mut chat = dialect(Endpoint::Chat, 1, false);
        let shown =
            deltas.each_ref().map(|delta| events(|out| chat.delta(out, 0, delta))[0]["choices"][0]["delta"].clone());
        assert_eq!(shown[0], json!({"reasoning_content": "hm"}));
        assert_eq!(shown[1]["tool_calls"][0]["function"], json!({"name": "add", "arguments": ""}));
        assert_eq!(shown[2]["tool_calls"][0], json!({"index": 0, "function": {"arguments": "{}"}}));
        chat.delta(&mut Vec::new(), 0, &end(StopReason::EndToken));
        let last = events(|out| chat.close(out, &Tally::default()));
        assert_eq!(last[0]["choices"][0]["finish_reason"], "tool_calls");
        let mut choice = Choice::default();
        deltas.into_iter().chain([end(StopReason::EndToken)]).for_each(|delta| choice.push(delta));
        let whole = &chat.whole(&[choice], &Tally::default())["choices"][0];
        assert_eq!(whole["finish_reason"], "tool_calls");
        assert_eq!(whole["message"]["reasoning_content"], "hm");
        assert_eq!(whole["message"]["tool_calls"][0]["function"], json!({"name": "add", "arguments": "{}"}));
        let mut completion = dialect(Endpoint::Completions, 1, false);
        assert!(events(|out| completion.delta(out, 0, &Delta::Reasoning { text: "hm".into() })).is_empty());
    }

    #[test]
    fn an_error_ends_the_stream() {
        let error = ApiError::new(503, "no").code("overloaded");
        assert_eq!(events(|out| dialect(Endpoint::Chat, 1, false).fail(out, &error)), [error.body()]);
    }
}
