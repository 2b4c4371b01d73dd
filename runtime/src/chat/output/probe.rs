//! What a chat template does with tools, calls, results and reasoning, found by rendering small conversations.
//!
//! Templates agree on the messages' form only roughly: some want arguments as an object, some as text; some raise an error where others
//! pass something over. A rendering that has the marker words in it shows that the template took them.

use serde_json::{Map, Value, json};

use crate::chat::{ChatTemplate, RenderRequest};

/// Words that no template has itself.
pub(super) const NAME: &str = "zqname";
pub(super) const KEY: &str = "zqkey";
pub(super) const VALUE: &str = "zqvalue";
const OTHER: &str = "zqother";
const RESULT: &str = "zqresult";
const THOUGHT: &str = "zqthought";
const TEXT: &str = "zqtext";

/// What a template wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Habits {
    /// It tells the model of tools.
    pub(super) tools: bool,
    /// It writes calls of earlier messages.
    pub(super) calls: bool,
    /// It wants their arguments as text, not as an object.
    pub(super) text_arguments: bool,
    /// It writes results, messages of the role `tool`.
    pub(super) results: bool,
    /// Where it looks for reasoning.
    pub(super) reasoning: Reasoning,
    /// It writes a system message.
    pub(super) system: bool,
    /// It refuses more than one call in a message.
    pub(super) single_calls: bool,
    /// It refuses ids other than nine letters and digits.
    pub(super) short_ids: bool,
}

/// Where a template looks for the reasoning of earlier messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reasoning {
    /// In `reasoning_content`, or nowhere.
    Content,
    /// In `thinking`.
    Thinking,
    /// In `reasoning`.
    Short,
    /// In a part of the content of the type `thinking`.
    Part,
}

impl Habits {
    /// Those of OpenAI's messages.
    pub(super) const PLAIN: Self = Self {
        tools: false,
        calls: false,
        text_arguments: false,
        results: false,
        reasoning: Reasoning::Content,
        system: true,
        single_calls: false,
        short_ids: false,
    };

    pub(super) fn of(template: &ChatTemplate) -> Self {
        let mut habits = Self::PLAIN;
        let rendered = rendered(template, vec![user()]);
        habits.tools = rendered.is_some_and(|text| text.contains(NAME));
        habits.short_ids = shows(template, vec![user(), call(&id(false), object(), "")]).is_none()
            && shows(template, vec![user(), call(&id(true), object(), "")]).is_some();
        let id = id(habits.short_ids);
        let with_object = shows(template, vec![user(), call(&id, object(), "")]);
        let with_text = shows(template, vec![user(), call(&id, object().to_string().into(), "")]);
        habits.calls = with_object.is_some() || with_text.is_some();
        habits.text_arguments = with_object.is_none() && with_text.is_some();
        let arguments = if habits.text_arguments { object().to_string().into() } else { object() };
        let conversation = |role: &str| {
            let result = json!({"role": role, "content": RESULT, "tool_call_id": id, "name": NAME});
            vec![user(), call(&id, arguments.clone(), ""), result]
        };
        habits.results =
            habits.calls && self::rendered(template, conversation("tool")).is_some_and(|text| text.contains(RESULT));
        habits.reasoning = reasoning(template, &id, &arguments);
        let mut two = call(&id, arguments.clone(), "");
        let mut other = two["tool_calls"][0].clone();
        other["function"]["name"] = OTHER.into();
        other["id"] = id.replace(NAME, OTHER).into();
        two["tool_calls"] = json!([two["tool_calls"][0], other]);
        let both = self::rendered(template, vec![user(), two]);
        habits.single_calls = habits.calls && both.is_none_or(|text| !text.contains(OTHER));
        let system = json!({"role": "system", "content": TEXT});
        habits.system = self::rendered(template, vec![system, user()]).is_some_and(|text| text.contains(TEXT));
        // A model that is told of tools in words is told of its calls in words, too.
        habits.calls &= habits.tools;
        habits.results &= habits.tools;
        habits
    }
}

fn reasoning(template: &ChatTemplate, id: &str, arguments: &Value) -> Reasoning {
    let takes = |message: &Value| {
        let messages = vec![user(), message.clone()];
        rendered(template, messages).is_some_and(|text| text.contains(THOUGHT))
    };
    for (name, place) in
        [("reasoning_content", Reasoning::Content), ("thinking", Reasoning::Thinking), ("reasoning", Reasoning::Short)]
    {
        let mut with_call = call(id, arguments.clone(), "");
        with_call[name] = THOUGHT.into();
        let mut without = json!({"role": "assistant", "content": TEXT});
        without[name] = THOUGHT.into();
        if takes(&with_call) || takes(&without) {
            return place;
        }
    }
    let parts = json!([{"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": TEXT}]);
    if takes(&json!({"role": "assistant", "content": parts})) { Reasoning::Part } else { Reasoning::Content }
}

/// An id; the long one holds the name, since Kimi's templates write nothing else of it.
fn id(short: bool) -> String {
    if short { "zq1234567".to_owned() } else { "functions.zqname:0".to_owned() }
}

pub(super) fn user() -> Value {
    json!({"role": "user", "content": "zquser"})
}

pub(super) fn object() -> Value {
    json!({ KEY: VALUE })
}

/// An assistant's message with one call.
pub(super) fn call(id: &str, arguments: Value, content: &str) -> Value {
    let function = json!({"name": NAME, "arguments": arguments});
    json!({"role": "assistant", "content": content, "tool_calls": [{"id": id, "type": "function", "function": function}]})
}

/// The rendering of messages, if it has the call's name and arguments, and these not as text within text.
fn shows(template: &ChatTemplate, messages: Vec<Value>) -> Option<String> {
    // After a tool's message, some templates write what they leave out of a last message.
    let with = rendered(template, messages.clone())?;
    let without = rendered(template, messages[..1].to_vec())?;
    let counts = |text: &str| [NAME, KEY, VALUE].map(|word| text.matches(word).count());
    let more = counts(&with).iter().zip(counts(&without)).all(|(with, without)| *with > without);
    (more && !with.contains(&format!("\\\"{KEY}"))).then_some(with)
}

/// A conversation with a tool offered.
pub(super) fn rendered(template: &ChatTemplate, messages: Vec<Value>) -> Option<String> {
    let properties = json!({"zqtext": {"type": "string", "description": "Text"}, "zqmap": {"type": "object"}});
    let parameters = json!({"type": "object", "required": ["zqtext"], "properties": properties});
    let function = json!({"name": NAME, "description": "A function", "parameters": parameters});
    let tools = json!([{"type": "function", "function": function}]);
    let request = RenderRequest { messages, tools: Some(tools), extra: Map::new(), add_generation_prompt: false };
    template.render(&request).ok()
}
