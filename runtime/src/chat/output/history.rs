//! Messages of earlier turns, from OpenAI's form to what a template wants; and tools for templates that know none.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Map, Value, json};

use super::families::{Calls, Format, Id, Objects};
use super::probe::{Habits, Reasoning};
use super::tree::{self, Tree};
use crate::chat::tools::{Tool, ToolChoice, Tools};

/// Adapts messages in OpenAI's form, whose calls have their arguments as text.
pub(super) fn adapt(format: &Format, habits: &Habits, messages: &mut Vec<Value>) {
    let mut ids = Ids {
        kimi: matches!(&format.calls, Calls::Named(calls) if calls.id == Id::Kimi),
        short: habits.short_ids,
        seen: 0,
    };
    let mut renamed = Map::new();
    for message in messages.iter_mut().filter_map(Value::as_object_mut) {
        ids.rename(message, &mut renamed);
        place_reasoning(format, habits.reasoning, message);
        if habits.calls {
            adapt_arguments(habits.text_arguments, message);
        } else {
            calls_as_text(format, message);
        }
    }
    if habits.calls && habits.single_calls {
        part_calls(messages);
    }
    if !habits.results {
        results_as_text(messages);
    }
}

/// New ids where a format has its own kind.
struct Ids {
    kimi: bool,
    short: bool,
    seen: usize,
}

impl Ids {
    fn rename(&mut self, message: &mut Map<String, Value>, renamed: &mut Map<String, Value>) {
        for call in message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
            let old = call["id"].as_str().unwrap_or_default().to_owned();
            let name = call["function"]["name"].as_str().unwrap_or_default();
            if let Some(new) = self.new_id(&old, name) {
                call["id"] = new.as_str().into();
                renamed.insert(old, new.into());
            }
            self.seen += 1;
        }
        if let Some(new) = message.get("tool_call_id").and_then(Value::as_str).and_then(|old| renamed.get(old)) {
            message.insert("tool_call_id".to_owned(), new.clone());
        }
    }

    fn new_id(&self, old: &str, name: &str) -> Option<String> {
        if self.kimi && !old.starts_with("functions.") {
            return Some(format!("functions.{name}:{}", self.seen));
        }
        let fits = old.len() == 9 && old.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !self.short || fits {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        (old, self.seen).hash(&mut hasher);
        Some(format!("{:09x}", hasher.finish() & 0xf_ffff_ffff))
    }
}

fn adapt_arguments(text: bool, message: &mut Map<String, Value>) {
    for call in message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
        let arguments = &mut call["function"]["arguments"];
        if text {
            if !arguments.is_string() {
                *arguments = arguments.to_string().into();
            }
            continue;
        }
        let object =
            arguments.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok()).filter(Value::is_object);
        if let Some(object) = object {
            *arguments = object;
        } else if !arguments.is_object() {
            // What is no object came from a model without a grammar; templates go through members.
            *arguments = json!({"arguments": arguments});
        }
    }
}

fn place_reasoning(format: &Format, place: Reasoning, message: &mut Map<String, Value>) {
    if place == Reasoning::Content || !message.contains_key("reasoning_content") {
        return;
    }
    let Some(thought) = message.shift_remove("reasoning_content") else { return };
    let content = message.get("content").and_then(Value::as_str).unwrap_or_default().to_owned();
    match place {
        Reasoning::Part => {
            let parts = json!([{"type": "thinking", "thinking": thought}, {"type": "text", "text": content}]);
            message.insert("content".to_owned(), parts);
        }
        Reasoning::Short => {
            message.insert("reasoning".to_owned(), thought);
        }
        _ => {
            message.insert("thinking".to_owned(), thought);
        }
    }
    // gpt-oss's template takes one text beside calls.
    let both = format.channels && message.contains_key("tool_calls") && !content.is_empty();
    if let Some(thought) = message.get("thinking").and_then(Value::as_str).filter(|_| both) {
        let joined = format!("{thought}\n\n{content}");
        message.insert("thinking".to_owned(), joined.into());
        message.insert("content".to_owned(), "".into());
    }
}

/// Calls as the model wrote them, where the template leaves them out.
fn calls_as_text(format: &Format, message: &mut Map<String, Value>) {
    let Some(Value::Array(calls)) = message.shift_remove("tool_calls") else { return };
    let mut text = message.get("content").and_then(Value::as_str).unwrap_or_default().to_owned();
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(&written(format, &calls));
    message.insert("content".to_owned(), text.into());
}

