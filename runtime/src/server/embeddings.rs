//! The server for an embedding model or a reranker: `/v1/embeddings` or `/v1/rerank`, `/v1/models`, `/health` and Ollama's endpoints;
//! nothing that generates.
//!
//! Requests take turns batch by batch, so that one with many texts does not block the others.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};

use super::access::Access;
use super::describe::model_of;
use super::http::{Body, Exchange, Handler, Head, Headers, Method, Peer, Refusal, Response};
use super::ollama::embedding::{self, Spot};
use super::ollama::error_response;
use super::openai::{ApiError, EmbeddingRequest, Input, RerankRequest, embeddings_answer, native_embeddings, shown};
use super::prepare::weigh;
use super::routes::{allow, check_coding, common_headers, key_needed, takes};
use super::{Gauges, Guard, Server};
use crate::TokenId;
use crate::engine::EmbedError;
use crate::session::Facts;
use crate::session::embedding::{EmbeddingModel, TextEmbedError};
use crate::tokenizer::Tokenizer;

pub(super) struct EmbeddingApp {
    model: Mutex<EmbeddingModel>,
    tokenizer: Arc<Tokenizer>,
    pub(super) facts: Facts,
    /// Elements of a vector.
    pub(super) width: usize,
    /// Whether it scores documents, and embeds nothing.
    scores: bool,
    guard: Guard,
    access: Access,
    gauges: Gauges,
    stopping: AtomicBool,
}

impl Server {
    /// Serves embeddings or scores until stopped.
    pub fn run_embeddings(self, model: EmbeddingModel) {
        let app = Arc::new(EmbeddingApp {
            tokenizer: Arc::clone(&model.tokenizer),
            facts: model.facts.clone(),
            width: model.embedder.plan().output_columns(),
            scores: model.scores_pairs(),
            model: Mutex::new(model),
            guard: self.guard,
            access: self.access,
            gauges: Gauges::default(),
            stopping: AtomicBool::new(false),
        });
        self.listener.run(app.clone(), |grace_end: Instant| {
            app.stopping.store(true, Ordering::SeqCst);
            app.gauges.wait_idle(grace_end);
        });
    }
}

/// The endpoints, with the paths and methods of each.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Route {
    Embeddings,
    /// llama.cpp's.
    Native,
    Rerank,
    Models,
    Health,
    Ollama(Spot),
}

impl Route {
    fn of(path: &str, name: &str) -> Option<Self> {
        match path {
            "/v1/embeddings" => Some(Self::Embeddings),
            "/embeddings" | "/embedding" => Some(Self::Native),
            "/v1/rerank" | "/v1/reranking" | "/rerank" | "/reranking" => Some(Self::Rerank),
            "/v1/models" | "/models" => Some(Self::Models),
            "/health" | "/v1/health" => Some(Self::Health),
            _ if path.strip_prefix("/v1/models/") == Some(name) => Some(Self::Models),
            _ => Spot::of(path).map(Self::Ollama),
        }
    }

    fn method(self) -> Method {
        match self {
            Self::Embeddings | Self::Native | Self::Rerank => Method::Post,
            Self::Models | Self::Health => Method::Get,
            Self::Ollama(spot) => spot.method(),
        }
    }

    /// Whether it is of no use with a model that scores documents, or with one that does not.
    fn unmet(self, scores: bool) -> Option<ApiError> {
        match self {
            Self::Embeddings | Self::Native | Self::Ollama(Spot::Embed | Spot::Embeddings) if scores => Some(
                ApiError::new(501, "this model scores documents against a query, at /v1/rerank, and embeds nothing"),
            ),
            Self::Rerank if !scores => {
                Some(ApiError::new(501, "this model embeds texts, at /v1/embeddings, and scores no documents"))
            }
            Self::Ollama(spot) => spot.unmet(),
            _ => None,
        }
    }

    fn is_open(self) -> bool {
        matches!(self, Self::Health | Self::Ollama(Spot::Root))
    }
}

impl Handler for EmbeddingApp {
    fn admit(&self, head: &Head, peer: &Peer) -> Result<Headers, Response> {
        let mut headers = common_headers();
        headers.extend(self.guard.admit(head).map_err(|refusal| self.refuse(Some(head), &refusal))?);
        self.check(head, peer).map_err(|(error, allow)| {
            let mut response = self.error_at(head, &error);
            response.headers.extend(headers.iter().cloned());
            match allow {
                Some(allow) => response.with("Allow", allow),
                None => response,
            }
        })?;
        Ok(headers)
    }

    fn handle(&self, head: &Head, body: Body, exchange: &mut Exchange<'_>) -> io::Result<()> {
        // `admit` has checked that the route exists.
        let Some(route) = Route::of(&head.path, &self.facts.name) else {
            return exchange.respond(&Response::empty(404));
        };
        let response = match route {
            _ if head.method == Method::Options => self.guard.preflight(head, allow(route.method())),
            Route::Embeddings | Route::Native => match self.embeddings(route, body, &mut || exchange.client_left()) {
                Ok(Some(answer)) => Response::json(200, &answer),
                Ok(None) => return Err(io::ErrorKind::BrokenPipe.into()),
                Err(error) => error.response(),
            },
            Route::Rerank => match self.rerank(body, &mut || exchange.client_left()) {
                Ok(Some(answer)) => Response::json(200, &answer),
                Ok(None) => return Err(io::ErrorKind::BrokenPipe.into()),
                Err(error) => error.response(),
            },
            Route::Ollama(spot) => match embedding::answer(self, spot, body, &mut || exchange.client_left()) {
                Some(response) => response,
                None => return Err(io::ErrorKind::BrokenPipe.into()),
            },
            Route::Models => match head.path.strip_prefix("/v1/models/") {
                None => Response::json(200, &json!({"object": "list", "data": [self.model()]})),
                Some(_) => Response::json(200, &self.model()),
            },
            Route::Health => {
                let status = if self.stopping.load(Ordering::Relaxed) { "stopping" } else { "ok" };
                Response::json(200, &json!({ "status": status })).with("Cache-Control", "no-store")
            }
        };
        exchange.respond(&response)
    }

