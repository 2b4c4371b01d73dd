//! The server: OpenAI's, Anthropic's and Ollama's APIs and the chat page, over HTTP/1.1.
//!
//! `http` moves bytes, `routes` maps paths to handlers, `openai`, `anthropic` and `ollama` check requests and encode answers, `generate`
//! drives the engine for one request, `guard` keeps foreign web pages out, `access` authenticates, `assets` is the page. The
//! server never sees a tensor: it builds on `session`. One thread per connection; the engine batches their requests.
//!
//! The HTTP layer is our own, over `httparse`; ARCHITECTURE.md compares it with `tiny_http` and `hyper`.

mod access;
mod anthropic;
mod assets;
mod choices;
mod conversation;
mod decisions;
mod describe;
pub mod dialect;
mod embeddings;
mod generate;
mod guard;
pub mod http;
pub(crate) mod json;
pub mod limits;
mod llama_cpp;
mod lora;
mod ollama;
pub mod openai;
pub mod page;
mod prepare;
mod responses;
mod routes;
mod texts;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(crate) use access::secret;
pub use access::{Access, Caller, Who};
pub use assets::Assets;
pub use guard::{CorsHeaders, Guard};
pub use limits::Limits;

use crate::plan::AdapterSet;
use crate::session::Session;

/// Queue length: waiting requests per engine slot.
const WAITING_PER_SLOT: usize = 8;
/// How long streams have to send their last event after the grace period.
const LAST_EVENT_TIMEOUT: Duration = Duration::from_secs(1);

/// Where a server listens.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// Port 0 takes any free one.
    Tcp(SocketAddr),
    /// A Unix socket at this path.
    Unix(PathBuf),
}

/// Options of a server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Caps and deadlines.
    pub limits: Limits,
    /// Additional names accepted in `Host`.
    pub allowed_hosts: Vec<String>,
    /// Origins of web pages that may use the API; `*` allows all.
    pub allowed_origins: Vec<String>,
    /// API keys, one of which a request needs; empty: no key is needed.
    pub keys: Vec<String>,
    /// Each unauthenticated connection is a caller of its own.
    pub isolate: bool,
}

/// A bound server, not yet accepting.
pub struct Server {
    listener: http::Listener,
    guard: Guard,
    access: Access,
    limits: Limits,
}

/// Stops a server from another thread: `Server::run` gives running answers a short grace period and returns.
#[derive(Clone)]
pub struct Stopper {
    listener: http::Stopper,
}

impl Stopper {
    /// Starts the shutdown; further calls do nothing.
    pub fn stop(&self) {
        self.listener.stop();
    }
}

impl Server {
    /// Binds the address.
    ///
    /// # Errors
    /// The socket's, among them `AddrInUse`.
    pub fn bind(options: Options) -> std::io::Result<Self> {
        let limits = options.limits;
        let listener = match options.endpoint {
            Endpoint::Tcp(address) => http::Listener::bind(address, limits.clone())?,
            Endpoint::Unix(path) => http::Listener::bind_unix(&path, limits.clone())?,
        };
        let guard = Guard::new(listener.local_addr()?, &options.allowed_hosts, &options.allowed_origins);
        Ok(Self { listener, guard, access: Access::new(&options.keys, options.isolate), limits })
    }

    /// The path of the Unix socket, if it listens on one.
    pub fn socket(&self) -> Option<String> {
        self.listener.path().map(|path| path.display().to_string())
    }

    /// A secret for a link to the page, `#launch=SECRET`, that works any number of times, or `once`.
    pub fn launch_secret(&self, once: bool) -> String {
        self.access.link(once)
    }

    /// Callers that are the same after a restart with the same keys.
    pub fn lasting_callers(&self) -> Vec<u64> {
        self.access.lasting_callers()
    }

    /// The bound address; `None` for a Unix socket.
    ///
    /// # Errors
    /// The socket's.
    pub fn local_addr(&self) -> std::io::Result<Option<SocketAddr>> {
        self.listener.local_addr()
    }

    /// A handle that stops this server.
    ///
    /// # Errors
    /// The socket's.
    pub fn stopper(&self) -> std::io::Result<Stopper> {
        Ok(Stopper { listener: self.listener.stopper()? })
    }

    /// Serves the API and this page until stopped. Parameters missing from a request take the session's defaults.
    pub fn run(self, session: Session, assets: Assets) {
        let Self { listener, guard, access, limits } = self;
        let app = Arc::new(App {
            vocabulary: session.tokenizer.vocab_size(),
            max_waiting: session.facts.parallel * WAITING_PER_SLOT,
            session,
            guard,
            access,
            assets,
            limits,
            gauges: Gauges::default(),
            responses: Arc::default(),
            adapters: Mutex::default(),
            stopping: AtomicBool::new(false),
            ending: AtomicBool::new(false),
        });
        listener.run(app.clone(), |grace_end| app.drain(grace_end));
        // Connections that still end hold the session, and the process may exit before they do.
        app.session.facts.gpu.abandon();
        app.session.engine.close();
    }
}

/// State shared by all requests.
struct App {
    session: Session,
    vocabulary: usize,
    max_waiting: usize,
    guard: Guard,
    access: Access,
    assets: Assets,
    limits: Limits,
    gauges: Gauges,
    responses: Arc<responses::Store>,
    /// The adapters of requests that name none.
    adapters: Mutex<AdapterSet>,
    /// New work is refused.
    stopping: AtomicBool,
    /// The grace period is over: running answers end now.
    ending: AtomicBool,
}

impl App {
    /// Waits for running answers until `grace_end`; then ends the rest with an error event.
    fn drain(&self, grace_end: Instant) {
        self.stopping.store(true, Ordering::SeqCst);
        self.gauges.wait_idle(grace_end);
        self.ending.store(true, Ordering::SeqCst);
        self.gauges.wait_idle(Instant::now() + LAST_EVENT_TIMEOUT);
    }
}

/// Counts for `/health` and `/metrics`.
#[derive(Debug, Default)]
struct Gauges {
    /// Requests being answered.
    answering: AtomicUsize,
    /// Tokens of all answers so far.
    generated_tokens: AtomicU64,
    /// Answers whose client disconnected.
    abandoned: AtomicU64,
    /// Finished answers.
    finished: AtomicU64,
    /// Tokens of their prompts, and how many of these were cached.
    prompt_tokens: AtomicU64,
    cached_tokens: AtomicU64,
    /// Time that prompts took, and answers.
    prompt_micros: AtomicU64,
    generated_micros: AtomicU64,
    /// Tokens that were guessed, and how many of these were right.
    guessed_tokens: AtomicU64,
    accepted_tokens: AtomicU64,
    /// Number of first tokens so far, and their total latency.
    first_tokens: AtomicU64,
    first_token_micros: AtomicU64,
}

impl Gauges {
    /// Counts a request as being answered until the result is dropped.
    fn begin(&self) -> Answering<'_> {
        self.answering.fetch_add(1, Ordering::SeqCst);
        Answering { gauges: self }
    }

    fn wait_idle(&self, end: Instant) {
        while self.answering.load(Ordering::SeqCst) > 0 && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

struct Answering<'a> {
    gauges: &'a Gauges,
}

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        self.gauges.answering.fetch_sub(1, Ordering::SeqCst);
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
