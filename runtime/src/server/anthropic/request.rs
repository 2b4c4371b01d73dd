//! `POST /v1/messages` and `/v1/messages/count_tokens`: the request body, checked.

use serde_json::Value;

use super::messages::{self, not_a, only, wrong};
use super::tools;
use crate::chat::thinking::Thinking;
use crate::chat::tools::{ToolChoice, Tools};
use crate::grammar::Format;
use crate::server::openai::{ApiError, Asked, Baseline, Common, Fields, is_empty};

/// A checked request.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// In the form of `chat::message`.
    pub(super) messages: Vec<Value>,
    /// The beginning of the answer.
    pub(super) prefill: Option<String>,
    pub(super) tools: Tools,
    pub(super) thinking: Thinking,
    /// Whether the client gets the text of thoughts.
    pub(super) shows_thinking: bool,
    /// Parameters shared with OpenAI's API.
    pub(super) common: Common,
}

/// Ignored: parameters about accounts, caching, routing or storage, which never change an answer here.
const HARMLESS: [&str; 16] = [
    "anthropic_beta",
    "anthropic_version",
    "betas",
    "billing_policy",
    "cache_control",
    "container",
    "context_management",
    "diagnostics",
    "fallback_credit_token",
    "fallbacks",
    "inference_geo",
    "metadata",
    "service_tier",
    "speed",
    "user_profile_id",
    "workspace_id",
];

/// Parameters of OpenAI's API that have a name of their own here, or none.
const OTHERS: [&str; 5] = ["stop", "n", "stream_options", "response_format", "reasoning_effort"];

const SCHEMA: &str = "output_config.format.schema";
const OLDER_SCHEMA: &str = "output_format.schema";

impl Request {
    /// Parses and checks a body.
    ///
    /// # Errors
    /// 400 with the path of the first invalid or unsupported value.
    pub(super) fn parse(body: &[u8], baseline: &Baseline) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        fields.ignore(&HARMLESS);
        for name in OTHERS {
            fields.refuse_unless(name, "it is a parameter of another API", |_| false)?;
        }
        fields.refuse_unless("mcp_servers", "tools are called by the client", is_empty)?;
        fields.refuse_unless("thread", "send the whole conversation", is_empty)?;
        fields.refuse_unless("compaction", "the client shortens conversations", is_empty)?;
        let read = messages::read(fields.take("system"), fields.take("messages"))?;
        let (thinking, shows_thinking) = take_thinking(&mut fields)?;
        let (effort, format) = take_output(&mut fields)?;
        let thinking = with_effort(thinking, read.effort.or(effort))?;
        let tools = tools::take(&mut fields, &read.changes)?;
        let common = take_common(&mut fields, baseline)?;
        fields.finish()?;
        let common = Common { format: format.or(common.format.clone()), ..common };
        let request = Self { messages: read.messages, prefill: read.prefill, tools, thinking, shows_thinking, common };
        request.check_prefill()?;
        Ok(request)
    }

    /// What must follow a format from its first letter cannot begin with a given text.
    fn check_prefill(&self) -> Result<(), ApiError> {
        let forced = matches!(self.tools.choice, ToolChoice::Required | ToolChoice::Named(_));
        if self.prefill.is_none() || !(forced || self.common.format.is_some()) {
            return Ok(());
        }
        let other = if forced { "tool_choice" } else { "output_config.format" };
        Err(wrong("messages", &format!("ends with the assistant's, which does not go together with `{other}`")))
    }
}

fn take_common(fields: &mut Fields, baseline: &Baseline) -> Result<Common, ApiError> {
    const STOP: &str = "stop_sequences";
    if let Some(stop) = fields.take(STOP) {
        if !stop.is_array() {
            return Err(not_a(STOP, "an array of strings", &stop));
        }
        fields.put("stop", stop);
    }
    Common::take(fields, baseline).map_err(|error| match error.param.as_deref() {
        Some("stop") => ApiError {
            param: Some(STOP.into()),
            message: error.message.replace("`stop`", &format!("`{STOP}`")),
            ..error
        },
        _ => error,
    })
}

