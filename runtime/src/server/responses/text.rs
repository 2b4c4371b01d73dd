//! `text`: what an answer's text must follow.

use serde_json::{Map, Value};

use crate::chat::verbosity::Verbosity;
use crate::grammar::Format;
use crate::server::openai::{ApiError, Asked, Fields, shown, verbosity_of, wrong_type};

const FORMAT: &str = "text.format";
const SCHEMA: &str = "text.format.schema";

/// What `text` says.
pub(super) struct Text {
    /// The format asked for.
    pub(super) asked: Option<Asked>,
    /// How long the text is to be.
    pub(super) verbosity: Option<Verbosity>,
    /// The value as the response repeats it.
    pub(super) shown: Value,
}

/// Takes `text`.
///
/// # Errors
/// 400 naming the parameter.
pub(super) fn take_text(fields: &mut Fields) -> Result<Text, ApiError> {
    let mut text = fields.take_object("text")?.unwrap_or_default();
    text.retain(|_, value| !value.is_null());
    let shown = {
        let mut shown = text.clone();
        shown.entry("format").or_insert_with(|| serde_json::json!({"type": "text"}));
        Value::from(shown)
    };
    let asked = match text.remove("format") {
        None => None,
        Some(Value::Object(format)) => read_format(format)?,
        Some(other) => return Err(wrong_type(FORMAT, "an object with `type`", &other)),
    };
    let verbosity = verbosity_of("text.verbosity", text.remove("verbosity"))?;
    refuse_rest("text", text)?;
    Ok(Text { asked, verbosity, shown })
}

fn read_format(mut format: Map<String, Value>) -> Result<Option<Asked>, ApiError> {
    let kind = format.remove("type");
    let asked = match kind.as_ref().and_then(Value::as_str) {
        Some("text") => None,
        Some("json_object") => Some(Asked { parameter: FORMAT, format: Format::any_object() }),
        Some("json_schema") => {
            for name in ["name", "description", "strict"] {
                // A schema is enforced to the letter or refused, whether `strict` or not.
                format.remove(name);
            }
            match format.remove("schema") {
                Some(schema @ Value::Object(_)) => Some(Asked { parameter: SCHEMA, format: Format::Schema(schema) }),
                Some(other) => return Err(wrong_type(SCHEMA, "a JSON schema, which is an object", &other)),
                None => return Err(ApiError::parameter(SCHEMA, format!("`{SCHEMA}` is missing"))),
            }
        }
        other => {
            let message = format!(
                "`{FORMAT}.type` must be text, json_object or json_schema, not `{}`",
                shown(other.unwrap_or_default())
            );
            return Err(ApiError::parameter(format!("{FORMAT}.type"), message));
        }
    };
    refuse_rest(FORMAT, format)?;
    Ok(asked)
}

/// Refuses fields that are not known.
pub(super) fn refuse_rest(at: &str, map: Map<String, Value>) -> Result<(), ApiError> {
    match map.into_iter().find(|(_, value)| !value.is_null()) {
        None => Ok(()),
        Some((name, _)) => {
            let name = format!("{at}.{}", shown(&name));
            let message = format!("unknown parameter `{name}`; leave it out");
            Err(ApiError::parameter(name, message).code("unknown_parameter"))
        }
    }
}
