//! What each path answers.
//!
//! | Path | Method | |
//! |---|---|---|
//! | `/`, `/assets/…` | GET | the chat page |
//! | `/health` | GET | `{"status": "ok", …}` with how much runs, waits, was generated and abandoned |
//! | `/v1/models`, `/v1/models/{id}` | GET | the model and each adapter, with facts under `meta` |
//! | `/v1/chat/completions`, `/v1/completions` | POST | OpenAI's API |
//! | `/api/facts` | GET | what the page shows: `{name, architecture, parameters, context_length, isa, threads, defaults, version}` |
//!
//! HEAD works wherever GET does. Any `model` name in a request is taken where there is one model; the answer's `model` is its real
//! name. With adapters there are several, the model and `MODEL:ADAPTER` for each, and the name has to be one of theirs.

use std::io;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::App;
use super::generate::{self, Work};
use super::http::{Exchange, Handler, Head, Method, Refusal, Request, Response};
use super::openai::{ApiError, Baseline, ChatRequest, Common, CompletionRequest, Endpoint, Prompt, shown};
use crate::TokenId;
use crate::chat::RenderRequest;
use crate::plan::AdapterSet;
use crate::session::{Overflow, TextRequest};

impl Handler for App {
    fn handle(&self, request: &Request, exchange: &mut Exchange<'_>) -> io::Result<()> {
        exchange.add_header("X-Content-Type-Options", "nosniff");
        exchange.add_header("Referrer-Policy", "no-referrer");
        let head = &request.head;
        match self.guard.admit(head) {
            Ok(headers) => headers.into_iter().for_each(|(name, value)| exchange.add_header(name, value)),
            Err(refusal) => return exchange.respond(&self.refuse(&refusal)),
        }
        let Some(route) = self.route(&head.path) else {
            let message = format!("there is nothing at `{}`", shown(&head.path));
            return exchange.respond(&ApiError::new(404, message).response());
        };
        match (route.is_post(), head.method) {
            (_, Method::Options) => exchange.respond(&self.guard.preflight(head, route.allow())),
            (true, Method::Post) | (false, Method::Get | Method::Head) => self.answer(&route, request, exchange),
            _ => {
                let message = format!("`{}` takes {} only", shown(&head.path), route.allow());
                exchange.respond(&ApiError::new(405, message).response().with("Allow", route.allow()))
            }
        }
    }

    fn refuse(&self, refusal: &Refusal) -> Response {
        ApiError::from(refusal).response()
    }
}

enum Route {
    Page,
    Health,
    Facts,
    Models,
    Model(String),
    Generate(Endpoint),
}

impl Route {
    fn is_post(&self) -> bool {
        matches!(self, Self::Generate(_))
    }

    fn allow(&self) -> &'static str {
        if self.is_post() { "POST, OPTIONS" } else { "GET, HEAD, OPTIONS" }
    }
}

impl App {
    fn route(&self, path: &str) -> Option<Route> {
        Some(match path {
            "/health" => Route::Health,
            "/api/facts" => Route::Facts,
            "/v1/models" => Route::Models,
            "/v1/chat/completions" => Route::Generate(Endpoint::Chat),
            "/v1/completions" => Route::Generate(Endpoint::Completions),
            "*" => Route::Page,
            _ => match path.strip_prefix("/v1/models/") {
                Some(name) => Route::Model(name.to_string()),
                None if self.assets.has(path) => Route::Page,
                None => return None,
            },
        })
    }

    fn answer(&self, route: &Route, request: &Request, exchange: &mut Exchange<'_>) -> io::Result<()> {
        let response = match route {
            Route::Page => return exchange.respond(&self.page(&request.head)),
            Route::Health => Response::json(200, &self.health()).with("Cache-Control", "no-store"),
            Route::Facts => Response::json(200, &self.facts()).with("Cache-Control", "no-store"),
            Route::Models => Response::json(200, &json!({"object": "list", "data": self.models()})),
            Route::Model(name) => match self.models().into_iter().find(|model| model["id"] == name.as_str()) {
                Some(model) => Response::json(200, &model),
                None => self.no_model(name).response(),
            },
            Route::Generate(endpoint) => match self.prepare(*endpoint, &request.body, &mut || exchange.client_left()) {
                Ok(work) => return generate::run(self, work, exchange),
                Err(error) => error.response(),
            },
        };
        exchange.respond(&response)
    }

    fn page(&self, head: &Head) -> Response {
        self.assets.respond(&head.path, head.header("if-none-match")).unwrap_or_else(|| Response::empty(404))
    }

    fn health(&self) -> Value {
        json!({
            "status": if self.stopping.load(Ordering::Relaxed) { "stopping" } else { "ok" },
            "answering": self.gauges.answering.load(Ordering::Relaxed),
            "running": self.session.engine.running(),
            "waiting": self.session.engine.waiting(),
            "generated_tokens": self.gauges.generated_tokens.load(Ordering::Relaxed),
            "abandoned": self.gauges.abandoned.load(Ordering::Relaxed),
        })
    }

    fn no_model(&self, name: &str) -> ApiError {
        let names: Vec<String> =
            self.models().iter().filter_map(|model| Some(model["id"].as_str()?.to_owned())).collect();
        let message = match &names[..] {
            [one] => format!("there is no model `{}` here; the one here is `{one}`", shown(name)),
            all => format!("there is no model `{}` here; those here are `{}`", shown(name), all.join("`, `")),
        };
        ApiError { param: Some("model".into()), ..ApiError::new(404, message) }.code("model_not_found")
    }

