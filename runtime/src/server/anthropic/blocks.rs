//! An answer's deltas as content blocks that open and close one after the other.
//!
//! Deltas of several calls may come interleaved, blocks may not. So a call's block stays open until its arguments are
//! complete, and what comes of later calls waits for that.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::thought::signature;
use crate::server::dialect::Delta;

/// The id of a call as this API's clients know them. A model's own id stays.
pub(super) fn call_id(id: &str) -> String {
    id.strip_prefix("call_").map_or_else(|| id.to_owned(), |rest| format!("toolu_{rest}"))
}

/// The blocks of one answer, as events.
#[derive(Debug)]
pub(super) struct Blocks {
    shows_thinking: bool,
    open: Option<Open>,
    /// The open block's index, or the next one's.
    index: usize,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
enum Open {
    Text,
    Thinking { text: String },
    Call { call: usize, arguments: Depth },
}

/// A call that begins once the one before it is complete.
#[derive(Debug)]
struct Waiting {
    call: usize,
    id: String,
    name: String,
    json: String,
}

impl Blocks {
    /// No blocks yet. `shows_thinking`: their text is sent, not only their signature.
    pub(super) fn new(shows_thinking: bool) -> Self {
        Self { shows_thinking, open: None, index: 0, waiting: VecDeque::new() }
    }

    /// The events that a delta brings.
    pub(super) fn push(&mut self, delta: &Delta, events: &mut Vec<Value>) {
        match delta {
            Delta::Text { text, .. } if text.is_empty() => {} // held back for a possible stop string or a partial character
            Delta::Text { text, .. } => {
                if !matches!(self.open, Some(Open::Text)) {
                    self.end(events);
                    self.start(Open::Text, &json!({"type": "text", "text": ""}), events);
                }
                self.change(&json!({"type": "text_delta", "text": text}), events);
            }
            Delta::Reasoning { text } => self.reason(text, events),
            Delta::ToolCall { call, id, name } => {
                self.waiting.push_back(Waiting {
                    call: *call,
                    id: call_id(id),
                    name: name.clone(),
                    json: String::new(),
                });
                self.go_on(events);
            }
            Delta::Arguments { call, json } => match self.waiting.iter_mut().find(|waiting| waiting.call == *call) {
                Some(waiting) => waiting.json.push_str(json),
                None => {
                    self.argue(*call, json, events);
                    self.go_on(events);
                }
            },
            Delta::End { .. } => self.end(events),
        }
    }

    fn reason(&mut self, more: &str, events: &mut Vec<Value>) {
        if !matches!(self.open, Some(Open::Thinking { .. })) {
            self.end(events);
            let block = json!({"type": "thinking", "thinking": "", "signature": ""});
            self.start(Open::Thinking { text: String::new() }, &block, events);
        }
        if let Some(Open::Thinking { text }) = &mut self.open {
            text.push_str(more);
        }
        if self.shows_thinking {
            self.change(&json!({"type": "thinking_delta", "thinking": more}), events);
        }
    }

    /// More arguments of the open call.
    fn argue(&mut self, which: usize, json: &str, events: &mut Vec<Value>) {
        let Some(Open::Call { call, arguments }) = &mut self.open else { return };
        if *call == which && !json.is_empty() {
            arguments.read(json);
            self.change(&json!({"type": "input_json_delta", "partial_json": json}), events);
        }
    }

    /// Begins the calls that wait for no other.
    fn go_on(&mut self, events: &mut Vec<Value>) {
        while !matches!(&self.open, Some(Open::Call { arguments, .. }) if !arguments.is_complete())
            && let Some(next) = self.waiting.pop_front()
        {
            self.begin(next, events);
        }
    }

    fn begin(&mut self, Waiting { call, id, name, json }: Waiting, events: &mut Vec<Value>) {
        self.close(events);
        let block = json!({"type": "tool_use", "id": id, "name": name, "input": {}});
        self.start(Open::Call { call, arguments: Depth::default() }, &block, events);
        self.argue(call, &json, events);
    }

    /// Closes all blocks, complete or not.
    fn end(&mut self, events: &mut Vec<Value>) {
        while let Some(next) = self.waiting.pop_front() {
            self.begin(next, events);
        }
        self.close(events);
    }

    fn start(&mut self, open: Open, block: &Value, events: &mut Vec<Value>) {
        self.open = Some(open);
        events.push(json!({"type": "content_block_start", "index": self.index, "content_block": block}));
    }

    fn change(&self, delta: &Value, events: &mut Vec<Value>) {
        events.push(json!({"type": "content_block_delta", "index": self.index, "delta": delta}));
    }

