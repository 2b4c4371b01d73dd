//! Sequences in, tokens out.
//!
//! One thread owns the model, the KV cache and the worker threads. Requests reach it through a channel; each gets a
//! channel of its own back. Every step runs one batch over all sequences that want a token or have prompt left, so
//! streams progress together. Token ids only: no text, no HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::TokenId;
use crate::device::Program;
use crate::plan::Plan;
use crate::sampling::{Constraint, SamplingParams};

mod embed;
mod evaluate;
mod scheduler;
mod sequence;
mod share;
#[cfg(test)]
mod tests;

pub use embed::{EmbedError, Embedder};
pub use evaluate::{EvaluateError, Evaluator, Wanted};

use scheduler::{Scheduler, Submission};

/// A model that a device has loaded.
pub struct Loaded {
    /// What it is.
    pub plan: Plan,
    /// What carries it out.
    pub program: Box<dyn Program>,
}

/// How an engine shares its time and memory.
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// Positions a sequence may hold, prompt and answer together.
    pub context: usize,
    /// Sequences that run at once; more wait for their turn.
    pub parallel: usize,
    /// Most rows of a forward pass: a longer prompt goes in pieces.
    pub batch_tokens: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { context: 2048, parallel: 4, batch_tokens: 512 }
    }
}

/// Why a request was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// No room for the prompt and one token of answer.
    #[error(
        "the prompt has {prompt} tokens, but the context holds {context}, the answer included; shorten the prompt or raise --context"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens of the context.
        context: usize,
    },
    /// Nothing to go on from.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// A token id that the vocabulary does not have.
    #[error("token {token} is outside the vocabulary of {vocabulary}")]
    TokenOutOfRange {
        /// The id.
        token: TokenId,
        /// Number of tokens.
        vocabulary: usize,
    },
    /// The sampling settings cannot be used.
    #[error("{0}")]
    Sampling(String),
    /// The engine is ending.
    #[error("the engine is shutting down")]
    ShuttingDown,
}

/// A running engine. Dropping it cancels what runs and ends its thread.
pub struct Engine {
    submissions: Option<Sender<Submission>>,
    thread: Option<JoinHandle<()>>,
    load: Arc<Load>,
    options: EngineOptions,
    vocabulary: usize,
}

/// How many sequences run and wait.
#[derive(Debug, Default)]
struct Load {
    running: AtomicUsize,
    waiting: AtomicUsize,
    ending: AtomicBool,
}

impl Engine {
    /// Starts the engine's thread.
    pub fn start(loaded: Loaded, options: EngineOptions) -> std::io::Result<Self> {
        let (submissions, receiver) = mpsc::channel();
        let load = Arc::new(Load::default());
        let vocabulary = loaded.plan.vocabulary;
        let scheduler = Scheduler::new(loaded, options, Arc::clone(&load));
        let thread = std::thread::Builder::new().name("engine".into()).spawn(move || scheduler.run(&receiver))?;
        Ok(Self { submissions: Some(submissions), thread: Some(thread), load, options, vocabulary })
    }

    /// Hands in a request. Events come through the result, in a channel without a bound: the receiver never slows the
    /// other sequences down.
    pub fn submit(&self, request: Request) -> Result<Generation, SubmitError> {
        let (prompt, context) = (request.prompt.len(), self.options.context);
        if prompt == 0 {
            return Err(SubmitError::EmptyPrompt);
        }
        if prompt >= context {
            return Err(SubmitError::PromptTooLong { prompt, context });
        }
        if let Some(&token) = request.prompt.iter().find(|&&token| token as usize >= self.vocabulary) {
            return Err(SubmitError::TokenOutOfRange { token, vocabulary: self.vocabulary });
        }
        if let Some(&(token, _)) =
            request.sampling.logit_bias.iter().find(|(token, _)| *token as usize >= self.vocabulary)
        {
            return Err(SubmitError::TokenOutOfRange { token, vocabulary: self.vocabulary });
        }
        request.sampling.validate().map_err(SubmitError::Sampling)?;
        let (events, receiver) = mpsc::channel();
        let cancelled = Arc::new(AtomicBool::new(false));
        let submission = Submission { request, events, cancelled: Arc::clone(&cancelled), submitted: Instant::now() };
        let submissions = self.submissions.as_ref().ok_or(SubmitError::ShuttingDown)?;
        self.load.waiting.fetch_add(1, Ordering::Relaxed);
        submissions.send(submission).map_err(|_| SubmitError::ShuttingDown)?;
        Ok(Generation { events: receiver, cancelled })
    }

