//! The server: OpenAI's API and the chat page, over HTTP/1.1.
//!
//! `http` moves bytes, `openai` checks requests and shapes answers, `routes` says what is where, `generate` drives the
//! engine for one request, `guard` keeps foreign web pages out, `assets` is the page. The server never sees a tensor: it
//! stands on `session`. A thread a connection; the engine batches what they ask for.
//!
//! `tiny_http` 0.12 was measured first and left: a 75-byte request (`Content-Length: 70368744177664`) aborts the
//! process, one header may take 256 MiB of memory, 500 unfinished heads hold 500 threads without a time limit, and a
//! client that leaves before the first token cannot be noticed. `httparse` reads heads instead; the rest is `http`.

mod assets;
mod choices;
mod embeddings;
mod generate;
mod guard;
pub mod http;
pub mod limits;
pub mod openai;
pub mod page;
mod routes;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use assets::Assets;
pub use guard::{CorsHeaders, Guard};
pub use limits::Limits;

use crate::session::Session;

/// Requests that may wait for a place in the engine, for each place.
const WAITING_PER_PLACE: usize = 8;
/// After the grace, how long streams have to send their last event.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a server is bound with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens; port 0 takes any free one.
    pub address: SocketAddr,
    /// Caps and deadlines.
    pub limits: Limits,
    /// Further names that `Host` may give.
    pub allowed_hosts: Vec<String>,
    /// Origins of web pages that may use the API; `*` all.
    pub allowed_origins: Vec<String>,
}

/// A bound server that does not answer yet.
pub struct Server {
    listener: http::Listener,
    guard: Guard,
    limits: Limits,
}

/// Stops a server from another thread: `Server::run` lets answers finish for a short grace and returns.
#[derive(Clone)]
pub struct Stopper {
    listener: http::Stopper,
}

impl Stopper {
    /// Begins to stop. Calling it again changes nothing.
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
        let listener = http::Listener::bind(options.address, options.limits.clone())?;
        let guard = Guard::new(listener.local_addr()?, &options.allowed_hosts, &options.allowed_origins);
        Ok(Self { listener, guard, limits: options.limits })
    }

    /// The address in use.
    ///
    /// # Errors
    /// The socket's.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The handle that stops this server.
    ///
    /// # Errors
    /// The socket's.
    pub fn stopper(&self) -> std::io::Result<Stopper> {
        Ok(Stopper { listener: self.listener.stopper()? })
    }

    /// Answers until stopped, with this page and, where a request says nothing, the session's defaults.
    pub fn run(self, session: Session, assets: Assets) {
        let Self { listener, guard, limits } = self;
        let app = Arc::new(App {
            vocabulary: session.tokenizer.vocab_size(),
            max_waiting: session.facts.parallel * WAITING_PER_PLACE,
            session,
            guard,
            assets,
            limits,
            gauges: Gauges::default(),
            stopping: AtomicBool::new(false),
            ending: AtomicBool::new(false),
        });
        listener.run(app.clone(), |grace_end| app.drain(grace_end));
    }
}

/// What every request sees.
struct App {
    session: Session,
    vocabulary: usize,
    max_waiting: usize,
    guard: Guard,
    assets: Assets,
    limits: Limits,
    gauges: Gauges,
    /// No new work is taken.
    stopping: AtomicBool,
    /// The grace is over: answers end now.
    ending: AtomicBool,
}

impl App {
    /// Waits until no answer runs, at most until `grace_end`; then ends the rest properly.
    fn drain(&self, grace_end: Instant) {
        self.stopping.store(true, Ordering::SeqCst);
        self.gauges.wait_idle(grace_end);
        self.ending.store(true, Ordering::SeqCst);
        self.gauges.wait_idle(Instant::now() + LAST_WORDS);
    }
}

/// Counts for `/health`.
#[derive(Debug, Default)]
struct Gauges {
    /// Requests whose answer is being made.
    answering: AtomicUsize,
    /// Tokens of all answers so far.
    generated_tokens: AtomicU64,
    /// Answers whose client went away.
    abandoned: AtomicU64,
}

impl Gauges {
    /// Counts a request until the result is dropped.
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
