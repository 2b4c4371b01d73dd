//! Ollama's endpoints of a generating model.

use std::time::Instant;

use serde_json::Map;

use super::describe::{self, Shown, tagged};
use super::dialect::Ollama;
use super::error::error_response;
use super::options::Context;
use super::request::{Endpoint, Input, Request};
use crate::plan::AdapterSet;
use crate::server::App;
use crate::server::access::Caller;
use crate::server::conversation::{self, Choices, Conversation, Names, Prepared};
use crate::server::describe::{no_model, page};
use crate::server::generate::Work;
use crate::server::http::{Body, Head, Response};
use crate::server::openai::{ApiError, Common, Fields};
use crate::server::prepare::{baseline, weigh};
use crate::server::routes::{Answer, Call};
use crate::session::{OverflowPolicy, PromptError, Reading, TextRequest};

/// `/`: the page for browsers, and for Ollama's clients the line by which they know a server.
pub(in crate::server) fn root(app: &App, call: &Call<'_>) -> Response {
    let response = if accepts_html(call.head) { page(app, call) } else { running() };
    response.with("Vary", "Accept")
}

/// Whether a request comes from a browser's address bar.
fn accepts_html(head: &Head) -> bool {
    let accepted = head.header("accept").unwrap_or_default().to_ascii_lowercase();
    accepted.split(',').any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == "text/html"))
}

/// What an Ollama server says of itself.
pub(super) fn running() -> Response {
    Response { body: b"Ollama is running".into(), ..Response::empty(200) }
        .with("Content-Type", "text/plain; charset=utf-8")
        .with("Cache-Control", "no-cache")
}

pub(in crate::server) fn version() -> Response {
    Response::json(200, &describe::version())
}

pub(in crate::server) fn tags(app: &App) -> Response {
    Response::json(200, &describe::tags(&app.session.facts, &names(app)))
}

pub(in crate::server) fn ps(app: &App) -> Response {
    Response::json(200, &describe::running(&app.session.facts, &names(app)))
}

pub(in crate::server) fn show(app: &App, call: Call<'_>) -> Answer {
    let known = call.who.known;
    let shown = shown_model(call.body).and_then(|model| {
        let session = &app.session;
        let adapters = adapters_named(app, model.as_deref())?;
        let template = session.template.as_ref().map_or("", |template| template.source());
        let name = tagged(&session.name_with(adapters));
        let shown = Shown { name: &name, template, defaults: Some(&session.defaults), known };
        Ok(Response::json(200, &describe::show(&session.facts, &shown)))
    });
    Answer::Whole(shown.unwrap_or_else(|error| error_response(&error)))
}

/// The model that a request to `/api/show` names; `name` is what older clients call it.
pub(super) fn shown_model(mut body: Body) -> Result<Option<String>, ApiError> {
    weigh(&mut body)?;
    let mut fields = Fields::parse(&body.bytes)?;
    let (model, name) = (fields.take_string("model")?, fields.take_string("name")?);
    let advice = "arrays and tensors are in `satchel inspect --json`";
    fields.refuse_unless("verbose", advice, |value| value.as_bool() == Some(false))?;
    fields.finish()?;
    Ok(model.or(name))
}

/// The model, and the model with each of its adapters.
fn names(app: &App) -> Vec<String> {
    let session = &app.session;
    let adapted = session.adapters.iter().map(|adapter| session.adapted_name(adapter));
    std::iter::once(tagged(&session.facts.name)).chain(adapted).collect()
}

/// The adapters that a name selects, with or without the tag `latest`.
fn adapters_named(app: &App, model: Option<&str>) -> Result<AdapterSet, ApiError> {
    let untagged = || app.session.adapters_named(Some(model?.strip_suffix(":latest")?));
    let found = app.session.adapters_named(model).or_else(untagged);
    found.ok_or_else(|| no_model(app, model.unwrap_or_default()))
}

/// A chat or a generation.
pub(in crate::server) fn work(app: &App, endpoint: Endpoint, call: Call<'_>) -> Answer {
    prepared(app, endpoint, call).unwrap_or_else(|error| Answer::Whole(error_response(&error)))
}

fn prepared(app: &App, endpoint: Endpoint, mut call: Call<'_>) -> Result<Answer, ApiError> {
    let begun = Instant::now();
    weigh(&mut call.body)?;
    let session = &app.session;
    let shifts = session.defaults.overflow == OverflowPolicy::Shift;
    let context = Context { length: session.facts.context_length, shifts };
    let Request { input, thinking, common } = Request::parse(endpoint, &call.body.bytes, &baseline(app), context)?;
    let adapters = adapters_named(app, common.model.as_deref())?;
    let dialect = Ollama::new(endpoint, tagged(&session.name_with(adapters)), begun);
    let messages = if endpoint == Endpoint::Chat { "messages" } else { "prompt" };
    let stream = common.stream;
    let (requests, reading) = match input {
        Input::Nothing { unload } => return Ok(Answer::Whole(Response::json(200, &dialect.loaded(unload)))),
        Input::Raw(text) => (continued(app, &text, &common, (call.who.caller, adapters))?, Reading::default()),
        Input::Messages(list, tools) => {
            let names = Names { messages, tools: "tools" };
            let (variables, logprobs) = (Map::new(), None);
            let conversation =
                Conversation { messages: list, tools, thinking, verbosity: None, variables, logprobs, common, names };
            if let Err(line) = &session.template {
                let error = PromptError::NoTemplate(line.clone());
                return Err(ApiError::parameter(messages, without_template(endpoint, &error)));
            }
            let who = (call.who.caller, adapters);
            let Prepared { requests, reading } = conversation::prepare(app, conversation, who, call.client_left)?;
            (requests, reading)
        }
    };
    Ok(Answer::Generate(Work {
        requests,
        n: 1,
        stream,
        prompt_parameter: messages,
        reading,
        dialect: Box::new(dialect),
    }))
}

/// A request to continue a text.
fn continued(
    app: &App,
    text: &str,
    common: &Common,
    (caller, adapters): (Caller, AdapterSet),
) -> Result<Vec<TextRequest>, ApiError> {
    let session = &app.session;
    let prompt = session.text_prompt(text).map_err(|error| ApiError::parameter("prompt", error.to_string()))?;
    let overflow = session.text_overflow(&prompt);
    let grammar = common.format.as_ref().map(|asked| conversation::grammar(app, asked)).transpose()?;
    let choices = Choices { common, logprobs: None, grammar, is_answer: false, caller, adapters };
    Ok(choices.requests(vec![(prompt, overflow)]))
}

/// The error, with what to do about a missing template: `/api/generate` can do without.
fn without_template(endpoint: Endpoint, error: &PromptError) -> String {
    match error {
        PromptError::NoTemplate(line) if endpoint == Endpoint::Generate => {
            format!("{line}, or here with `raw: true`")
        }
        other => other.to_string(),
    }
}