    /// The model, and the model with each of its adapters.
    fn models(&self) -> Vec<Value> {
        let base = self.model();
        let adapted = self.session.adapters.iter().map(|adapter| {
            let mut model = base.clone();
            model["id"] = self.session.adapted_name(adapter).into();
            model["meta"]["adapter"] = adapter.as_str().into();
            model
        });
        let mut models: Vec<Value> = adapted.collect();
        models.insert(0, base);
        models
    }

    fn model(&self) -> Value {
        let facts = &self.session.facts;
        json!({
            "id": facts.name,
            "object": "model",
            "created": facts.created,
            "owned_by": "satchel",
            "meta": {
                "architecture": facts.architecture,
                "parameters": facts.parameters,
                "size_bytes": facts.file_bytes,
                "context_length": facts.context_length,
                "trained_context_length": facts.trained_context,
                "cache_type_k": facts.cache.keys.to_string(),
                "cache_type_v": facts.cache.values.to_string(),
                "vocabulary": self.vocabulary,
            },
        })
    }

    fn facts(&self) -> Value {
        let (facts, defaults) = (&self.session.facts, &self.session.defaults);
        json!({
            "name": facts.name,
            "architecture": facts.architecture,
            "parameters": facts.parameters,
            "size_bytes": facts.file_bytes,
            "context_length": facts.context_length,
            "cache_type_k": facts.cache.keys.to_string(),
            "cache_type_v": facts.cache.values.to_string(),
            "isa": facts.isa,
            "threads": facts.threads,
            "defaults": {
                "system_prompt": defaults.system_prompt,
                "temperature": short(defaults.sampling.temperature),
                "top_p": short(defaults.sampling.top_p),
                "top_k": defaults.sampling.top_k,
                "min_p": short(defaults.sampling.min_p),
                "repeat_penalty": short(defaults.sampling.repeat_penalty),
                "max_tokens": defaults.max_tokens,
            },
            "version": env!("CARGO_PKG_VERSION"),
        })
    }

    /// Body to work, or the error to answer with.
    fn prepare(
        &self,
        endpoint: Endpoint,
        body: &[u8],
        client_left: &mut dyn FnMut() -> bool,
    ) -> Result<Work, ApiError> {
        let baseline = Baseline {
            sampling: self.session.defaults.sampling.clone(),
            max_tokens: self.session.defaults.max_tokens,
            vocabulary: self.vocabulary,
        };
        let (prompts, common, logprobs) = match endpoint {
            Endpoint::Chat => {
                let request = ChatRequest::parse(body, &baseline)?;
                let render = RenderRequest {
                    messages: request.messages,
                    tools: None,
                    add_generation_prompt: true,
                    extra: request.template_variables,
                };
                let prompt = self
                    .session
                    .chat_prompt_until(&render, client_left)
                    .map_err(|error| ApiError::parameter("messages", error.to_string()).code("chat_template"))?;
                let overflow = self.session.chat_overflow(&render, &prompt);
                (vec![(prompt, overflow)], request.common, request.logprobs)
            }
            Endpoint::Completions => {
                let request = CompletionRequest::parse(body, &baseline)?;
                let prompts =
                    request.prompts.into_iter().map(|prompt| self.tokens(prompt)).collect::<Result<Vec<_>, _>>()?;
                let with_overflow = |prompt: Vec<TokenId>| {
                    let overflow = self.session.text_overflow(&prompt);
                    (prompt, overflow)
                };
                (prompts.into_iter().map(with_overflow).collect(), request.common, request.logprobs)
            }
        };
        let Some(adapters) = self.session.adapters_named(common.model.as_deref()) else {
            return Err(self.no_model(common.model.as_deref().unwrap_or_default()));
        };
        Ok(work(endpoint, prompts, common, logprobs, adapters))
    }

    fn tokens(&self, prompt: Prompt) -> Result<Vec<TokenId>, ApiError> {
        match prompt {
            Prompt::Tokens(tokens) => Ok(tokens),
            Prompt::Text(text) => {
                self.session.text_prompt(&text).map_err(|error| ApiError::parameter("prompt", error.to_string()))
            }
        }
    }
}

/// `n` generations for each prompt. With a given seed, choice `j` of a prompt uses `seed + j`: different answers, and
/// the first is the one that `n: 1` gives.
fn work(
    endpoint: Endpoint,
    prompts: Vec<(Vec<TokenId>, Overflow)>,
    common: Common,
    logprobs: Option<usize>,
    adapters: AdapterSet,
) -> Work {
    let mut requests = Vec::with_capacity(prompts.len() * common.n);
    for (prompt, overflow) in prompts {
        for copy in 0..common.n {
            let mut sampling = common.sampling.clone();
            sampling.seed = sampling.seed.map(|seed| seed.wrapping_add(copy as u64));
            requests.push(TextRequest {
                prompt: prompt.clone(),
                sampling,
                max_tokens: common.max_tokens,
                stop: common.stop.clone(),
                logprobs,
                ignore_end: common.ignore_end,
                is_answer: endpoint == Endpoint::Chat,
                adapters,
                overflow,
            });
        }
    }
    Work { endpoint, adapters, requests, n: common.n, stream: common.stream, include_usage: common.include_usage }
}

/// A 32-bit figure as a person would write it: 0.7, not 0.699999988.
fn short(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}
