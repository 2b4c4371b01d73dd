//! Read-only endpoints: health, metrics, models, properties, the page and its facts.
//!
//! Counts are totals over all callers, so no caller learns what another wrote. Only authenticated callers see the system
//! prompt (`access`).

use std::sync::atomic::{AtomicU64, Ordering};

use satchel_container::parameters::{Kind, PARAMETERS, Value as Given};
use serde_json::{Value, json};

use super::App;
use super::http::Response;
use super::openai::{ApiError, Fields, shown};
use super::prepare::weigh;
use super::routes::Call;
use crate::TokenId;
use crate::chat::ChatTemplate;
use crate::mapping;
use crate::session::Facts;

/// A file of the page.
pub(super) fn page(app: &App, call: &Call<'_>) -> Response {
    app.assets.respond(call.rest, call.head.header("if-none-match")).unwrap_or_else(|| Response::empty(404))
}

/// `{"status": "ok", …}`; if keys are required, unauthenticated callers see only the status.
pub(super) fn health(app: &App, call: &Call<'_>) -> Response {
    // Readiness probes look at the status code.
    let loading = app.session.facts.gpu.loading();
    let (code, status) = match (app.stopping.load(Ordering::Relaxed), loading) {
        (true, _) => (200, "stopping"),
        (false, Some(_)) => (503, "loading"),
        (false, None) => (200, "ok"),
    };
    let answer = |value: &Value| Response::json(code, value).with("Cache-Control", "no-store");
    if app.access.needs_key() && !call.who.known {
        return answer(&json!({ "status": status }));
    }
    let mut health = json!({
        "status": status,
        "answering": app.gauges.answering.load(Ordering::Relaxed),
        "running": app.session.engine.running(),
        "waiting": app.session.engine.waiting(),
        "weights": if mapping::damaged().is_some() { "damaged" } else { app.session.check.state().name() },
        "generated_tokens": count(&app.gauges.generated_tokens),
        "abandoned": count(&app.gauges.abandoned),
    });
    if let Some(loaded) = loading {
        health["loaded"] = loaded.into();
    }
    answer(&health)
}

