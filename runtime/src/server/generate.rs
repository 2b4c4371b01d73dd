//! From a checked request to a response, whole or streamed, in any dialect.
//!
//! Between any two engine events the answering thread checks its socket and the stop flag: if the client disconnects, its
//! generations are cancelled (by dropping `Choices`), and a server that shuts down ends every stream with an error, not by
//! just closing it. Errors before the first byte are plain HTTP errors.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::App;
use super::choices::{Choices, News};
use super::dialect::{Choice, Delta, Dialect};
use super::http::{Exchange, Response};
use super::openai::{ApiError, Tally};
use crate::session::{Reader, Reading, StopReason, SubmitError, TextEvent, TextFinished, TextRequest};

/// A checked request, ready for the engine.
pub(super) struct Work {
    /// One per choice; each run of `n` shares a prompt.
    pub(super) requests: Vec<TextRequest>,
    /// Choices per prompt.
    pub(super) n: usize,
    pub(super) stream: bool,
    /// The parameter that an error about the prompt names.
    pub(super) prompt_parameter: &'static str,
    /// How the answers are told apart into reasoning, calls and text.
    pub(super) reading: Reading,
    pub(super) dialect: Box<dyn Dialect>,
}

/// Runs the work and sends the response.
pub(super) fn run(app: &App, work: Work, exchange: &mut Exchange<'_>) -> io::Result<()> {
    let (_running, begun) = (app.gauges.begin(), Instant::now());
    let Work { requests, n, stream, prompt_parameter, reading, mut dialect } = work;
    let count = requests.len();
    let choices = match admit(app)
        .and_then(|()| Choices::start(&app.session, requests).map_err(|error| submit_error(&error, prompt_parameter)))
    {
        Ok(choices) => choices,
        Err(error) => return exchange.respond(&dialect.refuse(&error)),
    };
    let readers = reading.readers(count);
    let mut run = Run { app, choices, readers, n, tally: Tally::default(), begun: Some(begun) };
    let outcome = match stream {
        true => run.streamed(&mut *dialect, exchange),
        false => run.whole(count, &mut *dialect, exchange),
    };
    if outcome.is_err() {
        app.gauges.abandoned.fetch_add(1, Ordering::Relaxed);
    }
    outcome
}

/// Refuses new work when the queue is full, the model is damaged, or the server is stopping.
pub(super) fn admit(app: &App) -> Result<(), ApiError> {
    if app.stopping.load(Ordering::Relaxed) {
        return Err(stopping());
    }
    if let Some(line) = crate::mapping::damage().or_else(|| app.session.check.damage().map(str::to_owned)) {
        return Err(ApiError::new(503, line).code("model_damaged"));
    }
    // The sum: a new request counts as waiting until the engine takes it, even if a slot is free.
    let engine = &app.session.engine;
    if engine.running() + engine.waiting() >= app.session.facts.parallel + app.max_waiting {
        let message =
            format!("{} requests are waiting already, the most this server allows; try again soon", app.max_waiting);
        return Err(ApiError::new(503, message).code("overloaded"));
    }
    Ok(())
}

fn stopping() -> ApiError {
    ApiError::new(503, "the server is stopping").code("shutting_down")
}

fn submit_error(error: &SubmitError, prompt_parameter: &str) -> ApiError {
    match error {
        SubmitError::PromptTooLong { prompt, context } => {
            let error = ApiError::parameter(prompt_parameter, error.to_string()).code("context_length_exceeded");
            ApiError { size: Some((*prompt, *context)), ..error }
        }
        SubmitError::EmptyPrompt | SubmitError::TokenOutOfRange { .. } => {
            ApiError::parameter(prompt_parameter, error.to_string())
        }
        SubmitError::Sampling(message) => ApiError::new(400, message.clone()),
        SubmitError::ShuttingDown => stopping(),
    }
}

struct Run<'a> {
    app: &'a App,
    choices: Choices,
    readers: Vec<Reader>,
    n: usize,
    tally: Tally,
    /// Time of the request; taken at the first token.
    begun: Option<Instant>,
}

/// The result of waiting for an event.
enum Next {
    Event(usize, TextEvent),
    Idle,
    Ended,
    Error(ApiError),
    Left,
}

