//! What an answer must follow: OpenAI's `response_format`, and the parameters of llama.cpp's and vLLM's servers.

use serde_json::{Map, Value};

use super::error::{ApiError, shown};
use super::fields::{Fields, kind, wrong_type};
use super::foreign::is_empty;
use crate::grammar::Format;

/// A format, and the parameter that asks for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// The path of the schema, expression or grammar in the request, for errors about it.
    pub parameter: &'static str,
    /// What to follow.
    pub format: Format,
}

const RESPONSE_FORMAT: &str = "response_format";
const SCHEMA: &str = "response_format.json_schema.schema";

/// The other parameters; values that mean "off" are as good as none.
const OTHERS: [&str; 6] = ["json_schema", "grammar", "guided_json", "guided_regex", "guided_choice", "guided_grammar"];

/// Takes all parameters that constrain an answer.
///
/// # Errors
/// 400 naming the parameter: of the wrong form, or a second one.
pub(super) fn take_format(fields: &mut Fields) -> Result<Option<Asked>, ApiError> {
    let mut asked = match fields.take_object(RESPONSE_FORMAT)? {
        Some(format) => response_format(format)?,
        None => None,
    };
    spread_structured(fields)?;
    for parameter in OTHERS {
        let Some(value) = fields.take(parameter).filter(|value| !is_empty(value)) else { continue };
        if let Some(first) = &asked {
            let message =
                format!("an answer follows one format, but there are `{}` and `{parameter}`", first.parameter);
            return Err(ApiError::parameter(parameter, message));
        }
        asked = Some(Asked { parameter, format: other(parameter, value)? });
    }
    Ok(asked)
}

/// vLLM's newer way: one object, `structured_outputs`, with what was called `guided_*` before.
fn spread_structured(fields: &mut Fields) -> Result<(), ApiError> {
    const AT: &str = "structured_outputs";
    let Some(mut map) = fields.take_object(AT)? else { return Ok(()) };
    map.retain(|_, value| !is_empty(value));
    if map.remove("json_object").is_some() {
        map.insert("json".into(), serde_json::json!({"type": "object"}));
    }
    for kind in ["json", "regex", "choice", "grammar"] {
        let Some(value) = map.remove(kind) else { continue };
        let name = format!("guided_{kind}");
        if fields.peek(&name).is_some() {
            let message = format!("an answer follows one format, but there are `{name}` and `{AT}.{kind}`");
            return Err(ApiError::parameter(format!("{AT}.{kind}"), message));
        }
        fields.put(&name, value);
    }
    refuse_rest(AT, map)
}

fn response_format(mut format: Map<String, Value>) -> Result<Option<Asked>, ApiError> {
    let Some(Value::String(name)) = format.remove("type") else {
        return Err(ApiError::parameter(
            "response_format.type",
            "`response_format.type` must be text, json_object or json_schema",
        ));
    };
    let asked = match name.as_str() {
        "text" => None,
        "json_object" => {
            // llama.cpp's server takes a schema here.
            let schema = format.remove("schema").filter(|schema| !is_empty(schema));
            let format =
                schema.map_or_else(|| Ok(Format::any_object()), |schema| schema_of("response_format.schema", schema));
            Some(Asked { parameter: "response_format.schema", format: format? })
        }
        "json_schema" => Some(json_schema(format.remove("json_schema"))?),
        other => {
            let message = format!(
                "`response_format.type` is `{}`, which is not supported; text, json_object and json_schema are",
                shown(other)
            );
            return Err(ApiError::parameter("response_format.type", message).code("unsupported_parameter"));
        }
    };
    refuse_rest(RESPONSE_FORMAT, format)?;
    Ok(asked)
}

/// `strict` changes nothing: a schema is enforced to the letter or refused.
fn json_schema(value: Option<Value>) -> Result<Asked, ApiError> {
    const AT: &str = "response_format.json_schema";
    let Some(Value::Object(mut map)) = value else {
        return Err(ApiError::parameter(AT, format!("`{AT}` must be an object with `name` and `schema`")));
    };
    for (name, wanted) in [("name", "a string"), ("description", "a string"), ("strict", "true or false")] {
        let is_valid = |value: &Value| if name == "strict" { value.is_boolean() } else { value.is_string() };
        if map.remove(name).is_some_and(|value| !value.is_null() && !is_valid(&value)) {
            return Err(ApiError::parameter(format!("{AT}.{name}"), format!("`{AT}.{name}` must be {wanted}")));
        }
    }
    let schema = map.remove("schema").unwrap_or(Value::Null);
    refuse_rest(AT, map)?;
    Ok(Asked { parameter: SCHEMA, format: schema_of(SCHEMA, schema)? })
}

fn refuse_rest(at: &str, map: Map<String, Value>) -> Result<(), ApiError> {
    match map.into_iter().find(|(_, value)| !value.is_null()) {
        None => Ok(()),
        Some((name, _)) => {
            let name = format!("{at}.{}", shown(&name));
            let message = format!("unknown parameter `{name}`; leave it out");
            Err(ApiError::parameter(name, message).code("unknown_parameter"))
        }
    }
}

fn other(parameter: &'static str, value: Value) -> Result<Format, ApiError> {
    match (parameter, value) {
        ("json_schema", schema) => schema_of(parameter, schema),
        // vLLM takes a schema's text, too.
        ("guided_json", Value::String(text)) => match serde_json::from_str(&text) {
            Ok(schema) => schema_of(parameter, schema),
            Err(error) => Err(ApiError::parameter(parameter, format!("`{parameter}` is not JSON: {error}"))),
        },
        ("guided_json", schema) => schema_of(parameter, schema),
        ("guided_regex", Value::String(regex)) => Ok(Format::Regex(regex)),
        ("guided_grammar", Value::String(lark)) => Ok(Format::Lark(lark)),
        ("guided_choice", Value::Array(texts)) => {
            let wrong = |found: &Value| wrong_type(parameter, "an array of strings", found);
            let texts = texts.into_iter().map(|text| match text {
                Value::String(text) => Ok(text),
                found => Err(wrong(&found)),
            });
            texts.collect::<Result<_, _>>().map(Format::Choice)
        }
        ("grammar", Value::String(gbnf)) => Ok(Format::Gbnf(gbnf)),
        ("guided_choice", found) => Err(wrong_type(parameter, "an array of strings", &found)),
        (_, found) => Err(wrong_type(parameter, "a string", &found)),
    }
}

fn schema_of(at: &str, value: Value) -> Result<Format, ApiError> {
    match value {
        Value::Object(_) | Value::Bool(_) => Ok(Format::Schema(value)),
        other => Err(ApiError::parameter(
            at,
            format!("`{at}` must be a JSON schema, which is an object, not {}", kind(&other)),
        )),
    }
}