    fn refuse(&self, head: Option<&Head>, refusal: &Refusal) -> Response {
        let error = ApiError::from(refusal);
        let mut response = head.map_or_else(|| error.response(), |head| self.error_at(head, &error));
        response.headers.extend(common_headers());
        response
    }
}

impl EmbeddingApp {
    /// An error in the format of the requested endpoint.
    fn error_at(&self, head: &Head, error: &ApiError) -> Response {
        match Route::of(&head.path, &self.facts.name) {
            Some(Route::Ollama(_)) => error_response(error),
            _ => error.response(),
        }
    }

    /// Checks path, method, key and coding. The error comes with the `Allow` header for a 405.
    fn check(&self, head: &Head, peer: &Peer) -> Result<(), (ApiError, Option<&'static str>)> {
        let Some(route) = Route::of(&head.path, &self.facts.name) else {
            let (what, place) = if self.scores {
                ("a reranking model", "/v1/rerank")
            } else {
                ("an embedding model", "/v1/embeddings")
            };
            let message =
                format!("there is nothing at `{}`: this is {what}, which answers at {place}", shown(&head.path));
            return Err((ApiError::new(404, message), None));
        };
        let method = route.method();
        if !takes(method, head.method) {
            let message = format!("`{}` accepts only {}", shown(&head.path), allow(method));
            return Err((ApiError::new(405, message), Some(allow(method))));
        }
        if head.method == Method::Options || route.is_open() {
            return Ok(());
        }
        if self.access.identify(head, peer).is_none() {
            return Err((key_needed(), None));
        }
        if let Some(error) = route.unmet(self.scores) {
            return Err((error, None));
        }
        if head.method == Method::Post { check_coding(head).map_err(|error| (error, None)) } else { Ok(()) }
    }

    /// The answer; `None` if the client disconnected.
    fn embeddings(
        &self,
        route: Route,
        mut body: Body,
        client_left: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Value>, ApiError> {
        weigh(&mut body)?;
        let request = EmbeddingRequest::parse(&body.bytes, self.width)?;
        let sequences = request.inputs.into_iter().map(|input| self.tokens(input)).collect::<Result<Vec<_>, _>>()?;
        let Some(vectors) = self.vectors("input", &sequences, true, client_left)? else { return Ok(None) };
        if route == Route::Native {
            return Ok(Some(native_embeddings(&vectors)));
        }
        let tokens = sequences.iter().map(Vec::len).sum();
        Ok(Some(embeddings_answer(&self.facts.name, &vectors, request.base64, tokens)))
    }

    /// The documents in order; `None` if the client disconnected.
    fn rerank(&self, mut body: Body, client_left: &mut dyn FnMut() -> bool) -> Result<Option<Value>, ApiError> {
        weigh(&mut body)?;
        let request = RerankRequest::parse(&body.bytes)?;
        let documents = request.documents.iter().map(String::as_str);
        let pairs = self.model.lock().unwrap_or_else(PoisonError::into_inner).pairs(&request.query, documents);
        let name = request.name();
        let pairs = pairs.map_err(|error| ApiError::parameter(name, error.to_string()))?;
        let Some(vectors) = self.vectors(name, &pairs, false, client_left)? else { return Ok(None) };
        // Of a model with several classes the first is what other servers take, too.
        let scores: Vec<f32> = vectors.iter().map(|vector| vector.first().copied().unwrap_or_default()).collect();
        Ok(Some(request.answer(&self.facts.name, &scores, pairs.iter().map(Vec::len).sum())))
    }

    /// A vector for each sequence; `None` if the client disconnected. `name` is the parameter that the sequences come from.
    pub(super) fn vectors(
        &self,
        name: &str,
        sequences: &[Vec<TokenId>],
        normalise: bool,
        client_left: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Vec<Vec<f32>>>, ApiError> {
        let _running = self.gauges.begin();
        let model = || self.model.lock().unwrap_or_else(PoisonError::into_inner);
        model().embedder.check(sequences).map_err(|error| refused(name, &error.into()))?;
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
            vectors.extend(model.embed(&rest[..fitting], normalise).map_err(|error| refused(name, &error))?);
        }
        Ok(Some(vectors))
    }

    pub(super) fn tokens(&self, input: Input) -> Result<Vec<TokenId>, ApiError> {
        match input {
            Input::Tokens(tokens) => Ok(tokens),
            Input::Text(text) => self
                .tokenizer
                .encode(&text, true, false)
                .map_err(|error| ApiError::parameter("input", error.to_string())),
        }
    }

    fn model(&self) -> Value {
        let mut model = model_of(&self.facts);
        model["meta"]["dimensions"] = self.width.into();
        model["capabilities"] = json!([if self.scores { "rerank" } else { "embedding" }]);
        model
    }
}

fn refused(name: &str, error: &TextEmbedError) -> ApiError {
    match error {
        TextEmbedError::Embed(EmbedError::TooLong { .. }) => {
            ApiError::parameter(name, error.to_string()).code("context_length_exceeded")
        }
        TextEmbedError::Embed(EmbedError::Empty { .. } | EmbedError::TokenOutOfRange { .. }) => {
            ApiError::parameter(name, error.to_string())
        }
        _ => ApiError::new(500, error.to_string()),
    }
}
