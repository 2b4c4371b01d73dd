//! A running answer as text: complete characters, stop strings removed, tokens with their log-probabilities.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use super::check::WeightCheck;
use super::indent::Indent;
use super::text::{Assembled, TextAssembler};
use crate::TokenId;
use crate::engine::{Event, FinishReason, Finished, GeneratedToken, Generation};
use crate::mapping;
use crate::tokenizer::Tokenizer;

/// What a generation reports, in order: `Prompt*`, `Text*`, `Finished`.
#[derive(Clone, Debug)]
pub enum TextEvent {
    /// Prompt tokens processed so far.
    Prompt {
        /// Tokens in the KV cache.
        done: usize,
        /// Tokens in the prompt.
        total: usize,
    },
    /// More of the answer.
    Text(TextPiece),
    /// The last event.
    Finished(TextFinished),
}

/// A piece of the answer.
#[derive(Clone, Debug, Default)]
pub struct TextPiece {
    /// Complete characters, never part of a stop string; empty while text is held back.
    pub text: String,
    /// The tokens that came with it.
    pub tokens: Vec<TextToken>,
}

/// A generated token.
#[derive(Clone, Debug)]
pub struct TextToken {
    /// Its id.
    pub id: TokenId,
    /// Its bytes, possibly part of a character; for a control token, its name.
    pub bytes: Vec<u8>,
    /// Whether it is a control token, which is not part of the text.
    pub control: bool,
    /// Its log-probability, if requested.
    pub logprob: Option<f32>,
    /// The most likely tokens with their bytes and log-probabilities, if requested.
    pub top: Vec<(TokenId, Vec<u8>, f32)>,
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq)]
pub enum StopReason {
    /// The model generated an end token.
    EndToken,
    /// The grammar lets nothing follow.
    Complete,
    /// A stop string was generated; it is not part of the text.
    StopString(String),
    /// What the request allows was reached: tokens, time, or lines of the indentation that it asks for.
    MaxTokens,
    /// The context is full.
    ContextFull,
    /// The request was cancelled.
    Cancelled,
    /// The engine failed.
    Failed(String),
    /// Out of memory, or the model's file changed while mapped.
    Unavailable(String),
    /// The request leaves no token to sample.
    Refused(String),
}

impl StopReason {
    /// The error line, if the answer ended with an error.
    pub fn failure(&self) -> Option<&str> {
        match self {
            Self::Failed(line) | Self::Unavailable(line) | Self::Refused(line) => Some(line),
            _ => None,
        }
    }
}

/// The end of an answer.
#[derive(Clone, Debug)]
pub struct TextFinished {
    /// Why it ended.
    pub reason: StopReason,
    /// The engine's statistics; `generated_tokens` counts the tokens reported here.
    pub engine: Finished,
}

/// What ends an answer, and how its first token is decoded.
#[derive(Clone, Debug, Default)]
pub(super) struct Stops {
    /// Stop strings that name a control token.
    pub(super) tokens: Vec<(TokenId, String)>,
    /// Stop strings to find in the text.
    pub(super) texts: Vec<String>,
    /// The first line feed behind so much time since the first token.
    pub(super) time: Option<Duration>,
    /// A line, but the first, with fewer blanks than these.
    pub(super) indent: usize,
    /// Drop the space that SPM adds before the first word.
    pub(super) drops_blank: bool,
    /// Control tokens whose names are part of the text.
    pub(super) marks: Arc<[TokenId]>,
}

/// A running answer. Dropping it cancels generation within one token.
pub struct TextGeneration {
    generation: Generation,
    tokenizer: Arc<Tokenizer>,
    check: Arc<WeightCheck>,
    assembler: Option<TextAssembler>,
    indent: Indent,
    /// How long the answer may take from its first token on.
    time: Option<Duration>,
    ready: VecDeque<TextEvent>,
    /// Why no more tokens are wanted.
    stopped_by: Option<StopReason>,
    stop_tokens: Vec<(TokenId, String)>,
    /// Control tokens whose names are part of the text: they say what is reasoning and what a call.
    marks: Arc<[TokenId]>,
    /// The next token is the first of an answer; SPM, not the model, adds its leading space.
    drops_blank: bool,
    tokens: usize,
    ended: bool,
}

impl TextGeneration {
    pub(super) fn new(
        generation: Generation,
        tokenizer: Arc<Tokenizer>,
        check: Arc<WeightCheck>,
        stops: Stops,
    ) -> Self {
        Self {
            generation,
            tokenizer,
            check,
            assembler: Some(TextAssembler::new(&stops.texts)),
            indent: Indent::new(stops.indent),
            time: stops.time,
            ready: VecDeque::new(),
            stopped_by: None,
            stop_tokens: stops.tokens,
            drops_blank: stops.drops_blank,
            marks: stops.marks,
            tokens: 0,
            ended: false,
        }
    }