    fn close(&mut self, events: &mut Vec<Value>) {
        let Some(open) = self.open.take() else { return };
        if let Open::Thinking { text } = &open {
            let signature = signature(text, self.shows_thinking);
            self.change(&json!({"type": "signature_delta", "signature": signature}), events);
        }
        events.push(json!({"type": "content_block_stop", "index": self.index}));
        self.index += 1;
    }
}

/// How deep a text of JSON is nested where it ends.
#[derive(Debug, Default)]
struct Depth {
    depth: usize,
    begun: bool,
    in_string: bool,
    escaped: bool,
}

impl Depth {
    fn read(&mut self, json: &str) {
        for byte in json.bytes() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => {
                    self.depth += 1;
                    self.begun = true;
                }
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }

    fn is_complete(&self) -> bool {
        self.begun && self.depth == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::StopReason;

    fn call(call: usize) -> Delta {
        Delta::ToolCall { call, id: format!("call_{call}"), name: format!("f{call}") }
    }

    fn arguments(call: usize, json: &str) -> Delta {
        Delta::Arguments { call, json: json.into() }
    }

    /// The blocks as (type, what their deltas add up to), and whether they opened and closed in order.
    fn blocks(deltas: &[Delta], shows_thinking: bool) -> Vec<(String, String)> {
        let mut blocks = Blocks::new(shows_thinking);
        let mut events = Vec::new();
        deltas.iter().for_each(|delta| blocks.push(delta, &mut events));
        blocks.push(&Delta::End { reason: StopReason::EndToken }, &mut events);
        let (mut found, mut open) = (Vec::<(String, String)>::new(), false);
        for event in events {
            let index = event["index"].as_u64().expect("an index") as usize;
            match event["type"].as_str().expect("a type") {
                "content_block_start" => {
                    assert!(!open && index == found.len(), "{event}");
                    open = true;
                    found.push((event["content_block"]["type"].as_str().expect("a type").to_owned(), String::new()));
                }
                "content_block_delta" => {
                    assert!(open && index == found.len() - 1, "{event}");
                    let delta = event["delta"].as_object().expect("a delta");
                    let text = delta.iter().find(|(name, _)| *name != "type").and_then(|(_, value)| value.as_str());
                    found[index].1 += text.expect("a text");
                }
                "content_block_stop" => {
                    assert!(open && index == found.len() - 1, "{event}");
                    open = false;
                }
                other => panic!("{other}"),
            }
        }
        assert!(!open);
        found
    }

    fn pair(kind: &str, text: &str) -> (String, String) {
        (kind.to_owned(), text.to_owned())
    }

    #[test]
    fn interleaved_calls_become_blocks_one_after_the_other() {
        let text = |text: &str| Delta::Text { text: text.into(), tokens: Vec::new() };
        let deltas = [
            text("Let me "),
            text(""),
            text("see."),
            call(0),
            arguments(0, r#"{"a": "}"#),
            call(1),
            arguments(1, r#"{"b""#),
            arguments(0, r#"\"", "c": {}}"#),
            arguments(1, ": 1}"),
            call(2),
            text("So."),
        ];
        let wanted = [
            pair("text", "Let me see."),
            pair("tool_use", r#"{"a": "}\"", "c": {}}"#),
            pair("tool_use", r#"{"b": 1}"#),
            pair("tool_use", ""),
            pair("text", "So."),
        ];
        assert_eq!(blocks(&deltas, true), wanted);
    }

    #[test]
    fn what_is_cut_off_is_closed_in_order() {
        let deltas = [call(0), arguments(0, "{"), call(1), arguments(1, "{\"x\""), call(2)];
        assert_eq!(blocks(&deltas, true), [pair("tool_use", "{"), pair("tool_use", "{\"x\""), pair("tool_use", "")]);
        assert!(blocks(&[], true).is_empty());
    }

    #[test]
    fn a_thought_ends_with_its_signature_and_may_be_hidden() {
        let deltas = [Delta::Reasoning { text: "so ".into() }, Delta::Reasoning { text: "then".into() }, call(0)];
        let shown = signature("so then", true);
        assert_eq!(blocks(&deltas, true)[0], pair("thinking", &format!("so then{shown}")));
        assert_eq!(blocks(&deltas, false)[0], pair("thinking", &signature("so then", false)));
    }

    #[test]
    fn ids_have_this_apis_form_unless_the_model_chose_them() {
        assert_eq!((call_id("call_0a"), call_id("functions.f:0")), ("toolu_0a".to_owned(), "functions.f:0".to_owned()));
    }
}
