//! The endpoints of the Responses API.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::dialect::{Form, Keeping, Responses};
use super::object::Object;
use super::request::Request;
use super::store::Kept;
use crate::plan::AdapterSet;
use crate::server::App;
use crate::server::access::Caller;
use crate::server::conversation::{self, Conversation, Names, Prepared};
use crate::server::generate::Work;
use crate::server::http::Response;
use crate::server::openai::{ApiError, shown};
use crate::server::prepare::{adapters, baseline, weigh};
use crate::server::routes::Call;

const NAMES: Names = Names { messages: "input", tools: "tools" };

/// A request with the items that it follows.
struct Asked {
    request: Request,
    earlier: Vec<Arc<Value>>,
    adapters: AdapterSet,
}

/// `POST /v1/responses`
pub(in crate::server) fn create(app: &App, mut call: Call<'_>) -> Result<Work, ApiError> {
    let asked = asked(app, &mut call)?;
    let Prepared { requests, reading } = prepared(app, &asked, &mut call)?;
    let Asked { request, mut earlier, adapters } = asked;
    let Request { items, offered, common, store, sealed, summary, repeated, .. } = request;
    let object = Object::new(&app.session.name_with(adapters), crate::server::unix_seconds(), repeated);
    let keeping = store.then(|| {
        earlier.extend(items.into_iter().map(Arc::new));
        Keeping { store: Arc::clone(&app.responses), caller: call.who.caller, items: earlier }
    });
    let form = Form { stream: common.stream, sealed, summary };
    let dialect = Box::new(Responses::new(object, offered.names, form, keeping));
    Ok(Work { requests, n: 1, stream: common.stream, prompt_parameter: NAMES.messages, reading, dialect })
}

/// `POST /v1/responses/input_tokens`: how many tokens the prompt has.
pub(in crate::server) fn count(app: &App, mut call: Call<'_>) -> Result<Response, ApiError> {
    let asked = asked(app, &mut call)?;
    let Prepared { requests, .. } = prepared(app, &asked, &mut call)?;
    let tokens = requests.first().map_or(0, |request| request.prompt.len());
    Ok(Response::json(200, &json!({"object": "response.input_tokens", "input_tokens": tokens})))
}

fn asked(app: &App, call: &mut Call<'_>) -> Result<Asked, ApiError> {
    weigh(&mut call.body)?;
    let mut request = Request::parse(&call.body.bytes, &baseline(app))?;
    resolve(app, call.who.caller, &mut request.items)?;
    let adapters = adapters(app, &request.common)?;
    let earlier = match &request.previous {
        None => Vec::new(),
        Some(id) => earlier(app, call.who.caller, id)?,
    };
    Ok(Asked { request, earlier, adapters })
}

/// Puts kept items in the place of references to them.
fn resolve(app: &App, caller: Caller, items: &mut [Value]) -> Result<(), ApiError> {
    for (index, item) in items.iter_mut().enumerate() {
        let is_reference = match item.get("type").and_then(Value::as_str) {
            Some(kind) => kind == "item_reference",
            None => item.get("role").is_none() && item.get("id").is_some(),
        };
        if !is_reference {
            continue;
        }
        let id = item.get("id").and_then(Value::as_str).unwrap_or_default();
        let kept = app.responses.item(caller, id).ok_or_else(|| {
            let message = format!(
                "`input[{index}]`: there is no item `{}`, or it is no longer kept (nothing is, with `store: false`); send the item itself",
                shown(id)
            );
            ApiError { param: Some(format!("input[{index}].id")), ..ApiError::new(404, message) }
        })?;
        *item = (*kept).clone();
    }
    Ok(())
}

fn earlier(app: &App, caller: Caller, id: &str) -> Result<Vec<Arc<Value>>, ApiError> {
    let kept = app.responses.get(caller, id).ok_or_else(|| {
        let message = format!("`previous_response_id`: there is no response `{}`, or it is no longer kept", shown(id));
        ApiError::parameter("previous_response_id", message).code("previous_response_not_found")
    })?;
    Ok(kept.items)
}

fn prepared(app: &App, asked: &Asked, call: &mut Call<'_>) -> Result<Prepared, ApiError> {
    let Asked { request, earlier, adapters } = asked;
    let conversation = Conversation {
        messages: request.messages(earlier)?,
        tools: request.offered.tools.clone(),
        thinking: request.thinking.clone(),
        verbosity: request.verbosity,
        variables: Map::new(),
        logprobs: request.logprobs,
        common: request.common.clone(),
        names: NAMES,
    };
    conversation::prepare(app, conversation, (call.who.caller, *adapters), call.client_left)
}

/// `GET /v1/responses/{id}`
pub(in crate::server) fn retrieve(app: &App, call: &Call<'_>) -> Result<Response, ApiError> {
    let Kept { object, .. } = app.responses.get(call.who.caller, call.rest).ok_or_else(|| unknown(call.rest))?;
    Ok(Response::json(200, &object).with("Cache-Control", "no-store"))
}

/// `DELETE /v1/responses/{id}`
pub(in crate::server) fn delete(app: &App, call: &Call<'_>) -> Result<Response, ApiError> {
    match app.responses.forget(call.who.caller, call.rest) {
        true => Ok(Response::json(200, &json!({"id": call.rest, "object": "response", "deleted": true}))),
        false => Err(unknown(call.rest)),
    }
}

fn unknown(id: &str) -> ApiError {
    ApiError::new(404, format!("there is no response `{}`, or it is no longer kept", shown(id)))
}
