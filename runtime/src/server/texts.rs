//! `/tokenize`, `/detokenize` and `/apply-template`, in the format of llama.cpp's server; nothing is generated.

use serde_json::{Value, json};

use super::App;
use super::http::Response;
use super::openai::{ApiError, Fields, messages_of, refuse_reserved, take_thinking, take_tools, token_ids};
use super::prepare::weigh;
use super::routes::Call;

fn fields(call: &mut Call<'_>) -> Result<Fields, ApiError> {
    weigh(&mut call.body)?;
    Fields::parse(&call.body.bytes)
}

/// `{content, add_special, parse_special, with_pieces}` to `{tokens}`.
pub(super) fn tokenize(app: &App, mut call: Call<'_>) -> Result<Response, ApiError> {
    let mut fields = fields(&mut call)?;
    let text = fields.take_string("content")?.ok_or_else(|| missing("content", "a string"))?;
    let add_special = fields.take_bool("add_special")?.unwrap_or(false);
    let parse_special = fields.take_bool("parse_special")?.unwrap_or(true);
    let with_pieces = fields.take_bool("with_pieces")?.unwrap_or(false);
    fields.finish()?;
    let tokenizer = &app.session.tokenizer;
    let tokens = tokenizer
        .encode(&text, add_special, parse_special)
        .map_err(|error| ApiError::parameter("content", error.to_string()))?;
    let piece = |id: u32| {
        let bytes = tokenizer.token_bytes(id, true);
        // A token with a partial character is shown as its bytes.
        std::str::from_utf8(&bytes).map_or_else(|_| json!(bytes.to_vec()), |text| json!(text))
    };
    let tokens: Vec<Value> = match with_pieces {
        true => tokens.into_iter().map(|id| json!({"id": id, "piece": piece(id)})).collect(),
        false => tokens.into_iter().map(Value::from).collect(),
    };
    Ok(Response::json(200, &json!({ "tokens": tokens })))
}

/// `{tokens}` to `{content}`.
pub(super) fn detokenize(app: &App, mut call: Call<'_>) -> Result<Response, ApiError> {
    let mut fields = fields(&mut call)?;
    let Some(Value::Array(items)) = fields.take("tokens") else {
        return Err(missing("tokens", "an array of token ids"));
    };
    fields.finish()?;
    let tokens = token_ids("tokens", &items, app.vocabulary)?;
    Ok(Response::json(200, &json!({"content": app.session.tokenizer.decode(&tokens, true)})))
}

/// `{messages, tools, reasoning_effort, chat_template_kwargs}` to `{prompt}`, the text the model would read. The server's own system prompt is left
/// out, since not every caller may see it.
pub(super) fn apply_template(app: &App, mut call: Call<'_>) -> Result<Response, ApiError> {
    let mut fields = fields(&mut call)?;
    let messages = messages_of(&mut fields)?;
    let mut extra = fields.take_object("chat_template_kwargs")?.unwrap_or_default();
    refuse_reserved(&extra)?;
    let tools = take_tools(&mut fields)?;
    take_thinking(&mut fields)?.put_into(&mut extra);
    let add_generation_prompt = fields.take_bool("add_generation_prompt")?.unwrap_or(true);
    fields.finish()?;
    let failed = |line: String| ApiError::parameter("messages", line).code("chat_template");
    let template = app.session.template.as_ref().map_err(|line| failed(line.clone()))?;
    let request = app.session.conversation(messages, &tools, add_generation_prompt, extra);
    let prompt = template.render(&request).map_err(|error| failed(error.to_string()))?;
    Ok(Response::json(200, &json!({ "prompt": prompt })))
}

fn missing(name: &str, wanted: &str) -> ApiError {
    ApiError::parameter(name, format!("`{name}` is missing; it must be {wanted}"))
}
