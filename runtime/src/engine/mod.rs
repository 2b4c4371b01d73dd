//! Sequences in, tokens out.
//!
//! One thread owns the model, the KV cache and the worker threads. Requests reach it through a channel, and each gets its own
//! channel back. Every step runs one batch over all sequences that want a token or have prompt left, so streams progress
//! together. Token ids only: no text, no HTTP.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::TokenId;
use crate::device::Program;
use crate::plan::{AdapterSet, Plan};
use crate::sampling::{Constraint, Infill, SamplingParams};
use crate::state::KeptLimit;

mod draft;
mod embed;
mod evaluate;
mod lookup;
mod masks;
mod overflow;
mod scheduler;
mod sequence;
mod share;
mod speculate;
mod store;
#[cfg(test)]
mod tests;
mod warm;

pub use embed::{EmbedError, Embedder};
pub use evaluate::{EvaluateError, Evaluator, Wanted};
pub use overflow::Overflow;
pub use store::Store;
pub use warm::{Warm, computed};

use scheduler::{Scheduler, Submission};
pub(crate) use speculate::MOST_GUESSED;

/// A model loaded on a device.
pub struct Loaded {
    /// The model.
    pub plan: Plan,
    /// The device's program for it.
    pub program: Box<dyn Program>,
}

impl Loaded {
    /// Whether it can generate text.
    pub fn generates(&self) -> bool {
        matches!(self.plan.head, crate::plan::Head::Logits(_)) && self.plan.is_causal()
    }
}

/// How an engine shares its time and memory.
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// Maximum positions per sequence, prompt and answer together.
    pub context: usize,
    /// Sequences that run concurrently; others wait for their turn.
    pub parallel: usize,
    /// Maximum rows per forward pass: longer prompts are split.
    pub batch_tokens: usize,
    /// Whether tokens are guessed and several checked in one step.
    pub speculate: Speculate,
    /// Positions of ended sequences that are kept beyond what the running ones leave room for.
    pub kept: usize,
}

/// When guessed tokens are checked; changes no token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speculate {
    /// Where it is faster, as measured.
    #[default]
    Measured,
    /// Whenever there is a guess, so that a test does not depend on the clock.
    Always,
    /// Never.
    Off,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { context: 2048, parallel: 4, batch_tokens: 512, speculate: Speculate::Measured, kept: 0 }
    }
}

/// Why a request was rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// No room for the prompt and one generated token.
    #[error(
        "the prompt has {prompt} tokens, which exceeds the available context size of {context}, the answer included; shorten the prompt or raise --context"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens of the context.
        context: usize,
    },
    /// The prompt is empty.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// A token id outside the vocabulary.
    #[error("token {token} is outside the vocabulary of {vocabulary}")]
    TokenOutOfRange {
        /// The id.
        token: TokenId,
        /// Number of tokens.
        vocabulary: usize,
    },
    /// The sampling settings are invalid.
    #[error("{0}")]
    Sampling(String),
    /// The engine is shutting down.
    #[error("the engine is shutting down")]
    ShuttingDown,
}

/// What an engine may have beside its model.
#[derive(Default)]
pub struct Companions {
    /// Keeps what is cached across restarts.
    pub store: Option<Store>,
    /// A model with the same vocabulary that guesses, and its context length. Its layers see all positions.
    pub draft: Option<(Loaded, usize)>,
    /// What a bundle has of the prefix that all callers share.
    pub warm: Option<Warm>,
    /// The most that is kept of sequences that have ended; `None`: what there is room for.
    pub limit: Option<KeptLimit>,
}

/// A running engine. Dropping it cancels what runs and stops its thread.
pub struct Engine {
    submissions: Mutex<Option<Sender<Submission>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    load: Arc<Load>,
    options: EngineOptions,
    vocabulary: usize,
}

/// Numbers of running and waiting sequences, and what was done so far.
#[derive(Debug, Default)]
struct Load {
    running: AtomicUsize,
    waiting: AtomicUsize,
    ending: AtomicBool,
    kept_tokens: AtomicUsize,
    evicted_blocks: AtomicU64,
    steps: AtomicU64,
    step_sequences: AtomicU64,
    longest: AtomicUsize,
}

impl Engine {
    /// Starts the engine's thread.
    ///
    /// `shared` is a prefix common to prompts of all callers: its state is cached for all of them, everything else only for the
    /// caller whose prompt it was.
    pub fn start(loaded: Loaded, options: EngineOptions, shared: Vec<TokenId>) -> std::io::Result<Self> {
        Self::start_with(loaded, options, shared, Companions::default())
    }

    /// The same with a file that keeps what is cached, and a draft model.
    pub fn start_with(
        loaded: Loaded,
        options: EngineOptions,
        shared: Vec<TokenId>,
        companions: Companions,
    ) -> std::io::Result<Self> {
        let (submissions, receiver) = mpsc::channel();
        let load = Arc::new(Load::default());
        let vocabulary = loaded.plan.vocabulary;
        let scheduler = Scheduler::new(loaded, options, shared, Arc::clone(&load)).with(companions);
        let thread = std::thread::Builder::new().name("engine".into()).spawn(move || scheduler.run(&receiver))?;
        let (submissions, thread) = (Mutex::new(Some(submissions)), Mutex::new(Some(thread)));
        Ok(Self { submissions, thread, load, options, vocabulary })
    }