    /// Sequences that run now.
    pub fn running(&self) -> usize {
        self.load.running.load(Ordering::Relaxed)
    }

    /// Requests that wait for their turn.
    pub fn waiting(&self) -> usize {
        self.load.waiting.load(Ordering::Relaxed)
    }

    /// The options in force.
    pub fn options(&self) -> EngineOptions {
        self.options
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.load.ending.store(true, Ordering::Relaxed);
        self.submissions = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The events of one request. Dropping it cancels the request within a token.
#[derive(Debug)]
pub struct Generation {
    events: Receiver<Event>,
    cancelled: Arc<AtomicBool>,
}

impl Generation {
    /// The next event; `None` after the last one. Blocks.
    pub fn recv(&mut self) -> Option<Event> {
        self.events.recv().ok()
    }

    /// The next event, or an error when none came in time. `Ok(None)` after the last one.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Event>, RecvTimeoutError> {
        match self.events.recv_timeout(timeout) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(timeout) => Err(timeout),
        }
    }

    /// Ends the generation at the next token; its `Finished` event still comes.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// What to generate.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who asks: what is kept of a prompt is found again by the same caller only.
    pub caller: u64,
    /// The prompt; at least one token.
    pub prompt: Vec<TokenId>,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Stop after this many generated tokens; `None`: until the context is full.
    pub max_tokens: Option<usize>,
    /// Tokens that end the generation; they are not reported as `Event::Token`.
    pub end_tokens: Arc<[TokenId]>,
    /// Report the log-probability of each token and of this many most likely alternatives; `None`: no log-probabilities.
    pub logprobs: Option<usize>,
    /// What the answer has to satisfy.
    pub constraint: Option<Box<dyn Constraint>>,
}

/// What a generation reports, in order: `Prompt*`, `Token*`, `Finished`.
#[derive(Clone, Debug)]
pub enum Event {
    /// Prompt tokens processed so far (prefix-cached ones counted).
    Prompt {
        /// Tokens in the KV cache.
        done: usize,
        /// Tokens in the prompt.
        total: usize,
    },
    /// A generated token.
    Token(GeneratedToken),
    /// The last event.
    Finished(Finished),
}

/// One generated token.
#[derive(Clone, Debug)]
pub struct GeneratedToken {
    /// Its id.
    pub id: TokenId,
    /// Natural logarithm of its probability under the model (before temperature and cut-offs); `None` unless asked for.
    pub logprob: Option<f32>,
    /// The most likely tokens with theirs, best first; empty unless asked for.
    pub top: Vec<(TokenId, f32)>,
}

/// Why a generation ended.
#[derive(Clone, Debug, PartialEq)]
pub enum FinishReason {
    /// The model gave an end token.
    EndToken(TokenId),
    /// `max_tokens` reached.
    MaxTokens,
    /// No room left in the context.
    ContextFull,
    /// The receiver went away, or `Generation::cancel` was called.
    Cancelled,
    /// The engine could not go on; one line for the person.
    Failed(String),
}

/// The end of a generation, with its figures.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Why.
    pub reason: FinishReason,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of these, tokens whose keys and values were still in the cache.
    pub cached_tokens: usize,
    /// Generated tokens, the end token not counted.
    pub generated_tokens: usize,
    /// Seconds from the request's start in the engine to its first token.
    pub prefill_seconds: f64,
    /// Seconds from the first token to the end.
    pub decode_seconds: f64,
    /// The seed that was used.
    pub seed: u64,
}