/// Calls as a model writes them.
fn written(format: &Format, calls: &[Value]) -> String {
    let each = calls.iter().map(|call| {
        let function = &call["function"];
        let arguments = function["arguments"].as_str().map_or_else(|| function["arguments"].to_string(), str::to_owned);
        (call["id"].as_str().unwrap_or_default(), function["name"].as_str().unwrap_or_default(), arguments)
    });
    match &format.calls {
        Calls::Python(python) => {
            let calls: Vec<String> = each.map(|(_, name, arguments)| python_call(name, &arguments)).collect();
            format!("{}[{}]{}", python.open, calls.join(", "), python.close)
        }
        Calls::Objects(Objects { open, close, keys: (name_key, key), list: true }) if !key.is_empty() => {
            let each =
                each.map(|(_, name, arguments)| format!("{{\"{name_key}\": \"{name}\", \"{key}\": {arguments}}}"));
            format!("{open}[{}]{close}", each.collect::<Vec<_>>().join(", "))
        }
        Calls::Named(named) if named.id == Id::Kimi => {
            let each = each
                .map(|(id, _, arguments)| format!("{}{id}{}{arguments}{}", named.open, named.between[0], named.close));
            let (begin, end) = format.section.as_ref().map_or(("", ""), |section| (&*section.open, &*section.close));
            format!("{begin}{}{end}", each.collect::<String>())
        }
        _ => {
            let each = each.map(|(_, name, arguments)| {
                format!("<tool_call>\n{{\"name\": \"{name}\", \"arguments\": {arguments}}}\n</tool_call>")
            });
            each.collect::<Vec<_>>().join("\n")
        }
    }
}

fn python_call(name: &str, arguments: &str) -> String {
    let members = match tree::whole(arguments) {
        Some(Tree::Object(members)) => members,
        _ => Vec::new(),
    };
    let members: Vec<String> = members.iter().map(|(key, value)| format!("{key}={}", value.python())).collect();
    format!("{name}({})", members.join(", "))
}

/// A message for each call, with its result behind it.
fn part_calls(messages: &mut Vec<Value>) {
    let mut out: Vec<Value> = Vec::with_capacity(messages.len());
    let mut rest = std::mem::take(messages).into_iter().peekable();
    while let Some(message) = rest.next() {
        let calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
        if calls.len() < 2 {
            out.push(message);
            continue;
        }
        let mut results = Vec::new();
        while let Some(result) = rest.next_if(|next| next["role"] == "tool") {
            results.push(result);
        }
        for (index, call) in calls.into_iter().enumerate() {
            let own = results.iter().position(|result| result["tool_call_id"] == call["id"]);
            let mut single = message.clone();
            if index > 0 {
                single["content"] = "".into();
            }
            single["tool_calls"] = json!([call]);
            out.push(single);
            out.extend(own.map(|own| results.remove(own)));
        }
        out.extend(results);
    }
    *messages = out;
}

/// Results as a user's words, those of one answer together: templates that know no results want turns to alternate.
fn results_as_text(messages: &mut Vec<Value>) {
    let mut out: Vec<Value> = Vec::with_capacity(messages.len());
    let mut open = false;
    for mut message in messages.drain(..) {
        let role = message["role"].as_str().unwrap_or_default().to_owned();
        let content = message["content"].as_str().unwrap_or_default().to_owned();
        match (role.as_str(), out.last_mut().filter(|_| open)) {
            ("tool", last) => {
                let result = format!("<tool_response>\n{content}\n</tool_response>");
                match last {
                    Some(last) => append(last, &result),
                    None => out.push(json!({"role": "user", "content": result})),
                }
                open = true;
            }
            ("user", Some(last)) if message["content"].is_string() => {
                append(last, &content);
                open = false;
            }
            _ => {
                out.push(message.take());
                open = false;
            }
        }
    }
    *messages = out;
}

fn append(message: &mut Value, text: &str) {
    let own = message["content"].as_str().unwrap_or_default();
    message["content"] = format!("{own}\n{text}").into();
}

/// Tells a model of tools whose template knows none, in the words of Hermes's format, which most models have seen.
pub(super) fn introduce(habits: &Habits, tools: &Tools, messages: &mut Vec<Value>) {
    let described: Vec<String> = tools.list.iter().map(described).collect();
    let must = match &tools.choice {
        ToolChoice::Required => "\nCall at least one of them.".to_owned(),
        ToolChoice::Named(name) => format!("\nCall `{name}`."),
        _ => String::new(),
    };
    let text = format!(
        "# Tools\n\nYou may call functions to answer. These are their signatures:\n<tools>\n{}\n</tools>\n\n\
        To call one, write an object with its name and arguments within <tool_call></tool_call>:\n\
        <tool_call>\n{{\"name\": \"<name>\", \"arguments\": {{<arguments>}}}}\n</tool_call>{must}",
        described.join("\n")
    );
    instruct(habits, text, messages);
}

/// Tells the model something before the conversation: behind the system message, if there is one.
pub(super) fn instruct(habits: &Habits, text: String, messages: &mut Vec<Value>) {
    let has = |message: &Value, role: &str| message["role"] == role && message["content"].is_string();
    match messages.first_mut() {
        Some(first) if has(first, "system") => append(first, &format!("\n{text}")),
        // A template without system messages.
        Some(first) if !habits.system && has(first, "user") => {
            let own = first["content"].as_str().unwrap_or_default();
            first["content"] = format!("{text}\n\n{own}").into();
        }
        _ => messages.insert(0, json!({"role": "system", "content": text})),
    }
}

fn described(tool: &Tool) -> String {
    let mut function = json!({"name": tool.name});
    if let Some(description) = &tool.description {
        function["description"] = description.as_str().into();
    }
    function["parameters"] = tool.parameters.clone();
    json!({"type": "function", "function": function}).to_string()
}
