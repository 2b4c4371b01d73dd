//! The route table: method, path, requirements and handler.
//!
//! HEAD works wherever GET does, OPTIONS everywhere. A request is refused (foreign page, unknown path or method, missing
//! key, unsupported coding, full queue) before its body is read.

use std::io;

use super::access::Who;
use super::anthropic::handlers as anthropic;
use super::http::{Body, Exchange, Handler, Head, Headers, Method, Peer, Refusal, Response};
use super::llama_cpp::{self, Endpoint as Native};
use super::ollama::handlers as ollama;
use super::ollama::{Endpoint as Asked, embeds_nothing, error_response, is_managing, manages_nothing};
use super::openai::{ApiError, shown};
use super::responses::handlers as responses;
use super::{App, decisions, describe, generate, lora, prepare, texts};

/// A request on its way to its handler.
pub(super) struct Call<'a> {
    pub(super) head: &'a Head,
    pub(super) body: Body,
    pub(super) who: Who,
    /// The path after the route's prefix.
    pub(super) rest: &'a str,
    /// Whether the client has disconnected, for long-running work to poll.
    pub(super) client_left: &'a mut dyn FnMut() -> bool,
}

/// One row of the table.
struct Route {
    method: Method,
    path: Path,
    needs: Needs,
    answer: fn(&App, Call<'_>) -> Answer,
    /// The format of its errors.
    refuse: fn(&ApiError) -> Response,
}

enum Path {
    Exact(&'static str),
    /// Any path with this prefix and something after it.
    Below(&'static str),
    /// What manages models in Ollama's API.
    Managing,
    /// A file of the page.
    Page,
}

/// What a request needs.
#[derive(Clone, Copy, Debug)]
enum Needs {
    Nothing,
    /// A key, if the server has keys.
    Key,
    /// Likewise, and a place in the queue.
    Place,
    /// A key, if the server has keys, and what no server of this kind has: it is refused before its body is read.
    Unmet(fn() -> ApiError),
}

/// A handler's result: a response, or work that will produce one.
pub(super) enum Answer {
    Whole(Response),
    Generate(generate::Work),
}

impl From<Result<Response, ApiError>> for Answer {
    fn from(result: Result<Response, ApiError>) -> Self {
        Self::Whole(result.unwrap_or_else(|error| error.response()))
    }
}

impl From<Result<generate::Work, ApiError>> for Answer {
    fn from(result: Result<generate::Work, ApiError>) -> Self {
        result.map_or_else(|error| Self::Whole(error.response()), Self::Generate)
    }
}

const fn get(path: Path, needs: Needs, answer: fn(&App, Call<'_>) -> Answer) -> Route {
    Route { method: Method::Get, path, needs, answer, refuse: ApiError::response }
}

const fn post(path: &'static str, needs: Needs, answer: fn(&App, Call<'_>) -> Answer) -> Route {
    Route { method: Method::Post, path: Path::Exact(path), needs, answer, refuse: ApiError::response }
}

/// Stands before the route that gets what it deletes.
const fn delete(path: Path, answer: fn(&App, Call<'_>) -> Answer) -> Route {
    Route { method: Method::Delete, path, needs: Needs::Key, answer, refuse: ApiError::response }
}

/// A route of Anthropic's API.
const fn for_anthropic(route: Route) -> Route {
    Route { refuse: super::anthropic::error_response, ..route }
}

/// A route of Ollama's API.
const fn for_ollama(route: Route) -> Route {
    Route { refuse: error_response, ..route }
}

/// A route of llama.cpp's server that is refused.
const fn lacking(path: Path, why: fn() -> ApiError) -> Route {
    Route { refuse: ApiError::native_response, ..unmet(Method::Post, path, why) }
}

/// A route of Ollama's API that is refused.
const fn unmet(method: Method, path: Path, why: fn() -> ApiError) -> Route {
    let answer = |_: &App, _: Call<'_>| Answer::Whole(Response::empty(501));
    Route { method, path, needs: Needs::Unmet(why), answer, refuse: error_response }
}

/// All routes; the first match wins.
static ROUTES: &[Route] = &[
    get(Path::Exact("/health"), Needs::Nothing, |app, call| Answer::Whole(describe::health(app, &call))),
    get(Path::Exact("/metrics"), Needs::Key, |app, _| Answer::Whole(describe::metrics(app))),
    get(Path::Exact("/props"), Needs::Key, |app, call| Answer::Whole(describe::props(app, &call))),
    get(Path::Exact("/slots"), Needs::Key, |app, _| Answer::Whole(describe::slots(app))),
    get(Path::Exact("/api/facts"), Needs::Key, |app, call| Answer::Whole(describe::facts(app, &call))),
    post("/api/session", Needs::Nothing, |app, call| describe::session(app, call).into()),
    get(Path::Exact("/v1/models"), Needs::Key, |app, call| match anthropic::asks(call.head) {
        true => Answer::Whole(anthropic::models(app)),
        false => Answer::Whole(describe::models(app)),
    }),
    get(Path::Below("/v1/models/"), Needs::Key, |app, call| match anthropic::asks(call.head) {
        true => Answer::Whole(anthropic::one_model(app, &call)),
        false => describe::one_model(app, &call).into(),
    }),
    for_anthropic(post("/v1/messages", Needs::Place, anthropic::messages)),
    for_anthropic(post("/v1/messages/count_tokens", Needs::Key, anthropic::count_tokens)),
    post("/v1/chat/completions", Needs::Place, |app, call| prepare::chat(app, call).into()),
    post("/v1/completions", Needs::Place, |app, call| prepare::completion(app, call).into()),
    post("/v1/responses", Needs::Place, |app, call| responses::create(app, call).into()),
    post("/v1/responses/input_tokens", Needs::Key, |app, call| responses::count(app, call).into()),
    delete(Path::Below("/v1/responses/"), |app, call| responses::delete(app, &call).into()),
    get(Path::Below("/v1/responses/"), Needs::Key, |app, call| responses::retrieve(app, &call).into()),
    post("/v1/decisions", Needs::Place, |app, call| decisions::openai_decisions(app, call).into()),
    Route { refuse: decisions::error_response, ..post("/v1/systemone", Needs::Place, decisions::system_one) },
    // llama.cpp's names.
    post("/chat/completions", Needs::Place, |app, call| prepare::chat(app, call).into()),
    post("/chat/completions/input_tokens", Needs::Key, |app, call| prepare::count(app, call).into()),
    post("/v1/chat/completions/input_tokens", Needs::Key, |app, call| prepare::count(app, call).into()),
    post("/responses", Needs::Place, |app, call| responses::create(app, call).into()),
    post("/responses/input_tokens", Needs::Key, |app, call| responses::count(app, call).into()),
    post("/completion", Needs::Place, |app, call| llama_cpp::work(app, Native::Completion, call).into()),
    post("/completions", Needs::Place, |app, call| llama_cpp::work(app, Native::Completion, call).into()),
    post("/infill", Needs::Place, |app, call| llama_cpp::work(app, Native::Infill, call).into()),
    // Open as in llama.cpp's server; `/v1/models` is by what clients find out whether their key is right.
    get(Path::Exact("/models"), Needs::Nothing, |app, _| Answer::Whole(describe::models(app))),
    lacking(Path::Below("/slots/"), describe::keeps_no_slots),
    lacking(Path::Exact("/v1/embeddings"), embeds_nothing),
    lacking(Path::Exact("/embeddings"), embeds_nothing),
    lacking(Path::Exact("/embedding"), embeds_nothing),
    lacking(Path::Exact("/rerank"), describe::ranks_nothing),
    lacking(Path::Exact("/reranking"), describe::ranks_nothing),
    lacking(Path::Exact("/v1/rerank"), describe::ranks_nothing),
    lacking(Path::Exact("/v1/reranking"), describe::ranks_nothing),
    get(Path::Exact("/v1/health"), Needs::Nothing, |app, call| Answer::Whole(describe::health(app, &call))),
    get(Path::Exact("/lora-adapters"), Needs::Key, |app, _| Answer::Whole(lora::list(app))),
    post("/lora-adapters", Needs::Key, |app, call| lora::choose(app, call).into()),
    post("/tokenize", Needs::Key, |app, call| texts::tokenize(app, call).into()),
    post("/detokenize", Needs::Key, |app, call| texts::detokenize(app, call).into()),
    post("/apply-template", Needs::Key, |app, call| texts::apply_template(app, call).into()),
    for_ollama(get(Path::Exact("/api/version"), Needs::Key, |_, _| Answer::Whole(ollama::version()))),
    for_ollama(get(Path::Exact("/api/tags"), Needs::Key, |app, _| Answer::Whole(ollama::tags(app)))),
    for_ollama(get(Path::Exact("/api/ps"), Needs::Key, |app, _| Answer::Whole(ollama::ps(app)))),
    for_ollama(post("/api/show", Needs::Key, ollama::show)),
    for_ollama(post("/api/chat", Needs::Place, |app, call| ollama::work(app, Asked::Chat, call))),
    for_ollama(post("/api/generate", Needs::Place, |app, call| ollama::work(app, Asked::Generate, call))),
    unmet(Method::Post, Path::Exact("/api/embed"), embeds_nothing),
    unmet(Method::Post, Path::Exact("/api/embeddings"), embeds_nothing),
    unmet(Method::Other, Path::Managing, manages_nothing),
    get(Path::Exact("/"), Needs::Nothing, |app, call| Answer::Whole(ollama::root(app, &call))),
    get(Path::Page, Needs::Nothing, |app, call| Answer::Whole(describe::page(app, &call))),
];

impl Route {
    /// The path after this route's prefix; `None` if the route does not match.
    fn rest<'a>(&self, app: &App, path: &'a str) -> Option<&'a str> {
        match self.path {
            Path::Exact(exact) => (path == exact).then_some(""),
            Path::Below(folder) => path.strip_prefix(folder).filter(|rest| !rest.is_empty()),
            Path::Managing => is_managing(path).then_some(""),
            Path::Page => (path == "*" || app.assets.has(path)).then_some(path),
        }
    }
}

/// The value of `Allow` for a route of that method; `Method::Other` stands for any.
pub(super) fn allow(method: Method) -> &'static str {
    match method {
        Method::Post => "POST, OPTIONS",
        Method::Delete => "GET, HEAD, DELETE, OPTIONS",
        Method::Other => "GET, HEAD, POST, PUT, DELETE, OPTIONS",
        _ => "GET, HEAD, OPTIONS",
    }
}

/// Whether a route of that method takes a request.
pub(super) fn takes(method: Method, asked: Method) -> bool {
    let follows = asked == method || (asked == Method::Head && method == Method::Get);
    follows || asked == Method::Options || method == Method::Other
}

impl App {
    /// The first route of the path that takes the method, else the path's first.
    fn route<'a>(&self, path: &'a str, method: Method) -> Option<(&'static Route, &'a str)> {
        let mut there = ROUTES.iter().filter_map(|route| Some((route, route.rest(self, path)?))).peekable();
        let first = there.peek().copied();
        there.find(|(route, _)| takes(route.method, method)).or(first)
    }

