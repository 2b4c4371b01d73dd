//! `POST /api/chat` and `/api/generate`: the request body, checked.

use serde_json::{Value, json};

use super::options::{self, Context};
use crate::chat::message::read_messages;
use crate::chat::thinking::Thinking;
use crate::chat::tools::Tools;
use crate::grammar::Format;
use crate::server::openai::{ApiError, Asked, Baseline, Common, Fields, is_empty, take_tools};

/// The endpoint, which determines the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Endpoint {
    /// `/api/chat`
    Chat,
    /// `/api/generate`
    Generate,
}

/// What the model is to read.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Input {
    /// A conversation, by the chat template, and what the model may call.
    Messages(Vec<Value>, Tools),
    /// A text to continue, without the template.
    Raw(String),
    /// Nothing: the client only wants the model to be loaded, or unloaded.
    Nothing { unload: bool },
}

/// A checked request.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) input: Input,
    /// How much the model is to reason.
    pub(super) thinking: Thinking,
    /// Parameters shared with OpenAI's API.
    pub(super) common: Common,
}

impl Request {
    /// Parses and checks a body.
    ///
    /// # Errors
    /// 400 naming the field.
    pub(super) fn parse(
        endpoint: Endpoint,
        body: &[u8],
        baseline: &Baseline,
        context: Context,
    ) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let model = fields.take_string("model")?;
        let stream = fields.take_bool("stream")?.unwrap_or(true);
        let format = take_format(&mut fields)?;
        let common = options::take(&mut fields, baseline, context)?;
        let common = Common { model, stream, format: format.or(common.format.clone()), ..common };
        let thinking = take_think(&mut fields)?;
        let unload = unloads(fields.take("keep_alive").as_ref());
        let input = match endpoint {
            Endpoint::Chat => take_messages(&mut fields)?,
            Endpoint::Generate => take_prompt(&mut fields)?,
        };
        refuse_unsupported(&mut fields, context)?;
        fields.finish()?;
        Ok(Self { input: input.unwrap_or(Input::Nothing { unload }), thinking, common })
    }
}

/// `keep_alive` of zero, as a number of seconds or with a unit. Any other changes nothing, since the model stays loaded.
fn unloads(keep_alive: Option<&Value>) -> bool {
    match keep_alive {
        Some(Value::Number(seconds)) => seconds.as_f64() == Some(0.0),
        Some(Value::String(text)) => text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic()) == "0",
        _ => false,
    }
}

/// `think`: whether to reason, or how much.
fn take_think(fields: &mut Fields) -> Result<Thinking, ApiError> {
    match fields.take("think") {
        None => Ok(Thinking::default()),
        Some(Value::Bool(enabled)) => Ok(Thinking { enabled: Some(enabled), ..Thinking::default() }),
        Some(Value::String(effort)) if matches!(effort.as_str(), "low" | "medium" | "high" | "max") => {
            Ok(Thinking::of_effort(effort))
        }
        Some(_) => {
            let message = "`think` must be true, false, `low`, `medium`, `high` or `max`";
            Err(ApiError::parameter("think", message))
        }
    }
}

/// `format`: the word `json`, or a schema.
fn take_format(fields: &mut Fields) -> Result<Option<Asked>, ApiError> {
    let format = match fields.take("format") {
        None => return Ok(None),
        Some(value) if is_empty(&value) => return Ok(None),
        Some(Value::String(word)) if word == "json" => Format::any_object(),
        Some(schema @ Value::Object(_)) => Format::Schema(schema),
        Some(_) => return Err(ApiError::parameter("format", "`format` must be `json` or a JSON schema")),
    };
    Ok(Some(Asked { parameter: "format", format }))
}

/// The conversation of a chat; `None` if it is absent or empty.
fn take_messages(fields: &mut Fields) -> Result<Option<Input>, ApiError> {
    let tools = take_tools(fields)?;
    let messages = match fields.take("messages") {
        None => return Ok(None),
        Some(Value::Array(items)) if items.is_empty() => return Ok(None),
        Some(Value::Array(items)) => items.into_iter().map(as_openai).collect(),
        Some(other) => other,
    };
    let messages = read_messages(Some(messages)).map_err(|error| ApiError::parameter(error.at, error.message))?;
    Ok(Some(Input::Messages(messages, tools)))
}

/// A message by OpenAI's names: reasoning is `thinking` here, a result's tool `tool_name`, and content may be absent.
fn as_openai(message: Value) -> Value {
    let Value::Object(mut message) = message else { return message };
    if let Some(thinking) = message.remove("thinking") {
        message.insert("reasoning_content".into(), thinking);
    }
    if let Some(name) = message.remove("tool_name") {
        message.insert("name".into(), name);
    }
    if message.get("content").is_none_or(Value::is_null) {
        message.insert("content".into(), "".into());
    }
    message.into()
}

/// The prompt of `/api/generate`; `None` if it is absent or empty.
fn take_prompt(fields: &mut Fields) -> Result<Option<Input>, ApiError> {
    let prompt = fields.take_string("prompt")?.unwrap_or_default();
    let system = fields.take_string("system")?.filter(|system| !system.is_empty());
    let raw = fields.take_bool("raw")?.unwrap_or(false);
    fields.refuse_unless("template", "start it with --chat-template FILE.jinja", is_empty)?;
    fields.refuse_unless("suffix", "text is only generated after the prompt", is_empty)?;
    fields.refuse_unless("context", "send the conversation to /api/chat", is_empty)?;
    fields.refuse_unless("images", "this model reads text only", is_empty)?;
    if raw && system.is_some() {
        return Err(ApiError::parameter("system", "`system` has no place in a `raw` prompt: write it into the prompt"));
    }
    if prompt.is_empty() {
        return Ok(None);
    }
    if raw {
        return Ok(Some(Input::Raw(prompt)));
    }
    let system = system.map(|system| json!({"role": "system", "content": system}));
    let messages = system.into_iter().chain([json!({"role": "user", "content": prompt})]).collect();
    Ok(Some(Input::Messages(messages, Tools::default())))
}

/// Fields of both endpoints.
fn refuse_unsupported(fields: &mut Fields, context: Context) -> Result<(), ApiError> {
    fields.refuse_unless("logprobs", "/v1/chat/completions has log-probabilities", is_empty)?;
    fields.refuse_unless("top_logprobs", "/v1/chat/completions has log-probabilities", is_empty)?;
    let advice = "`--overflow` of `serve` says what happens when the context is full";
    fields.refuse_unless("shift", advice, |value| value.as_bool() == Some(context.shifts))?;
    // A prompt that does not fit is an error either way.
    fields.ignore(&["truncate"]);
    Ok(())
}
