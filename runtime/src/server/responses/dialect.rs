//! Answers as the Responses API has them: a stream of numbered events, or a whole response.
//!
//! An answer is a list of items (reasoning, message, calls), one open at a time: what the next delta belongs to decides whether
//! the open item ends. Whole answers go the same way, with the events dropped, so both forms agree. A stream ends with
//! `response.completed`, `response.incomplete` or `response.failed`.

use std::sync::Arc;

use serde_json::{Value, json};

use super::items::seal;
use super::object::{Object, Status};
use super::store::{Kept, Store};
use super::tools::{Called, ToolNames};
use crate::server::access::Caller;
use crate::server::dialect::{Choice, Delta, Dialect};
use crate::server::http::Response;
use crate::server::openai::{ApiError, Tally, token_logprob};
use crate::session::StopReason;

/// Where a finished response is kept, and what it follows.
pub(super) struct Keeping {
    pub(super) store: Arc<Store>,
    pub(super) caller: Caller,
    /// Items of earlier responses and of the input.
    pub(super) items: Vec<Arc<Value>>,
}

/// What a request wants of its answer's form.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Form {
    pub(super) stream: bool,
    /// Reasoning comes as `encrypted_content`, too.
    pub(super) sealed: bool,
    /// Reasoning comes as a summary, too.
    pub(super) summary: bool,
}

/// One answer.
pub(super) struct Responses {
    object: Object,
    names: ToolNames,
    form: Form,
    keeping: Option<Keeping>,
    sequence: u64,
    /// Items that have ended.
    output: Vec<Value>,
    open: Option<Open>,
    /// Blank text between items, which belongs to a message if more text follows.
    blank: (String, Vec<Value>),
    reason: Option<StopReason>,
}

/// The item that deltas go to.
enum Open {
    Reasoning { text: String },
    Message { text: String, logprobs: Vec<Value> },
    Call { id: String, called: Called, arguments: String },
}

impl Responses {
    pub(super) fn new(object: Object, names: ToolNames, form: Form, keeping: Option<Keeping>) -> Self {
        Self {
            object,
            names,
            form,
            keeping,
            sequence: 0,
            output: Vec::new(),
            open: None,
            blank: Default::default(),
            reason: None,
        }
    }

