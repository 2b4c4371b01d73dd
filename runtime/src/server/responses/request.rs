//! `POST /v1/responses`: the request body, checked.
//!
//! What would change the answer and is not supported is a 400 with its path. The response repeats most parameters, so they are
//! kept as they came.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::items::Messages;
use super::text::{Text, refuse_rest, take_text};
use super::tools::{Offered, take_offered};
use crate::chat::thinking::Thinking;
use crate::chat::verbosity::Verbosity;
use crate::server::openai::{
    ApiError, Baseline, Common, Fields, is_empty, refuse_foreign, shown, thinking_of, wrong_type,
};

/// Largest `top_logprobs`.
const MAX_TOP_LOGPROBS: i64 = 20;

/// What `include` may name. All but two concern tools that are not here, so they add nothing.
const INCLUDABLE: [&str; 8] = [
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "web_search_call.action.sources",
    "web_search_call.results",
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
];

/// Parameters that the response repeats and that change nothing.
const REPEATED: [&str; 6] =
    ["metadata", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "user", "max_tool_calls"];

/// Parameters that change nothing.
const HARMLESS: [&str; 6] =
    ["client_metadata", "context_management", "prompt_cache_options", "access_programs", "image", "service_tier"];

/// A checked request.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// The new items, not yet checked.
    pub(super) items: Vec<Value>,
    pub(super) instructions: Option<String>,
    /// The response that this one follows.
    pub(super) previous: Option<String>,
    pub(super) offered: Offered,
    pub(super) thinking: Thinking,
    pub(super) verbosity: Option<Verbosity>,
    /// Alternatives to report with each token; `None`: no log-probabilities.
    pub(super) logprobs: Option<usize>,
    pub(super) common: Common,
    /// Whether the response is kept.
    pub(super) store: bool,
    /// Whether reasoning is given in `encrypted_content`, too.
    pub(super) sealed: bool,
    /// Whether reasoning is given as a summary, too.
    pub(super) summary: bool,
    /// The parameters as the response repeats them.
    pub(super) repeated: Map<String, Value>,
}

impl Request {
    /// Parses and checks a body, except for the items, which need those before them.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub(super) fn parse(body: &[u8], baseline: &Baseline) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        refuse_stateful(&mut fields)?;
        let mut repeated = Map::new();
        let items = take_input(&mut fields)?;
        let instructions = fields.take_string("instructions")?;
        let previous = fields.take_string("previous_response_id")?;
        let offered = take_offered(&mut fields)?;
        let (thinking, summary) = take_reasoning(&mut fields, &mut repeated)?;
        let Text { asked, verbosity, shown: text } = take_text(&mut fields)?;
        let (with_logprobs, sealed) = take_include(&mut fields)?;
        let top = fields.take_integer("top_logprobs", 0..=MAX_TOP_LOGPROBS)?.unwrap_or(0);
        let store = fields.take_bool("store")?.unwrap_or(true);
        let truncation = take_truncation(&mut fields)?;
        for name in REPEATED {
            repeated.insert(name.into(), fields.take(name).unwrap_or(Value::Null));
        }
        check_metadata(&repeated["metadata"])?;
        fields.ignore(&HARMLESS);
        let limit = fields.take_integer("max_output_tokens", 1..=i64::MAX)?;
        let mut common = Common::take(&mut fields, baseline)?;
        refuse_foreign(&mut fields)?;
        fields.finish()?;
        if common.n != 1 {
            return Err(ApiError::parameter("n", "`n` must be 1: a response is one answer"));
        }
        if let Some(limit) = limit {
            common.max_tokens = Some(usize::try_from(limit).unwrap_or(usize::MAX));
        }
        if let (Some(asked), Some(other)) = (&asked, &common.format) {
            let message =
                format!("an answer follows one format, but there are `{}` and `{}`", asked.parameter, other.parameter);
            return Err(ApiError::parameter(other.parameter, message));
        }
        common.format = asked.or(common.format);
        repeated.extend([
            ("instructions".to_owned(), json!(instructions)),
            ("previous_response_id".to_owned(), json!(previous)),
            ("max_output_tokens".to_owned(), json!(limit)),
            ("tools".to_owned(), offered.shown.clone().into()),
            ("tool_choice".to_owned(), offered.choice.clone()),
            ("parallel_tool_calls".to_owned(), offered.tools.parallel.into()),
            ("text".to_owned(), text),
            ("truncation".to_owned(), truncation),
            ("top_logprobs".to_owned(), top.into()),
            ("store".to_owned(), store.into()),
            ("temperature".to_owned(), exact(common.sampling.temperature)),
            ("top_p".to_owned(), exact(common.sampling.top_p)),
            ("background".to_owned(), false.into()),
            ("service_tier".to_owned(), "default".into()),
        ]);
        let logprobs = (with_logprobs || top > 0).then_some(top as usize);
        let parsed = Self {
            items,
            instructions,
            previous,
            offered,
            thinking,
            verbosity,
            logprobs,
            common,
            store,
            sealed,
            summary,
            repeated,
        };
        Ok(parsed)
    }

    /// The messages of the conversation: the instructions, the items of earlier responses, and the new ones.
    ///
    /// # Errors
    /// 400 with the path of the invalid value.
    pub(super) fn messages(&self, earlier: &[Arc<Value>]) -> Result<Vec<Value>, ApiError> {
        let mut messages = Messages::new(&self.offered.names);
        if let Some(text) = self.instructions.as_deref().filter(|text| !text.is_empty()) {
            messages.instructions(text);
        }
        for item in earlier {
            messages.read("previous_response_id", item)?;
        }
        for (index, item) in self.items.iter().enumerate() {
            messages.read(&format!("input[{index}]"), item)?;
        }
        let messages = messages.finish();
        if messages.is_empty() {
            return Err(ApiError::parameter("input", "`input` is empty; a response needs at least one item"));
        }
        Ok(messages)
    }
}

