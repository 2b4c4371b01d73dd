//! From a checked request to an answer on the wire: whole, or as server-sent events.
//!
//! Between any two events of the engine the answering thread looks at its socket and at the stop signal: a client that
//! went away takes its generations with it (dropping `Choices` cancels them), and a server that stops ends every stream
//! with an error event rather than a silence. Errors before the first byte are plain HTTP errors; after it they are
//! `data: {"error": …}`, which OpenAI's clients raise.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde_json::{Value, json};

use super::App;
use super::choices::{Choices, News};
use super::http::{Exchange, Response, Stream};
use super::openai::{Answer, ApiError, Endpoint, LogProbs, Tally};
use crate::plan::AdapterSet;
use crate::session::{StopReason, SubmitError, TextEvent, TextFinished, TextPiece, TextRequest};

/// A request, ready for the engine.
pub(super) struct Work {
    pub(super) endpoint: Endpoint,
    /// The adapters of all requests.
    pub(super) adapters: AdapterSet,
    /// One for each choice; `n` in a row have the same prompt.
    pub(super) requests: Vec<TextRequest>,
    /// Choices of one prompt.
    pub(super) n: usize,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
}

/// Runs the work and answers.
pub(super) fn run(app: &App, work: Work, exchange: &mut Exchange<'_>) -> io::Result<()> {
    let _running = app.gauges.begin();
    let prompt_parameter = if work.endpoint == Endpoint::Chat { "messages" } else { "prompt" };
    let count = work.requests.len();
    let choices = match admit(app).and_then(|()| {
        Choices::start(&app.session, work.requests).map_err(|error| submit_error(&error, prompt_parameter))
    }) {
        Ok(choices) => choices,
        Err(error) => return exchange.respond(&error.response()),
    };
    let answer = Answer::new(work.endpoint, &app.session.name_with(work.adapters), super::unix_seconds());
    let mut run =
        Run { app, choices, answer, n: work.n, tally: Tally::default(), logprobs: vec![LogProbs::default(); count] };
    let outcome =
        if work.stream { run.streamed(work.include_usage, count, exchange) } else { run.whole(count, exchange) };
    if outcome.is_err() {
        app.gauges.abandoned.fetch_add(1, Ordering::Relaxed);
    }
    outcome
}

/// Refuses new work when too much waits, or the server is stopping.
fn admit(app: &App) -> Result<(), ApiError> {
    if app.stopping.load(Ordering::Relaxed) {
        return Err(stopping());
    }
    // Together: a request that was just handed in counts as waiting until the engine looks, also when a place is free.
    let engine = &app.session.engine;
    if engine.running() + engine.waiting() >= app.session.facts.parallel + app.max_waiting {
        let message =
            format!("{} requests are waiting already, the most this server takes; try again soon", app.max_waiting);
        return Err(ApiError::new(503, message).code("overloaded"));
    }
    Ok(())
}

fn stopping() -> ApiError {
    ApiError::new(503, "the server is stopping").code("shutting_down")
}

