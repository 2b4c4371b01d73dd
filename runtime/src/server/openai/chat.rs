//! `POST /v1/chat/completions`: the request body, checked.
//!
//! `chat::message` reads the messages; the other parameters are handled here.

use serde_json::{Map, Value};

use super::common::{Baseline, Common};
use super::error::ApiError;
use super::fields::Fields;
use super::foreign::refuse_foreign;
use super::tools::take_tools;
use crate::chat::message::{read_messages, reserved_variable};
use crate::chat::thinking::Thinking;
use crate::chat::tools::{ToolChoice, Tools};
use crate::chat::verbosity::Verbosity;

const CONTINUE: &str = "continue_final_message";

/// Largest `top_logprobs`.
const MAX_TOP_LOGPROBS: i64 = 20;

/// A checked chat request.
#[derive(Clone, Debug)]
pub struct ChatRequest {
    /// `{role, content, name?}`, content always a string.
    pub messages: Vec<Value>,
    /// `chat_template_kwargs`: additional template variables.
    pub template_variables: Map<String, Value>,
    /// What the model may call.
    pub tools: Tools,
    /// How much it is to reason.
    pub thinking: Thinking,
    /// The beginning of the answer, which the model goes on from.
    pub prefill: Option<String>,
    /// How long the answer is to be.
    pub verbosity: Option<Verbosity>,
    /// Alternatives to report with each token; `None`: no log-probabilities.
    pub logprobs: Option<usize>,
    /// Parameters shared with completions.
    pub common: Common,
}

impl ChatRequest {
    /// Parses and checks a body.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub fn parse(body: &[u8], baseline: &Baseline) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let mut messages = messages_of(&mut fields)?;
        let mut common = Common::take(&mut fields, baseline)?;
        if let Some(limit) = fields.take_integer("max_completion_tokens", 1..=i64::MAX)? {
            common.max_tokens = Some(usize::try_from(limit).unwrap_or(usize::MAX));
        }
        let wanted = fields.take_bool("logprobs")?.unwrap_or(false);
        let top = fields.take_integer("top_logprobs", 0..=MAX_TOP_LOGPROBS)?;
        if top.is_some_and(|top| top > 0) && !wanted {
            return Err(ApiError::parameter("top_logprobs", "`top_logprobs` needs `logprobs: true`"));
        }
        let template_variables = fields.take_object("chat_template_kwargs")?.unwrap_or_default();
        refuse_reserved(&template_variables)?;
        let tools = take_tools(&mut fields)?;
        let thinking = take_thinking(&mut fields)?;
        let verbosity = verbosity_of("verbosity", fields.take("verbosity"))?;
        let prefill = take_prefill(&mut fields, &mut messages)?;
        refuse_foreign(&mut fields)?;
        fields.finish()?;
        let forced = matches!(tools.choice, ToolChoice::Required | ToolChoice::Named(_));
        if prefill.is_some() && (forced || common.format.is_some()) {
            let other = if forced { "tool_choice" } else { "response_format" };
            let message = format!("`{CONTINUE}` does not go together with `{other}`, which is about the whole answer");
            return Err(ApiError::parameter(CONTINUE, message));
        }
        let logprobs = wanted.then(|| top.unwrap_or(0) as usize);
        Ok(Self { messages, template_variables, tools, thinking, prefill, verbosity, logprobs, common })
    }
}

/// Takes `reasoning_effort`, and the budget by llama.cpp's name.
///
/// # Errors
/// 400 naming the parameter.
pub fn take_thinking(fields: &mut Fields) -> Result<Thinking, ApiError> {
    let thinking = thinking_of("reasoning_effort", fields.take_string("reasoning_effort")?)?;
    let budget = fields.take_integer("thinking_budget_tokens", -1..=i64::MAX)?;
    let budget = budget.and_then(|budget| usize::try_from(budget).ok()); // -1 is no limit
    Ok(Thinking { budget, ..thinking })
}

/// How much a model is to reason, from OpenAI's word for it.
///
/// # Errors
/// 400 naming the parameter.
pub(in crate::server) fn thinking_of(parameter: &str, effort: Option<String>) -> Result<Thinking, ApiError> {
    let known = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];
    if effort.as_deref().is_some_and(|effort| !known.contains(&effort)) {
        let message = format!("`{parameter}` must be one of {}", known.map(|word| format!("`{word}`")).join(", "));
        return Err(ApiError::parameter(parameter, message));
    }
    Ok(effort.map(Thinking::of_effort).unwrap_or_default())
}

/// Takes `continue_final_message`, vLLM's name: the last message is the beginning of the answer.
fn take_prefill(fields: &mut Fields, messages: &mut Vec<Value>) -> Result<Option<String>, ApiError> {
    let wanted = fields.take_bool(CONTINUE)?.unwrap_or(false);
    let prompted = fields.take_bool("add_generation_prompt")?;
    if prompted.is_some_and(|prompted| prompted == wanted) {
        let message = "`add_generation_prompt` is true for a new answer, and false with `continue_final_message: true`";
        return Err(ApiError::parameter("add_generation_prompt", message));
    }
    if !wanted {
        return Ok(None);
    }
    let can_go_on = |last: &mut Value| last["role"] == "assistant" && last.get("tool_calls").is_none();
    let Some(last) = messages.pop_if(can_go_on).filter(|_| !messages.is_empty()) else {
        let message = format!("`{CONTINUE}` needs a conversation that ends with text of the assistant's");
        return Err(ApiError::parameter(CONTINUE, message));
    };
    Ok(last["content"].as_str().map(str::to_owned).filter(|text| !text.is_empty()))
}

/// How long an answer is to be, from OpenAI's word for it.
///
/// # Errors
/// 400 naming the parameter.
pub(in crate::server) fn verbosity_of(parameter: &str, word: Option<Value>) -> Result<Option<Verbosity>, ApiError> {
    let Some(word) = word.filter(|word| !word.is_null()) else { return Ok(None) };
    let known = word.as_str().and_then(Verbosity::of).map(Some);
    known.ok_or_else(|| ApiError::parameter(parameter, format!("`{parameter}` must be `low`, `medium` or `high`")))
}

/// Takes and checks the messages.
///
/// # Errors
/// 400 with the path of the offending value.
pub fn messages_of(fields: &mut Fields) -> Result<Vec<Value>, ApiError> {
    read_messages(fields.take("messages")).map_err(|error| ApiError::parameter(error.at, error.message))
}

/// Refuses template variables that would override those set from the request or the model.
///
/// # Errors
/// 400 naming the variable.
pub fn refuse_reserved(variables: &Map<String, Value>) -> Result<(), ApiError> {
    let Some(name) = reserved_variable(variables) else { return Ok(()) };
    let message = format!("`chat_template_kwargs` must not contain `{name}`: it is set from the request or the model");
    Err(ApiError::parameter(format!("chat_template_kwargs.{name}"), message))
}