/// Refuses what needs state that this server does not keep.
fn refuse_stateful(fields: &mut Fields) -> Result<(), ApiError> {
    fields.refuse_unless("background", "wait for the response, or stream it", |value| value == false)?;
    fields.refuse_unless("conversation", "use `previous_response_id`, or send all items", is_empty)?;
    fields.refuse_unless("prompt", "write the prompt into `instructions` and `input`", is_empty)?;
    fields.refuse_unless("moderation", "nothing here moderates", is_empty)
}

/// `input` as items.
fn take_input(fields: &mut Fields) -> Result<Vec<Value>, ApiError> {
    match fields.take("input") {
        Some(Value::String(text)) => Ok(vec![json!({"type": "message", "role": "user", "content": text})]),
        Some(Value::Array(items)) => Ok(items),
        Some(other) => Err(wrong_type("input", "a string or an array of items", &other)),
        None => Ok(Vec::new()),
    }
}

fn take_reasoning(fields: &mut Fields, repeated: &mut Map<String, Value>) -> Result<(Thinking, bool), ApiError> {
    let mut reasoning = fields.take_object("reasoning")?.unwrap_or_default();
    reasoning.retain(|_, value| !value.is_null());
    let (effort, mut summary) = (reasoning.remove("effort"), reasoning.remove("summary"));
    summary = reasoning.remove("generate_summary").or(summary); // its older name
    let shown = json!({"effort": effort, "summary": summary});
    repeated.insert("reasoning".into(), shown);
    for (name, neutral) in [("context", "auto"), ("mode", "standard")] {
        if reasoning.remove(name).is_some_and(|value| value != neutral) {
            let name = format!("reasoning.{name}");
            let message = format!("`{name}` is not supported by this server except as `{neutral}`");
            return Err(ApiError::parameter(name, message).code("unsupported_parameter"));
        }
    }
    let word = |name: &str, value: Option<Value>| match value {
        None => Ok(None),
        Some(Value::String(word)) => Ok(Some(word)),
        Some(other) => Err(wrong_type(&format!("reasoning.{name}"), "a string", &other)),
    };
    let summary = word("summary", summary)?;
    if summary.as_deref().is_some_and(|word| !["auto", "concise", "detailed", "none"].contains(&word)) {
        return Err(ApiError::parameter(
            "reasoning.summary",
            "`reasoning.summary` must be `auto`, `concise` or `detailed`",
        ));
    }
    let thinking = thinking_of("reasoning.effort", word("effort", effort)?)?;
    refuse_rest("reasoning", reasoning)?;
    Ok((thinking, summary.is_some_and(|word| word != "none")))
}

/// Takes `include`: whether log-probabilities are wanted, and sealed reasoning.
fn take_include(fields: &mut Fields) -> Result<(bool, bool), ApiError> {
    let items = match fields.take("include") {
        None => Vec::new(),
        Some(Value::Array(items)) => items,
        Some(other) => return Err(wrong_type("include", "an array of strings", &other)),
    };
    for (index, item) in items.iter().enumerate() {
        if !item.as_str().is_some_and(|name| INCLUDABLE.contains(&name)) {
            let at = format!("include[{index}]");
            let message = format!("`{at}` is `{}`, which is not known", shown(item.as_str().unwrap_or_default()));
            return Err(ApiError::parameter(at, message));
        }
    }
    let has = |name: &str| items.iter().any(|item| item == name);
    Ok((has(INCLUDABLE[0]), has(INCLUDABLE[1])))
}

/// `auto` would drop items of a conversation that does not fit; here that is an error, which is not another answer.
fn take_truncation(fields: &mut Fields) -> Result<Value, ApiError> {
    match fields.take_string("truncation")?.as_deref() {
        None | Some("disabled") => Ok("disabled".into()),
        Some("auto") => Ok("auto".into()),
        Some(_) => Err(ApiError::parameter("truncation", "`truncation` must be `auto` or `disabled`")),
    }
}

fn check_metadata(metadata: &Value) -> Result<(), ApiError> {
    match metadata {
        Value::Null => Ok(()),
        Value::Object(map) if map.values().all(Value::is_string) => Ok(()),
        _ => Err(ApiError::parameter("metadata", "`metadata` must be an object of strings")),
    }
}

/// An f32 as the number that it was written as.
fn exact(number: f32) -> Value {
    number.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}