/// `thinking`, and whether thoughts are shown.
fn take_thinking(fields: &mut Fields) -> Result<(Thinking, bool), ApiError> {
    let Some(asked) = fields.take_object("thinking")? else { return Ok((Thinking::default(), true)) };
    only("thinking", &asked, &["type", "budget_tokens", "display", "block_binding"])?;
    let shows = match asked.get("display").and_then(Value::as_str) {
        None | Some("summarized" | "updates") => true,
        Some("omitted") => false,
        Some(_) => return Err(wrong("thinking.display", "must be `summarized` or `omitted`")),
    };
    let budget = match asked.get("budget_tokens") {
        None | Some(Value::Null) => None,
        Some(value) => match value.as_u64().and_then(|tokens| usize::try_from(tokens).ok()) {
            Some(tokens @ 1..) => Some(tokens),
            _ => return Err(not_a("thinking.budget_tokens", "an integer of at least 1", value)),
        },
    };
    let enabled = match asked.get("type").and_then(Value::as_str) {
        Some("enabled") if budget.is_none() => return Err(wrong("thinking.budget_tokens", "is missing")),
        Some("enabled" | "adaptive") => true,
        Some("disabled") => false,
        _ => return Err(wrong("thinking.type", "must be `enabled`, `adaptive` or `disabled`")),
    };
    Ok((Thinking { enabled: Some(enabled), effort: None, budget: budget.filter(|_| enabled) }, shows))
}

/// The effort counts unless there is no thinking.
fn with_effort(thinking: Thinking, effort: Option<String>) -> Result<Thinking, ApiError> {
    match effort.as_deref() {
        None => Ok(thinking),
        Some("low" | "medium" | "high" | "xhigh" | "max") => {
            Ok(Thinking { effort: effort.filter(|_| thinking.enabled != Some(false)), ..thinking })
        }
        Some(_) => Err(wrong("output_config.effort", "must be `low`, `medium`, `high`, `xhigh` or `max`")),
    }
}

/// `output_config`, and `output_format` as it was called before: the effort, and what the answer must follow.
fn take_output(fields: &mut Fields) -> Result<(Option<String>, Option<Asked>), ApiError> {
    let mut config = fields.take_object("output_config")?.unwrap_or_default();
    only("output_config", &config, &["effort", "format"])?;
    let effort = match config.remove("effort") {
        None | Some(Value::Null) => None,
        Some(Value::String(effort)) => Some(effort),
        Some(other) => return Err(not_a("output_config.effort", "a string", &other)),
    };
    let format = config.remove("format").filter(|format| !format.is_null());
    let older = fields.take("output_format");
    match (format, older) {
        (Some(_), Some(_)) => {
            Err(wrong("output_format", "is the older name of `output_config.format`; send one of them"))
        }
        (Some(format), None) => Ok((effort, Some(schema("output_config.format", SCHEMA, format)?))),
        (None, Some(format)) => Ok((effort, Some(schema("output_format", OLDER_SCHEMA, format)?))),
        (None, None) => Ok((effort, None)),
    }
}

fn schema(at: &str, parameter: &'static str, format: Value) -> Result<Asked, ApiError> {
    let Value::Object(mut format) = format else { return Err(not_a(at, "an object", &format)) };
    only(at, &format, &["type", "schema"])?;
    if format.get("type").and_then(Value::as_str) != Some("json_schema") {
        return Err(wrong(&format!("{at}.type"), "must be `json_schema`"));
    }
    match format.remove("schema") {
        Some(schema @ Value::Object(_)) => Ok(Asked { parameter, format: Format::Schema(schema) }),
        other => Err(not_a(parameter, "a JSON schema", &other.unwrap_or(Value::Null))),
    }
}