/// Prometheus' text format.
pub(super) fn metrics(app: &App) -> Response {
    let gauges = &app.gauges;
    let seconds = count(&gauges.first_token_micros) as f64 / 1e6;
    let (steps, sequences) = app.session.engine.steps();
    let lines = [
        ("requests_finished_total", "counter", "Finished answers", count(&gauges.finished) as f64),
        ("requests_abandoned_total", "counter", "Answers whose client disconnected", count(&gauges.abandoned) as f64),
        ("prompt_tokens_total", "counter", "Prompt tokens", count(&gauges.prompt_tokens) as f64),
        ("cached_tokens_total", "counter", "Prompt tokens found in the cache", count(&gauges.cached_tokens) as f64),
        ("generated_tokens_total", "counter", "Generated tokens", count(&gauges.generated_tokens) as f64),
        ("guessed_tokens_total", "counter", "Tokens guessed and checked ahead", count(&gauges.guessed_tokens) as f64),
        ("accepted_tokens_total", "counter", "Guessed tokens that were right", count(&gauges.accepted_tokens) as f64),
        ("requests_running", "gauge", "Answers being generated", app.session.engine.running() as f64),
        ("requests_waiting", "gauge", "Requests waiting for a free slot", app.session.engine.waiting() as f64),
        ("cache_tokens", "gauge", "Tokens whose state is kept", app.session.engine.kept_tokens() as f64),
        (
            "cache_evicted_blocks_total",
            "counter",
            "Blocks of kept state given up",
            app.session.engine.evicted_blocks() as f64,
        ),
        ("steps_total", "counter", "Forward passes", steps as f64),
        ("step_sequences_total", "counter", "Sequences in forward passes, summed over these", sequences as f64),
        (
            "longest_sequence_tokens",
            "gauge",
            "Tokens of the longest sequence so far",
            app.session.engine.longest() as f64,
        ),
        ("parallel", "gauge", "Slots: answers generated at once", app.session.facts.parallel as f64),
    ];
    let mut text = String::new();
    for (name, kind, help, value) in lines {
        text += &format!("# HELP satchel_{name} {help}\n# TYPE satchel_{name} {kind}\nsatchel_{name} {value}\n");
    }
    text += &native_metrics(app);
    let name = "satchel_time_to_first_token_seconds";
    let first = count(&gauges.first_tokens);
    text += &format!(
        "# HELP {name} From the request to its first token\n# TYPE {name} summary\n{name}_sum {seconds}\n{name}_count {first}\n"
    );
    Response { body: text.into_bytes().into(), ..Response::empty(200) }
        .with("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        .with("Process-Start-Time-Unix", app.session.facts.created.to_string())
        .with("Cache-Control", "no-store")
}

/// The same by the names of llama.cpp's server, which dashboards are made for. There, tokens found in the cache are counted apart.
fn native_metrics(app: &App) -> String {
    let gauges = &app.gauges;
    let seconds = |micros: &AtomicU64| count(micros) as f64 / 1e6;
    let rate = |tokens: u64, seconds: f64| if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 };
    let read = count(&gauges.prompt_tokens).saturating_sub(count(&gauges.cached_tokens));
    let (reading, writing) = (seconds(&gauges.prompt_micros), seconds(&gauges.generated_micros));
    let written = count(&gauges.generated_tokens);
    let (steps, sequences) = app.session.engine.steps();
    let lines = [
        ("prompt_tokens_total", "counter", "Prompt tokens that were computed", read as f64),
        (
            "prompt_tokens_cached_total",
            "counter",
            "Prompt tokens found in the cache",
            count(&gauges.cached_tokens) as f64,
        ),
        ("prompt_seconds_total", "counter", "Time that prompts took", reading),
        ("tokens_predicted_total", "counter", "Generated tokens", written as f64),
        ("tokens_predicted_seconds_total", "counter", "Time that answers took", writing),
        ("spec_decode_num_draft_tokens_total", "counter", "Tokens guessed ahead", count(&gauges.guessed_tokens) as f64),
        (
            "spec_decode_num_accepted_tokens_total",
            "counter",
            "Guesses that were right",
            count(&gauges.accepted_tokens) as f64,
        ),
        ("prompt_tokens_seconds", "gauge", "Prompt tokens a second", rate(read, reading)),
        ("predicted_tokens_seconds", "gauge", "Generated tokens a second", rate(written, writing)),
        ("requests_processing", "gauge", "Answers being generated", app.session.engine.running() as f64),
        ("requests_deferred", "gauge", "Requests waiting for a free slot", app.session.engine.waiting() as f64),
        ("n_decode_total", "counter", "Forward passes", steps as f64),
        ("n_tokens_max", "counter", "Tokens of the longest sequence so far", app.session.engine.longest() as f64),
        ("n_busy_slots_per_decode", "gauge", "Sequences in a forward pass, on average", rate(sequences, steps as f64)),
    ];
    let line = |(name, kind, help, value): (&str, &str, &str, f64)| {
        format!("# HELP llamacpp:{name} {help}\n# TYPE llamacpp:{name} {kind}\nllamacpp:{name} {value}\n")
    };
    lines.into_iter().map(line).collect()
}

/// The model and each adapter, in a list.
pub(super) fn models(app: &App) -> Response {
    let all = all_models(app);
    // What TypeSafe's clients read.
    let known = |model: &Value| {
        let created = model["created"].as_i64().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
        let date = created.unwrap_or_default().strftime("%Y-%m-%d").to_string();
        let description = format!("{} on this machine", app.session.facts.architecture);
        json!({
            "name": model["id"],
            "description": description,
            "release_date": date,
            // What llama.cpp's clients read.
            "model": model["id"],
            "type": "model",
            "capabilities": ["completion"],
        })
    };
    let models: Vec<Value> = all.iter().map(known).collect();
    Response::json(200, &json!({"object": "list", "data": all, "models": models}))
}