fn submit_error(error: &SubmitError, prompt_parameter: &str) -> ApiError {
    match error {
        SubmitError::PromptTooLong { .. } => {
            ApiError::parameter(prompt_parameter, error.to_string()).code("context_length_exceeded")
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
    answer: Answer,
    n: usize,
    tally: Tally,
    logprobs: Vec<LogProbs>,
}

/// What ended the waiting for an event.
enum Next {
    Event(usize, TextEvent),
    Idle,
    Ended,
    Error(ApiError),
    Left,
}

impl Run<'_> {
    /// The next event, or the reason why there is none to wait for.
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

    /// Counts an event; an engine that failed is an error.
    fn account(&mut self, index: usize, event: &TextEvent) -> Result<(), ApiError> {
        match event {
            TextEvent::Text(piece) => {
                self.app.gauges.generated_tokens.fetch_add(piece.tokens.len() as u64, Ordering::Relaxed);
            }
            TextEvent::Finished(TextFinished { reason: StopReason::Failed(line), .. }) => {
                return Err(ApiError::new(500, line.clone()));
            }
            TextEvent::Finished(TextFinished { reason: StopReason::Cancelled, .. }) => return Err(stopping()),
            TextEvent::Finished(finished) => self.tally.add(finished, index.is_multiple_of(self.n)),
            TextEvent::Prompt { .. } => {}
        }
        Ok(())
    }

    fn timings(&self) -> Value {
        self.tally.timings(self.app.session.facts.context_length)
    }

    fn whole(&mut self, count: usize, exchange: &mut Exchange<'_>) -> io::Result<()> {
        let mut texts = vec![String::new(); count];
        let mut tokens = vec![Vec::new(); count];
        let mut choices = vec![Value::Null; count];
        loop {
            match self.next(|| exchange.client_left()) {
                Next::Event(index, TextEvent::Text(piece)) => {
                    texts[index].push_str(&piece.text);
                    tokens[index].extend(piece.tokens);
                }
                Next::Event(index, TextEvent::Finished(finished)) => {
                    let logprobs = self.logprobs[index].value(self.answer.endpoint, &tokens[index]);
                    choices[index] = self.answer.choice(index, &texts[index], logprobs, &finished.reason);
                }
                Next::Event(_, TextEvent::Prompt { .. }) | Next::Idle => {}
                Next::Ended => break,
                Next::Error(error) => return exchange.respond(&error.response()),
                Next::Left => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
        let body = self.answer.whole(&choices, self.tally.usage(), self.timings());
        exchange.respond(&Response::json(200, &body))
    }

    fn streamed(&mut self, include_usage: bool, count: usize, exchange: &mut Exchange<'_>) -> io::Result<()> {
        let interval = self.app.limits.keep_alive_interval;
        let mut stream = exchange.stream("text/event-stream; charset=utf-8")?;
        let mut last_sent = Instant::now();
        for index in 0..count {
            if let Some(choice) = self.answer.opening(index) {
                self.send(&mut stream, choice, include_usage, false)?;
            }
        }
        let mut remaining = count;
        loop {
            let sent = match self.next(|| stream.client_left()) {
                Next::Event(index, TextEvent::Text(piece)) => {
                    self.send_piece(&mut stream, index, &piece, include_usage)?
                }
                Next::Event(index, TextEvent::Finished(finished)) => {
                    remaining -= 1;
                    let last = remaining == 0 && !include_usage;
                    let choice = self.answer.ending(index, &finished.reason);
                    self.send(&mut stream, choice, include_usage, last)?;
                    true
                }
                Next::Event(_, TextEvent::Prompt { .. }) | Next::Idle if last_sent.elapsed() >= interval => {
                    stream.send(b": the model is still reading\n\n")?;
                    true
                }
                Next::Event(_, TextEvent::Prompt { .. }) | Next::Idle => false,
                Next::Ended => break,
                Next::Error(error) => {
                    send_event(&mut stream, &error.body())?;
                    return end(stream);
                }
                Next::Left => return Err(io::ErrorKind::ConnectionAborted.into()),
            };
            if sent {
                last_sent = Instant::now();
            }
        }
        if include_usage {
            let mut chunk = self.answer.chunk(Vec::new());
            chunk.insert("usage".into(), self.tally.usage());
            chunk.insert("timings".into(), self.timings());
            send_event(&mut stream, &chunk.into())?;
        }
        end(stream)
    }

    /// Sends a piece that has something to show; false when it has not (text held back, and no log-probabilities).
    fn send_piece(
        &mut self,
        stream: &mut Stream<'_, '_>,
        index: usize,
        piece: &TextPiece,
        include_usage: bool,
    ) -> io::Result<bool> {
        let logprobs = self.logprobs[index].value(self.answer.endpoint, &piece.tokens);
        if piece.text.is_empty() && logprobs.is_null() {
            return Ok(false);
        }
        let choice = self.answer.piece(index, &piece.text, logprobs);
        self.send(stream, choice, include_usage, false)?;
        Ok(true)
    }

    fn send(&self, stream: &mut Stream<'_, '_>, choice: Value, include_usage: bool, last: bool) -> io::Result<()> {
        let mut chunk = self.answer.chunk(vec![choice]);
        if include_usage {
            chunk.insert("usage".into(), Value::Null);
        }
        if last {
            chunk.insert("timings".into(), self.timings());
        }
        send_event(stream, &json!(chunk))
    }
}

fn send_event(stream: &mut Stream<'_, '_>, data: &Value) -> io::Result<()> {
    // JSON on one line: the only line break is the event's end.
    stream.send(format!("data: {data}\n\n").as_bytes())
}

fn end(mut stream: Stream<'_, '_>) -> io::Result<()> {
    stream.send(b"data: [DONE]\n\n")?;
    stream.finish()
}