    /// An error in the format of the requested route.
    fn error_at(&self, head: &Head, error: &ApiError) -> Response {
        self.route(&head.path, head.method).map_or_else(|| error.response(), |(route, _)| (route.refuse)(error))
    }

    /// Checks key, coding and queue, once path and method are known to be right.
    fn check(&self, route: &Route, head: &Head, peer: &Peer) -> Result<(), ApiError> {
        if !matches!(route.needs, Needs::Nothing) && self.access.identify(head, peer).is_none() {
            return Err(key_needed());
        }
        if let Needs::Unmet(why) = route.needs {
            return Err(why());
        }
        if route.method == Method::Post {
            check_coding(head)?;
        }
        if matches!(route.needs, Needs::Place) { generate::admit(self) } else { Ok(()) }
    }
}

/// 401 for a request without a valid key.
pub(super) fn key_needed() -> ApiError {
    ApiError::new(401, "this server needs an API key: send it as `Authorization: Bearer KEY`").code("invalid_api_key")
}

/// Bodies are read as uncompressed UTF-8; one declared as anything else is refused rather than misread.
pub(super) fn check_coding(head: &Head) -> Result<(), ApiError> {
    let coded = head.header("content-encoding").filter(|coding| !coding.eq_ignore_ascii_case("identity"));
    if let Some(coding) = coded {
        let message = format!("the body is encoded with `{}`; send it unencoded", shown(coding));
        return Err(ApiError::new(415, message));
    }
    let parameters = head.header("content-type").unwrap_or_default().split(';').skip(1);
    let charset = parameters.filter_map(|parameter| parameter.split_once('=')).find_map(|(name, value)| {
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"').to_ascii_lowercase())
    });
    match charset.as_deref() {
        None | Some("utf-8" | "utf8" | "us-ascii" | "ascii") => Ok(()),
        Some(other) => Err(ApiError::new(415, format!("the body is in `{}`; send it in UTF-8", shown(other)))),
    }
}