/// The model with that name.
pub(super) fn one_model(app: &App, call: &Call<'_>) -> Result<Response, ApiError> {
    let found = all_models(app).into_iter().find(|model| model["id"] == call.rest);
    found.map(|model| Response::json(200, &model)).ok_or_else(|| no_model(app, call.rest))
}

/// 404 for an unknown model name.
pub(super) fn no_model(app: &App, name: &str) -> ApiError {
    let models = all_models(app);
    let names: Vec<&str> = models.iter().filter_map(|model| model["id"].as_str()).collect();
    let message = match &names[..] {
        [one] => format!("there is no model `{}` here; the only one is `{one}`", shown(name)),
        all => format!("there is no model `{}` here; there are `{}`", shown(name), all.join("`, `")),
    };
    ApiError { param: Some("model".into()), ..ApiError::new(404, message) }.code("model_not_found")
}

/// The model, and the model with each of its adapters.
fn all_models(app: &App) -> Vec<Value> {
    let adapted = app.session.adapters.iter().map(|adapter| {
        let mut model = model(app);
        model["id"] = app.session.adapted_name(adapter).into();
        model["meta"]["adapter"] = adapter.as_str().into();
        model
    });
    std::iter::once(model(app)).chain(adapted).collect()
}

fn model(app: &App) -> Value {
    let facts = &app.session.facts;
    let mut model = model_of(facts);
    let meta = &mut model["meta"];
    meta["cache_type_k"] = facts.cache.keys.to_string().into();
    meta["cache_type_v"] = facts.cache.values.to_string().into();
    meta["vocabulary"] = app.vocabulary.into();
    meta["n_vocab"] = app.vocabulary.into();
    model["capabilities"] = json!(["completion"]);
    model
}

/// The part of a model object that generating and embedding models share.
pub(super) fn model_of(facts: &Facts) -> Value {
    json!({
        "id": facts.name,
        "object": "model",
        "created": facts.created,
        "owned_by": "satchel",
        "aliases": [facts.name],
        "tags": [],
        "meta": {
            // By llama.cpp's names.
            "n_ctx": facts.context_length,
            "n_ctx_train": facts.trained_context,
            "n_params": facts.parameters,
            "size": facts.file_bytes,
            "architecture": facts.architecture,
            "parameters": facts.parameters,
            "size_bytes": facts.file_bytes,
            "context_length": facts.context_length,
            "trained_context_length": facts.trained_context,
        },
    })
}

/// What the page shows, with the parameter table. Only authenticated callers get the system prompt.
pub(super) fn facts(app: &App, call: &Call<'_>) -> Response {
    let (facts, defaults) = (&app.session.facts, &app.session.defaults);
    let mut answer = json!({
        "name": facts.name,
        "architecture": facts.architecture,
        "parameters": facts.parameters,
        "size_bytes": facts.file_bytes,
        "context_length": facts.context_length,
        "cache_type_k": facts.cache.keys.to_string(),
        "cache_type_v": facts.cache.values.to_string(),
        "isa": facts.isa,
        "gpu": facts.gpu.said(),
        "computed_prompt": facts.warm_words(),
        "threads": facts.threads,
        "defaults": {"system_prompt": Value::Null},
        "sampling": sampling(),
        "version": env!("CARGO_PKG_VERSION"),
    });
    if call.who.known {
        answer["defaults"]["system_prompt"] = json!(defaults.system_prompt);
    }
    answer["defaults"]["system_prompt_set"] = defaults.system_prompt.is_some().into();
    settings(app, &mut answer["defaults"]);
    fresh(&answer)
}

/// Default parameters. A fixed seed is left out: like the system prompt, it is not for everyone.
fn settings(app: &App, into: &mut Value) {
    let defaults = &app.session.defaults;
    for parameter in PARAMETERS.iter().filter(|parameter| parameter.name != "seed") {
        let value = match parameter.name {
            "max_tokens" => defaults.max_tokens.map(|tokens| json!(tokens)),
            _ => defaults.sampling.get(parameter).map(number),
        };
        into[parameter.name] = value.unwrap_or(Value::Null);
    }
}