    /// Submits a request. Its events arrive through the returned value, over an unbounded channel: a slow receiver never slows
    /// other sequences down.
    pub fn submit(&self, request: Request) -> Result<Generation, SubmitError> {
        let (prompt, context) = (request.prompt.len(), self.options.context);
        if prompt == 0 {
            return Err(SubmitError::EmptyPrompt);
        }
        if prompt >= context && !request.overflow.makes_room(context) {
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
        let submissions = self.submissions.lock().unwrap_or_else(PoisonError::into_inner);
        let submissions = submissions.as_ref().ok_or(SubmitError::ShuttingDown)?;
        self.load.waiting.fetch_add(1, Ordering::Relaxed);
        submissions.send(submission).map_err(|_| SubmitError::ShuttingDown)?;
        Ok(Generation { events: receiver, cancelled })
    }

    /// Cancels what runs, takes nothing more, and returns when the thread has ended and its file is written.
    pub fn close(&self) {
        self.load.ending.store(true, Ordering::Relaxed);
        drop(self.submissions.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    /// Sequences running now.
    pub fn running(&self) -> usize {
        self.load.running.load(Ordering::Relaxed)
    }

    /// Requests waiting for their turn.
    pub fn waiting(&self) -> usize {
        self.load.waiting.load(Ordering::Relaxed)
    }

    /// Tokens whose state is kept, those of running sequences included.
    pub fn kept_tokens(&self) -> usize {
        self.load.kept_tokens.load(Ordering::Relaxed)
    }

    /// Blocks of kept state that were given up so far to make room.
    pub fn evicted_blocks(&self) -> u64 {
        self.load.evicted_blocks.load(Ordering::Relaxed)
    }

    /// Forward passes so far, and the sequences that took part, summed over these.
    pub fn steps(&self) -> (u64, u64) {
        (self.load.steps.load(Ordering::Relaxed), self.load.step_sequences.load(Ordering::Relaxed))
    }

    /// Tokens of the longest sequence so far.
    pub fn longest(&self) -> usize {
        self.load.longest.load(Ordering::Relaxed)
    }

    /// The options in force.
    pub fn options(&self) -> EngineOptions {
        self.options
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.close();
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

    /// The next event, or an error on timeout. `Ok(None)` after the last one.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Event>, RecvTimeoutError> {
        match self.events.recv_timeout(timeout) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(timeout) => Err(timeout),
        }
    }

    /// Ends the generation at the next token; a `Finished` event still follows.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// What to generate, and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// The caller: cached prompt state is only reused for the same caller.
    pub caller: u64,
    /// The prompt; at least one token.
    pub prompt: Vec<TokenId>,
    /// How tokens are sampled.
    pub sampling: SamplingParams,
    /// Sampling as it suits text in a gap.
    pub infill: Option<Infill>,
    /// What happens when the context is full.
    pub overflow: Overflow,
    /// Stop after this many generated tokens; `None`: until the context is full.
    pub max_tokens: Option<usize>,
    /// Tokens that end the generation; they are not reported as `Event::Token`.
    pub end_tokens: Arc<[TokenId]>,
    /// Report the log-probability of each token and of this many most likely alternatives; `None`: none at all.
    pub logprobs: Option<usize>,
    /// Report those of what sampling left to draw from, in place of the model's own.
    pub after_sampling: bool,
    /// The adapters to use; none, where the model has none.
    pub adapters: AdapterSet,
    /// Constrains the answer, e.g. to a grammar.
    pub constraint: Option<Box<dyn Constraint>>,
}

/// The events of a generation, in order: `Prompt*`, `Token*`, `Finished`.
#[derive(Clone, Debug)]
pub enum Event {
    /// Prompt tokens processed so far, including cached ones.
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
    /// Log-probability (natural) under the model, before temperature and truncation; `None` unless requested.
    pub logprob: Option<f32>,
    /// The most likely tokens with theirs, most likely first; empty unless requested.
    pub top: Vec<(TokenId, f32)>,
    /// When it was generated, from the first token on.
    pub since_first: Duration,
}

/// Why a generation ended.
#[derive(Clone, Debug, PartialEq)]
pub enum FinishReason {
    /// The model generated an end token.
    EndToken(TokenId),
    /// The constraint lets nothing follow.
    Complete,
    /// `max_tokens` was reached.
    MaxTokens,
    /// The context is full.
    ContextFull,
    /// The receiver was dropped, or `Generation::cancel` was called.
    Cancelled,
    /// The engine could not go on; one line for the user.
    Failed(String),
    /// Out of memory, or the model's file was changed while mapped.
    Unavailable(String),
    /// What the request asked for leaves no token to choose.
    Refused(String),
}

/// The end of a generation, with its statistics.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Why it ended.
    pub reason: FinishReason,
    /// Tokens of the prompt that were read.
    pub prompt_tokens: usize,
    /// Tokens that were dropped to make room, of the prompt or of what was generated.
    pub shifted_tokens: usize,
    /// Of the prompt's, tokens whose keys and values were still cached.
    pub cached_tokens: usize,
    /// Generated tokens, without the end token.
    pub generated_tokens: usize,
    /// Tokens that were guessed and computed ahead, and how many of these became part of the answer.
    pub guessed_tokens: usize,
    /// See above.
    pub accepted_tokens: usize,
    /// Seconds from the request's start in the engine to its first token.
    pub prefill_seconds: f64,
    /// Seconds from the first token to the end.
    pub decode_seconds: f64,
    /// The seed used.
    pub seed: u64,
}