    fn event(&mut self, out: &mut Vec<u8>, kind: &str, mut event: Value) {
        event["type"] = kind.into();
        event["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        out.extend_from_slice(format!("event: {kind}\ndata: {event}\n\n").as_bytes());
    }

    /// An event about the open item.
    fn about(&mut self, out: &mut Vec<u8>, kind: &str, mut event: Value) {
        event["output_index"] = self.output.len().into();
        event["item_id"] = self.item_id().into();
        self.event(out, kind, event);
    }

    /// An event about the text of the open item.
    fn about_text(&mut self, out: &mut Vec<u8>, kind: &str, mut event: Value) {
        event["content_index"] = 0.into();
        self.about(out, kind, event);
    }

    /// An event about the summary of the open item.
    fn about_summary(&mut self, out: &mut Vec<u8>, kind: &str, mut event: Value) {
        event["summary_index"] = 0.into();
        self.about(out, kind, event);
    }

    fn item_id(&self) -> String {
        let prefix = match &self.open {
            Some(Open::Reasoning { .. }) => "rs",
            Some(Open::Call { called, .. }) if called.custom => "ctc",
            Some(Open::Call { .. }) => "fc",
            Some(Open::Message { .. }) | None => "msg",
        };
        self.object.item_id(prefix, self.output.len())
    }

    /// The open item as it is now.
    fn item(&self, status: &str) -> Value {
        let id = self.item_id();
        match &self.open {
            None => Value::Null,
            Some(Open::Reasoning { text }) => {
                let begun = !text.is_empty();
                let content: Vec<Value> = begun.then(|| reasoning_part(text)).into_iter().collect();
                let summary: Vec<Value> =
                    (begun && self.form.summary).then(|| summary_part(text)).into_iter().collect();
                let sealed = (begun && self.form.sealed).then(|| seal(text));
                json!({"type": "reasoning", "id": id, "summary": summary, "content": content,
                       "encrypted_content": sealed, "status": status})
            }
            Some(Open::Message { text, logprobs }) => {
                let done = status != "in_progress";
                let content: Vec<Value> = done.then(|| text_part(text, logprobs)).into_iter().collect();
                json!({"type": "message", "id": id, "role": "assistant", "content": content, "status": status})
            }
            Some(Open::Call { id: call, called, arguments }) => {
                let (kind, what) =
                    if called.custom { ("custom_tool_call", "input") } else { ("function_call", "arguments") };
                let given = if called.custom { input_of(arguments) } else { arguments.clone() };
                let mut item = json!({"type": kind, "id": id, "call_id": call, "name": called.name, "status": status});
                item[what] = given.into();
                if let Some(namespace) = &called.namespace {
                    item["namespace"] = namespace.as_str().into();
                }
                item
            }
        }
    }

    /// Ends the open item and begins this one.
    fn begin(&mut self, out: &mut Vec<u8>, open: Open) {
        self.end_item(out, "completed");
        self.open = Some(open);
        let event = json!({"output_index": self.output.len(), "item": self.item("in_progress")});
        self.event(out, "response.output_item.added", event);
        match &self.open {
            Some(Open::Message { .. }) => {
                self.about_text(out, "response.content_part.added", json!({"part": text_part("", &[])}));
            }
            Some(Open::Reasoning { .. }) => {
                self.about_text(out, "response.content_part.added", json!({"part": reasoning_part("")}));
                if self.form.summary {
                    let event = json!({"part": summary_part("")});
                    self.about_summary(out, "response.reasoning_summary_part.added", event);
                }
            }
            _ => {}
        }
    }

    /// Ends the open item.
    fn end_item(&mut self, out: &mut Vec<u8>, status: &str) {
        let item = self.item(status);
        match &self.open {
            None => return,
            Some(Open::Message { text, logprobs }) => {
                let part = text_part(text, logprobs);
                let done = json!({"text": text, "logprobs": logprobs});
                self.about_text(out, "response.output_text.done", done);
                self.about_text(out, "response.content_part.done", json!({ "part": part }));
            }
            Some(Open::Reasoning { text }) => {
                let (part, summary, done) = (reasoning_part(text), summary_part(text), json!({ "text": text }));
                self.about_text(out, "response.reasoning_text.done", done.clone());
                self.about_text(out, "response.content_part.done", json!({ "part": part }));
                if self.form.summary {
                    self.about_summary(out, "response.reasoning_summary_text.done", done);
                    self.about_summary(out, "response.reasoning_summary_part.done", json!({ "part": summary }));
                }
            }
            Some(Open::Call { called, .. }) if called.custom => {
                let input = item["input"].clone();
                self.about(out, "response.custom_tool_call_input.delta", json!({ "delta": input }));
                self.about(out, "response.custom_tool_call_input.done", json!({ "input": input }));
            }
            Some(Open::Call { called, arguments, .. }) => {
                let done = json!({"arguments": arguments, "name": called.name});
                self.about(out, "response.function_call_arguments.done", done);
            }
        }
        self.event(out, "response.output_item.done", json!({"output_index": self.output.len(), "item": item}));
        self.output.push(item);
        self.open = None;
    }

    fn text(&mut self, out: &mut Vec<u8>, text: &str, logprobs: Vec<Value>) {
        let (mut text, mut new) = (text.to_owned(), logprobs);
        if !matches!(self.open, Some(Open::Message { .. })) {
            let (mut blank, mut before) = std::mem::take(&mut self.blank);
            blank.push_str(&text);
            before.append(&mut new);
            if blank.trim().is_empty() {
                self.blank = (blank, before);
                return;
            }
            (text, new) = (blank, before);
            self.begin(out, Open::Message { text: String::new(), logprobs: Vec::new() });
        }
        if let Some(Open::Message { text: whole, logprobs }) = &mut self.open {
            whole.push_str(&text);
            logprobs.extend(new.iter().cloned());
        }
        if !text.is_empty() || !new.is_empty() {
            self.about_text(out, "response.output_text.delta", json!({"delta": text, "logprobs": new}));
        }
    }

    fn reasoning(&mut self, out: &mut Vec<u8>, text: &str) {
        if text.is_empty() {
            return;
        }
        if !matches!(self.open, Some(Open::Reasoning { .. })) {
            self.begin(out, Open::Reasoning { text: String::new() });
        }
        if let Some(Open::Reasoning { text: whole }) = &mut self.open {
            whole.push_str(text);
        }
        self.about_text(out, "response.reasoning_text.delta", json!({ "delta": text }));
        if self.form.summary {
            self.about_summary(out, "response.reasoning_summary_text.delta", json!({ "delta": text }));
        }
    }

    fn arguments(&mut self, out: &mut Vec<u8>, fragment: &str) {
        let Some(Open::Call { arguments, called, .. }) = &mut self.open else { return };
        arguments.push_str(fragment);
        if !called.custom && !fragment.is_empty() {
            self.about(out, "response.function_call_arguments.delta", json!({ "delta": fragment }));
        }
    }

    /// Whether the answer was cut off.
    fn is_cut(&self) -> bool {
        matches!(self.reason, Some(StopReason::MaxTokens | StopReason::ContextFull))
    }

    /// Ends the last item; an answer of nothing is an empty message.
    fn end(&mut self, out: &mut Vec<u8>) {
        if self.output.is_empty() && self.open.is_none() {
            let (text, logprobs) = std::mem::take(&mut self.blank);
            self.begin(out, Open::Message { text, logprobs });
        }
        let status = if self.is_cut() { "incomplete" } else { "completed" };
        self.end_item(out, status);
    }

    /// The finished response, which is kept if the request says so.
    fn finished(&mut self, tally: &Tally) -> Value {
        let status = if self.is_cut() { Status::Incomplete(tally) } else { Status::Completed(tally) };
        let object = self.object.at(status, &self.output);
        if let Some(Keeping { store, caller, mut items }) = self.keeping.take() {
            items.extend(self.output.iter().cloned().map(Arc::new));
            store.keep(caller, &self.object.id, Kept { object: object.clone(), items });
        }
        object
    }
}

impl Dialect for Responses {
    fn open(&mut self, out: &mut Vec<u8>) {
        for kind in ["response.created", "response.in_progress"] {
            let response = self.object.at(Status::InProgress, &[]);
            self.event(out, kind, json!({ "response": response }));
        }
    }