impl Handler for App {
    fn admit(&self, head: &Head, peer: &Peer) -> Result<Headers, Response> {
        let mut headers = common_headers();
        headers.extend(self.guard.admit(head).map_err(|refusal| self.refuse(Some(head), &refusal))?);
        let refuse = |error: ApiError| {
            let mut response = self.error_at(head, &error);
            response.headers.extend(headers.iter().cloned());
            response
        };
        let Some((route, _)) = self.route(&head.path, head.method) else {
            return Err(refuse(ApiError::new(404, format!("there is nothing at `{}`", shown(&head.path)))));
        };
        if !takes(route.method, head.method) {
            let message = format!("`{}` accepts only {}", shown(&head.path), allow(route.method));
            return Err(refuse(ApiError::new(405, message)).with("Allow", allow(route.method)));
        }
        if head.method != Method::Options {
            self.check(route, head, peer).map_err(refuse)?;
        }
        Ok(headers)
    }

    fn handle(&self, head: &Head, body: Body, exchange: &mut Exchange<'_>) -> io::Result<()> {
        // `admit` has checked both; routes that need nothing are admitted without an identity.
        let Some((route, rest)) = self.route(&head.path, head.method) else {
            return exchange.respond(&Response::empty(404));
        };
        let who = self.access.identify(head, &exchange.peer()).unwrap_or(Who::STRANGER);
        if head.method == Method::Options {
            return exchange.respond(&self.guard.preflight(head, allow(route.method)));
        }
        let mut client_left = || exchange.client_left();
        match (route.answer)(self, Call { head, body, who, rest, client_left: &mut client_left }) {
            Answer::Whole(response) => exchange.respond(&response),
            Answer::Generate(work) => generate::run(self, work, exchange),
        }
    }

    fn refuse(&self, head: Option<&Head>, refusal: &Refusal) -> Response {
        let error = ApiError::from(refusal);
        let mut response = head.map_or_else(|| error.response(), |head| self.error_at(head, &error));
        response.headers.extend(common_headers());
        response
    }
}

pub(super) fn common_headers() -> Headers {
    vec![("X-Content-Type-Options", "nosniff".to_string()), ("Referrer-Policy", "no-referrer".to_string())]
}
