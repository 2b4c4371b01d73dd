//! The server of an embedding model: `/v1/embeddings`, `/v1/models` and `/health`, and nothing that would generate.
//!
//! Requests take turns step by step, so that one with many texts does not keep the others waiting.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};

use super::http::{Exchange, Handler, Method, Refusal, Request, Response};
use super::openai::{ApiError, EmbeddingRequest, Input, embeddings_answer, shown};
use super::{Gauges, Guard, Server};
use crate::TokenId;
use crate::engine::EmbedError;
use crate::session::Facts;
use crate::session::embedding::{EmbeddingModel, TextEmbedError};
use crate::tokenizer::Tokenizer;

struct EmbeddingApp {
    model: Mutex<EmbeddingModel>,
    tokenizer: Arc<Tokenizer>,
    facts: Facts,
    width: usize,
    guard: Guard,
    gauges: Gauges,
    stopping: AtomicBool,
}

impl Server {
    /// Answers with embeddings until stopped.
    pub fn run_embeddings(self, model: EmbeddingModel) {
        let app = Arc::new(EmbeddingApp {
            tokenizer: Arc::clone(&model.tokenizer),
            facts: model.facts.clone(),
            width: model.embedder.plan().output_columns(),
            model: Mutex::new(model),
            guard: self.guard,
            gauges: Gauges::default(),
            stopping: AtomicBool::new(false),
        });
        self.listener.run(app.clone(), |grace_end: Instant| {
            app.stopping.store(true, Ordering::SeqCst);
            app.gauges.wait_idle(grace_end);
        });
    }
}

/// What is at a path, and the methods it takes.
enum Route {
    Embeddings,
    Models,
    Health,
}

fn route(path: &str, name: &str) -> Option<Route> {
    match path {
        "/v1/embeddings" => Some(Route::Embeddings),
        "/v1/models" => Some(Route::Models),
        "/health" => Some(Route::Health),
        _ if path.strip_prefix("/v1/models/") == Some(name) => Some(Route::Models),
        _ => None,
    }
}

impl Handler for EmbeddingApp {
    fn handle(&self, request: &Request, exchange: &mut Exchange<'_>) -> io::Result<()> {
        exchange.add_header("X-Content-Type-Options", "nosniff");
        let head = &request.head;
        match self.guard.admit(head) {
            Ok(headers) => headers.into_iter().for_each(|(name, value)| exchange.add_header(name, value)),
            Err(refusal) => return exchange.respond(&self.refuse(&refusal)),
        }
        let Some(route) = route(&head.path, &self.facts.name) else {
            let message = format!(
                "there is nothing at `{}`: this is an embedding model, which answers at /v1/embeddings",
                shown(&head.path)
            );
            return exchange.respond(&ApiError::new(404, message).response());
        };
        let allow = if matches!(route, Route::Embeddings) { "POST, OPTIONS" } else { "GET, HEAD, OPTIONS" };
        let response = match (route, head.method) {
            (_, Method::Options) => self.guard.preflight(head, allow),
            (Route::Embeddings, Method::Post) => match self.embeddings(&request.body, &mut || exchange.client_left()) {
                Ok(Some(answer)) => Response::json(200, &answer),
                Ok(None) => return Err(io::ErrorKind::BrokenPipe.into()),
                Err(error) => error.response(),
            },
            (Route::Models, Method::Get | Method::Head) => match head.path.strip_prefix("/v1/models/") {
                None => Response::json(200, &json!({"object": "list", "data": [self.model()]})),
                Some(_) => Response::json(200, &self.model()),
            },
            (Route::Health, Method::Get | Method::Head) => {
                let status = if self.stopping.load(Ordering::Relaxed) { "stopping" } else { "ok" };
                Response::json(200, &json!({ "status": status })).with("Cache-Control", "no-store")
            }
            _ => {
                let message = format!("`{}` takes {allow} only", shown(&head.path));
                ApiError::new(405, message).response().with("Allow", allow)
            }
        };
        exchange.respond(&response)
    }

    fn refuse(&self, refusal: &Refusal) -> Response {
        ApiError::from(refusal).response()
    }
}

impl EmbeddingApp {
    /// The answer; `None` where the client went away.
    fn embeddings(&self, body: &[u8], client_left: &mut dyn FnMut() -> bool) -> Result<Option<Value>, ApiError> {
        let _running = self.gauges.begin();
        let request = EmbeddingRequest::parse(body, self.width)?;
        let sequences = request.inputs.into_iter().map(|input| self.tokens(input)).collect::<Result<Vec<_>, _>>()?;
        let model = || self.model.lock().unwrap_or_else(PoisonError::into_inner);
        model().embedder.check(&sequences).map_err(|error| refused(&error.into()))?;
        let mut vectors = Vec::with_capacity(sequences.len());
        while vectors.len() < sequences.len() {
            if self.stopping.load(Ordering::Relaxed) {
                return Err(ApiError::new(503, "the server is stopping").code("shutting_down"));
            }
            if client_left() {
                return Ok(None);
            }
            let rest = &sequences[vectors.len()..];
            let mut model = model();
            let fitting = model.embedder.fitting(rest);
            vectors.extend(model.embed(&rest[..fitting], true).map_err(|error| refused(&error))?);
        }
        let tokens = sequences.iter().map(Vec::len).sum();
        Ok(Some(embeddings_answer(&self.facts.name, &vectors, request.base64, tokens)))
    }

    fn tokens(&self, input: Input) -> Result<Vec<TokenId>, ApiError> {
        match input {
            Input::Tokens(tokens) => Ok(tokens),
            Input::Text(text) => self
                .tokenizer
                .encode(&text, true, false)
                .map_err(|error| ApiError::parameter("input", error.to_string())),
        }
    }

    fn model(&self) -> Value {
        let facts = &self.facts;
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
                "dimensions": self.width,
            },
        })
    }
}

fn refused(error: &TextEmbedError) -> ApiError {
    match error {
        TextEmbedError::Embed(EmbedError::TooLong { .. }) => {
            ApiError::parameter("input", error.to_string()).code("context_length_exceeded")
        }
        TextEmbedError::Embed(EmbedError::Empty { .. } | EmbedError::TokenOutOfRange { .. }) => {
            ApiError::parameter("input", error.to_string())
        }
        _ => ApiError::new(500, error.to_string()),
    }
}