fn number(value: Given) -> Value {
    match value {
        Given::Real(value) => json!(value),
        Given::Whole(value) => i64::try_from(value).map_or(Value::Null, Value::from),
    }
}

/// The parameter table: names, ranges and help.
fn sampling() -> Vec<Value> {
    let row = |parameter: &satchel_container::parameters::Parameter| {
        let (least, most, whole) = match parameter.kind {
            Kind::Real { least, most } => (least, most, false),
            Kind::Whole { least, most } => (least as f64, most as f64, true),
        };
        json!({"name": parameter.name, "min": least, "max": most, "whole": whole, "help": parameter.help})
    };
    PARAMETERS.iter().map(row).collect()
}

/// llama.cpp's `/props`, limited to the fields that clients read.
pub(super) fn props(app: &App, call: &Call<'_>) -> Response {
    let facts = &app.session.facts;
    let text = |token: Option<TokenId>| token.map_or("", |token| app.session.tokenizer.token_text(token));
    let mut params = json!({});
    settings(app, &mut params);
    let mut answer = json!({
        "default_generation_settings": {"n_ctx": facts.context_length, "params": params},
        "total_slots": facts.parallel,
        "model_alias": facts.name,
        "model_path": facts.file,
        "endpoint_slots": true,
        "endpoint_props": false,
        "endpoint_metrics": true,
        "is_sleeping": false,
        "chat_template": app.session.template.as_ref().map_or("", ChatTemplate::source),
        "bos_token": text(app.session.tokenizer.bos()),
        "eos_token": text(app.session.tokenizer.eos()),
        "modalities": {"vision": false, "audio": false},
        "build_info": concat!("satchel ", env!("CARGO_PKG_VERSION")),
        "gpu": facts.gpu.said(),
        "computed_prompt": facts.warm_words(),
    });
    if call.who.known {
        answer["system_prompt"] = json!(app.session.defaults.system_prompt);
        answer["default_generation_settings"]["params"]["seed"] = json!(app.session.defaults.sampling.seed);
    }
    fresh(&answer)
}

/// llama.cpp's `/slots`, without the slots' contents.
pub(super) fn slots(app: &App) -> Response {
    let (running, context) = (app.session.engine.running(), app.session.facts.context_length);
    let slot = |id: usize| json!({"id": id, "n_ctx": context, "is_processing": id < running});
    fresh(&(0..app.session.facts.parallel).map(slot).collect())
}

/// 501 for what is done to a slot: which states are kept is the server's business here.
pub(super) fn keeps_no_slots() -> ApiError {
    ApiError::new(
        501,
        "slots cannot be saved, restored or erased: prompts are kept and found again by themselves; \
         --cache-file keeps them across restarts",
    )
}

/// 501 for the order of texts by a query.
pub(super) fn ranks_nothing() -> ApiError {
    ApiError::new(
        501,
        "this model does not rerank; `satchel serve` with a model made for it does, and `satchel embed --query`",
    )
}

/// Exchanges `{"launch": SECRET}` for `{"session": SECRET}`, for the page opened with a link from the terminal.
pub(super) fn session(app: &App, mut call: Call<'_>) -> Result<Response, ApiError> {
    weigh(&mut call.body)?;
    let mut fields = Fields::parse(&call.body.bytes)?;
    let launch = fields.take_string("launch")?.unwrap_or_default();
    fields.finish()?;
    let refused = || ApiError::new(403, "this link was used before, or belongs to another server").code("launch_link");
    let session = app.access.open_session(&launch).ok_or_else(refused)?;
    Ok(fresh(&json!({ "session": session })))
}

fn fresh(value: &Value) -> Response {
    Response::json(200, value).with("Cache-Control", "no-store")
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