impl Run<'_> {
    /// Waits for the next event; also checks for shutdown and for a client that disconnected.
    fn next(&mut self, client_left: impl FnOnce() -> bool) -> Next {
        if self.app.ending.load(Ordering::Relaxed) {
            return Next::Error(stopping());
        }
        if client_left() {
            return Next::Left;
        }
        match self.choices.next() {
            News::Nothing => Next::Idle,
            News::Ended => Next::Ended,
            News::Event(index, event) => match self.account(index, &event) {
                Ok(()) => Next::Event(index, event),
                Err(error) => Next::Error(error),
            },
        }
    }

    /// Adds an event to the counts; a generation that failed is an error.
    fn account(&mut self, index: usize, event: &TextEvent) -> Result<(), ApiError> {
        let gauges = &self.app.gauges;
        match event {
            TextEvent::Text(piece) => {
                if let Some(begun) = self.begun.take() {
                    gauges.first_tokens.fetch_add(1, Ordering::Relaxed);
                    gauges.first_token_micros.fetch_add(begun.elapsed().as_micros() as u64, Ordering::Relaxed);
                }
                gauges.generated_tokens.fetch_add(piece.tokens.len() as u64, Ordering::Relaxed);
            }
            TextEvent::Finished(TextFinished { reason: StopReason::Failed(line), .. }) => {
                return Err(ApiError::new(500, line.clone()));
            }
            TextEvent::Finished(TextFinished { reason: StopReason::Unavailable(line), .. }) => {
                return Err(ApiError::new(503, line.clone()).code("overloaded"));
            }
            TextEvent::Finished(TextFinished { reason: StopReason::Refused(line), .. }) => {
                return Err(ApiError::new(400, line.clone()));
            }
            TextEvent::Finished(TextFinished { reason: StopReason::Cancelled, .. }) => return Err(stopping()),
            TextEvent::Finished(finished) => {
                gauges.finished.fetch_add(1, Ordering::Relaxed);
                gauges.prompt_tokens.fetch_add(finished.engine.prompt_tokens as u64, Ordering::Relaxed);
                gauges.cached_tokens.fetch_add(finished.engine.cached_tokens as u64, Ordering::Relaxed);
                let micros = |seconds: f64| (seconds * 1e6) as u64;
                gauges.prompt_micros.fetch_add(micros(finished.engine.prefill_seconds), Ordering::Relaxed);
                gauges.generated_micros.fetch_add(micros(finished.engine.decode_seconds), Ordering::Relaxed);
                gauges.guessed_tokens.fetch_add(finished.engine.guessed_tokens as u64, Ordering::Relaxed);
                gauges.accepted_tokens.fetch_add(finished.engine.accepted_tokens as u64, Ordering::Relaxed);
                self.tally.add(finished, index.is_multiple_of(self.n));
            }
            TextEvent::Prompt { .. } => {}
        }
        Ok(())
    }

    /// The deltas that an event brings its choice.
    fn read(&mut self, index: usize, event: TextEvent) -> Vec<Delta> {
        let deltas = self.readers[index].read(event);
        if matches!(deltas.last(), Some(Delta::End { .. })) {
            self.tally.reasoning_tokens += self.readers[index].reasoning_tokens;
        }
        deltas
    }

    fn whole(&mut self, count: usize, dialect: &mut dyn Dialect, exchange: &mut Exchange<'_>) -> io::Result<()> {
        let mut choices = vec![Choice::default(); count];
        loop {
            match self.next(|| exchange.client_left()) {
                Next::Event(index, event) => {
                    self.read(index, event).into_iter().for_each(|delta| choices[index].push(delta));
                }
                Next::Idle => {}
                Next::Ended => break,
                Next::Error(error) => return exchange.respond(&dialect.refuse(&error)),
                Next::Left => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
        exchange.respond(&Response::json(200, &dialect.whole(&choices, &self.tally)))
    }

    fn streamed(&mut self, dialect: &mut dyn Dialect, exchange: &mut Exchange<'_>) -> io::Result<()> {
        let interval = self.app.limits.keep_alive_interval;
        let mut stream = exchange.stream(dialect.content_type())?;
        let (mut out, mut last_sent) = (Vec::new(), Instant::now());
        dialect.open(&mut out);
        loop {
            if !out.is_empty() {
                stream.send(&out)?;
                out.clear();
                last_sent = Instant::now();
            }
            match self.next(|| stream.client_left()) {
                Next::Event(index, TextEvent::Prompt { done, total }) => dialect.progress(&mut out, index, done, total),
                Next::Event(index, event) => {
                    self.read(index, event).iter().for_each(|delta| dialect.delta(&mut out, index, delta));
                }
                Next::Idle => {}
                Next::Ended => {
                    dialect.close(&mut out, &self.tally);
                    break;
                }
                Next::Error(error) => {
                    dialect.fail(&mut out, &error);
                    break;
                }
                Next::Left => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
            if out.is_empty() && last_sent.elapsed() >= interval {
                dialect.heartbeat(&mut out);
            }
        }
        stream.send(&out)?;
        stream.finish()
    }
}