    /// The next event; `None` after the last. Blocks.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<TextEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            let event = self.generation.recv();
            self.take(event);
        }
    }

    /// The next event within `timeout`; `Ok(None)` after the last.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<TextEvent>, RecvTimeoutError> {
        let until = Instant::now() + timeout;
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            if self.ended {
                return Ok(None);
            }
            let event = self.generation.recv_timeout(until.saturating_duration_since(Instant::now()))?;
            self.take(event);
        }
    }

    /// Ends the answer at the next token; `Finished` still comes.
    pub fn cancel(&self) {
        self.generation.cancel();
    }

    fn take(&mut self, event: Option<Event>) {
        match event {
            Some(Event::Prompt { done, total }) => self.ready.push_back(TextEvent::Prompt { done, total }),
            // Tokens that were generated before the cancellation took effect are not part of the answer.
            Some(Event::Token(_)) if self.stopped_by.is_some() => {}
            // A token computed from damaged weights is invalid.
            Some(Event::Token(_)) if mapping::damaged().is_some() => self.generation.cancel(),
            Some(Event::Token(token)) => self.take_token(token),
            Some(Event::Finished(mut finished)) => {
                if let Some(line) = mapping::damage() {
                    finished.reason = FinishReason::Failed(line);
                }
                self.finish(finished);
            }
            None => self.ended = true,
        }
    }

    fn take_token(&mut self, token: GeneratedToken) {
        let Some(assembler) = &mut self.assembler else { return };
        self.tokens += 1;
        // `decode_bytes` removes the leading space, `token_bytes` does not.
        let bytes = match self.drops_blank {
            true => self.tokenizer.decode_bytes(&[token.id], false),
            false => self.tokenizer.token_bytes(token.id, false).into_owned(),
        };
        self.drops_blank &= self.tokenizer.is_control(token.id);
        let control = self.tokenizer.is_control(token.id);
        let assembled = match control && self.marks.contains(&token.id) {
            true => assembler.push(&self.tokenizer.token_bytes(token.id, true)),
            false => assembler.push(&bytes),
        };
        let late = bytes.contains(&b'\n') && self.time.is_some_and(|limit| token.since_first > limit);
        let (text, reason) = self.shown(assembled, late);
        // Log-probabilities show control tokens by name, since they have no text.
        let bytes = if control { self.tokenizer.token_bytes(token.id, true).into_owned() } else { bytes };
        let with_bytes =
            |(id, logprob): (TokenId, f32)| (id, self.tokenizer.token_bytes(id, true).into_owned(), logprob);
        let top = token.top.into_iter().map(with_bytes).collect();
        let tokens = vec![TextToken { id: token.id, bytes, control, logprob: token.logprob, top }];
        self.ready.push_back(TextEvent::Text(TextPiece { text, tokens }));
        if reason.is_some() {
            self.generation.cancel();
            self.stopped_by = reason;
        }
    }

    /// What can be shown of an assembled text, and why the answer ends with it. `late`: it ends a line behind the time limit; lines
    /// are finished, since half of one is of no use to an editor.
    fn shown(&mut self, assembled: Assembled, late: bool) -> (String, Option<StopReason>) {
        let (mut text, short) = self.indent.push(&assembled.text);
        let stop = assembled.stop.filter(|_| !short).map(StopReason::StopString);
        if stop.is_some() {
            text += &self.indent.finish();
        }
        // What else was held back is part of the text.
        if stop.is_some() || short {
            self.assembler = None;
        }
        (text, stop.or((short || late).then_some(StopReason::MaxTokens)))
    }

    /// What was held back, at the end.
    fn held_back(&mut self, assembler: TextAssembler) -> String {
        let (text, short) = self.indent.push(&assembler.finish());
        if short { text } else { text + &self.indent.finish() }
    }

    fn finish(&mut self, mut finished: Finished) {
        self.ended = true;
        // The weights are in the page cache now, and the check does not delay an answer.
        self.check.begin();
        if let Some(assembler) = self.assembler.take() {
            let text = self.held_back(assembler);
            if !text.is_empty() {
                self.ready.push_back(TextEvent::Text(TextPiece { text, tokens: Vec::new() }));
            }
        }
        finished.generated_tokens = self.tokens;
        let reason = match (self.stopped_by.take(), &finished.reason) {
            (Some(stop), _) => stop,
            (None, FinishReason::EndToken(id)) => match self.stop_tokens.iter().find(|(stop, _)| stop == id) {
                Some((_, text)) => StopReason::StopString(text.clone()),
                None => StopReason::EndToken,
            },
            (None, FinishReason::Complete) => StopReason::Complete,
            (None, FinishReason::MaxTokens) => StopReason::MaxTokens,
            (None, FinishReason::ContextFull) => StopReason::ContextFull,
            (None, FinishReason::Cancelled) => StopReason::Cancelled,
            (None, FinishReason::Failed(line)) => StopReason::Failed(line.clone()),
            (None, FinishReason::Unavailable(line)) => StopReason::Unavailable(line.clone()),
            (None, FinishReason::Refused(line)) => StopReason::Refused(line.clone()),
        };
        self.ready.push_back(TextEvent::Finished(TextFinished { reason, engine: finished }));
    }
}