    fn delta(&mut self, out: &mut Vec<u8>, _: usize, delta: &Delta) {
        match delta {
            Delta::Text { text, tokens } => {
                let reported = tokens.iter().filter(|token| token.logprob.is_some());
                let logprobs: Vec<Value> = reported.map(token_logprob).collect();
                if !text.is_empty() || !logprobs.is_empty() {
                    self.text(out, text, logprobs);
                }
            }
            Delta::Reasoning { text } => self.reasoning(out, text),
            Delta::ToolCall { id, name, .. } => {
                self.blank = Default::default();
                let called = self.names.called(name);
                self.begin(out, Open::Call { id: id.clone(), called, arguments: String::new() });
            }
            Delta::Arguments { json, .. } => self.arguments(out, json),
            Delta::End { reason } => {
                self.reason = Some(reason.clone());
                self.end(out);
            }
        }
    }

    fn heartbeat(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b": still working\n\n");
    }

    fn close(&mut self, out: &mut Vec<u8>, tally: &Tally) {
        let kind = if self.is_cut() { "response.incomplete" } else { "response.completed" };
        let response = self.finished(tally);
        self.event(out, kind, json!({ "response": response }));
    }

    fn fail(&mut self, out: &mut Vec<u8>, error: &ApiError) {
        let response = self.object.at(Status::Failed(error), &self.output);
        self.event(out, "response.failed", json!({ "response": response }));
    }

    fn whole(&mut self, choices: &[Choice], tally: &Tally) -> Value {
        let mut events = Vec::new();
        for choice in choices {
            let text = Delta::Text { text: choice.text.clone(), tokens: choice.tokens.clone() };
            let mut deltas = vec![Delta::Reasoning { text: choice.reasoning.clone() }, text];
            for (call, (id, name, arguments)) in choice.calls.iter().enumerate() {
                deltas.push(Delta::ToolCall { call, id: id.clone(), name: name.clone() });
                deltas.push(Delta::Arguments { call, json: arguments.clone() });
            }
            deltas.extend(choice.reason.clone().map(|reason| Delta::End { reason }));
            deltas.iter().for_each(|delta| self.delta(&mut events, 0, delta));
        }
        self.finished(tally)
    }

    /// A stream says in its events that the prompt is too long: agents then shorten it.
    fn refuse(&self, error: &ApiError) -> Response {
        if !self.form.stream || error.code != Some("context_length_exceeded") {
            return error.response();
        }
        let mut stream = Self::new(self.object.clone(), ToolNames::default(), self.form, None);
        let mut out = Vec::new();
        stream.open(&mut out);
        stream.fail(&mut out, error);
        Response { body: out.into(), ..Response::empty(200) }
            .with("Content-Type", self.content_type())
            .with("Cache-Control", "no-store")
    }
}

fn text_part(text: &str, logprobs: &[Value]) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs})
}

fn reasoning_part(text: &str) -> Value {
    json!({"type": "reasoning_text", "text": text})
}

fn summary_part(text: &str) -> Value {
    json!({"type": "summary_text", "text": text})
}

/// The text that a custom tool is given: `input` of its arguments.
fn input_of(arguments: &str) -> String {
    let parsed: Option<Value> = serde_json::from_str(arguments).ok();
    let input = parsed.as_ref().and_then(|parsed| parsed.get("input")).and_then(Value::as_str);
    input.map_or_else(|| arguments.to_owned(), str::to_owned)
}
