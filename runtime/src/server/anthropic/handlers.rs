//! Anthropic's endpoints of a generating model.

use serde_json::{Map, Value, json};

use super::dialect::Anthropic;
use super::error::error_response;
use super::messages::wrong;
use super::request::Request;
use crate::server::App;
use crate::server::conversation::{self, Conversation, Names, Prepared};
use crate::server::describe::no_model;
use crate::server::generate::Work;
use crate::server::http::{Head, Response};
use crate::server::openai::ApiError;
use crate::server::prepare::{adapters, baseline, weigh};
use crate::server::routes::{Answer, Call};

const NAMES: Names = Names { messages: "messages", tools: "tools" };

/// `POST /v1/messages`.
pub(in crate::server) fn messages(app: &App, call: Call<'_>) -> Answer {
    match work(app, call) {
        Ok(work) => Answer::Generate(work),
        Err(error) => Answer::Whole(error_response(&error)),
    }
}

/// `POST /v1/messages/count_tokens`: the same body, and the length of its prompt.
pub(in crate::server) fn count_tokens(app: &App, call: Call<'_>) -> Answer {
    let counted = work(app, call).map(|work| {
        let tokens = work.requests.first().map_or(0, |request| request.prompt.len());
        Response::json(200, &json!({"input_tokens": tokens}))
    });
    Answer::Whole(counted.unwrap_or_else(|error| error_response(&error)))
}

fn work(app: &App, mut call: Call<'_>) -> Result<Work, ApiError> {
    weigh(&mut call.body)?;
    let Request { messages, prefill, tools, thinking, shows_thinking, common } =
        Request::parse(&call.body.bytes, &baseline(app))?;
    let adapters = adapters(app, &common)?;
    let (stream, may_call) = (common.stream, tools.are_offered());
    let (variables, logprobs, names) = (Map::new(), None, NAMES);
    let conversation = Conversation { messages, tools, thinking, verbosity: None, variables, logprobs, common, names };
    let mut prepared = conversation::prepare(app, conversation, (call.who.caller, adapters), call.client_left)?;
    if let Some(text) = prefill {
        let line = "ends with the assistant's, but this model's template begins each answer with reasoning: \
                    end with the user's, or send `thinking` of type `disabled`";
        let refused = || wrong(NAMES.messages, line);
        conversation::begin_with(app, &mut prepared, (&text, may_call), NAMES.messages, refused)?;
    }
    let Prepared { requests, reading } = prepared;
    let prompt_tokens = requests.first().map_or(0, |request| request.prompt.len());
    let dialect = Anthropic::new(app.session.name_with(adapters), prompt_tokens, shows_thinking);
    let dialect = Box::new(dialect);
    Ok(Work { requests, n: 1, stream, prompt_parameter: NAMES.messages, reading, dialect })
}

/// Whether a request for the list of models comes from a client of this API.
pub(in crate::server) fn asks(head: &Head) -> bool {
    head.header("anthropic-version").is_some()
}

/// `GET /v1/models`.
pub(in crate::server) fn models(app: &App) -> Response {
    let models = all_models(app);
    let id = |model: Option<&Value>| model.map_or(Value::Null, |model| model["id"].clone());
    let (first_id, last_id) = (id(models.first()), id(models.last()));
    Response::json(200, &json!({"data": models, "has_more": false, "first_id": first_id, "last_id": last_id}))
}

/// `GET /v1/models/ID`.
pub(in crate::server) fn one_model(app: &App, call: &Call<'_>) -> Response {
    let found = all_models(app).into_iter().find(|model| model["id"] == call.rest);
    found.map_or_else(|| error_response(&no_model(app, call.rest)), |model| Response::json(200, &model))
}

/// The model, and the model with each of its adapters.
fn all_models(app: &App) -> Vec<Value> {
    let session = &app.session;
    let facts = &session.facts;
    let created = i64::try_from(facts.created).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    let adapted = session.adapters.iter().map(|adapter| session.adapted_name(adapter));
    let model = |name: String| {
        json!({
            "type": "model",
            "id": name,
            "display_name": name,
            "created_at": created.unwrap_or_default().to_string(),
            "lifecycle": "active",
            "max_input_tokens": facts.context_length,
            "max_tokens": facts.context_length,
        })
    };
    std::iter::once(facts.name.clone()).chain(adapted).map(model).collect()
}
