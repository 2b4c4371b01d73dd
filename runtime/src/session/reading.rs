//! From a model's events to deltas: reasoning and tool calls are told from the answer here, once for all
//! APIs and the terminal.

use std::hash::{BuildHasher, RandomState};

use super::{Session, StopReason, TextEvent, TextPiece, TextToken};
use crate::TokenId;
use crate::chat::output::{OutputFormat, OutputParser, Part};
use crate::chat::tools::Tools;

/// The next change to an answer.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // the variants explain their fields
pub enum Delta {
    /// Text of the answer, and the tokens it came from (with log-probabilities if requested). Text may lag behind its
    /// tokens, so either may be empty.
    Text { text: String, tokens: Vec<TextToken> },
    /// Reasoning text before the answer.
    Reasoning { text: String },
    /// A tool call begins; the calls of a choice are numbered from 0.
    ToolCall { call: usize, id: String, name: String },
    /// A fragment of a call's arguments, JSON text.
    Arguments { call: usize, json: String },
    /// The choice is complete.
    End { reason: StopReason },
}

/// How the answers of a request are read.
#[derive(Default)]
pub struct Reading {
    format: Option<(OutputFormat, Tools, String)>,
}

impl Reading {
    /// Answers to a chat's prompt.
    pub fn new(session: &Session, tools: Tools, prompt: &[TokenId]) -> Self {
        Self { format: Some((session.output.clone(), tools, session.tail(prompt))) }
    }

    /// A reader for one answer.
    pub fn reader(&self) -> Reader {
        let parser = self.format.as_ref().map(|(format, tools, tail)| format.parser(tools, tail));
        Reader { parser, ..Reader::default() }
    }

    /// A reader for each of `choices` answers.
    pub fn readers(&self, choices: usize) -> Vec<Reader> {
        (0..choices).map(|_| self.reader()).collect()
    }
}

/// Reads one answer.
#[derive(Default)]
pub struct Reader {
    /// `None` for a continued text, which has neither reasoning nor calls.
    parser: Option<OutputParser>,
    /// Tokens whose text the parser still holds back.
    waiting: Vec<TextToken>,
    /// The last part was reasoning.
    reasons: bool,
    /// Tokens of reasoning so far.
    pub reasoning_tokens: usize,
}

impl Reader {
    /// The deltas that an event brings.
    pub fn read(&mut self, event: TextEvent) -> Vec<Delta> {
        match event {
            TextEvent::Text(piece) => self.text(piece),
            TextEvent::Finished(finished) => {
                let whole = !matches!(finished.reason, StopReason::MaxTokens | StopReason::ContextFull);
                let rest = self.parser.as_mut().map(|parser| parser.finish(whole)).unwrap_or_default();
                let mut deltas = self.deltas(rest);
                deltas.extend(self.rest_of_tokens());
                deltas.push(Delta::End { reason: finished.reason });
                deltas
            }
            TextEvent::Prompt { .. } => Vec::new(),
        }
    }

    fn text(&mut self, piece: TextPiece) -> Vec<Delta> {
        let Some(parser) = &mut self.parser else {
            return vec![Delta::Text { text: piece.text, tokens: piece.tokens }];
        };
        let parts = parser.push(&piece.text);
        let (count, reasoned) = (piece.tokens.len(), self.reasons);
        self.waiting.extend(piece.tokens);
        let deltas = self.deltas(parts);
        if reasoned || self.reasons {
            self.reasoning_tokens += count;
        }
        deltas
    }

    /// Tokens go with the text that follows them; those of reasoning and calls are not reported.
    fn deltas(&mut self, parts: Vec<Part>) -> Vec<Delta> {
        let mut deltas = Vec::with_capacity(parts.len());
        for part in parts {
            self.reasons = matches!(part, Part::Reasoning(_));
            let tokens = std::mem::take(&mut self.waiting);
            deltas.push(match part {
                Part::Text(text) => Delta::Text { text, tokens },
                Part::Reasoning(text) => Delta::Reasoning { text },
                Part::ToolCall { call, id, name } => Delta::ToolCall { call, id: id.unwrap_or_else(call_id), name },
                Part::Arguments { call, json } => Delta::Arguments { call, json },
            });
        }
        deltas
    }

    /// Tokens without text at the end of an answer, such as a partial character.
    fn rest_of_tokens(&mut self) -> Option<Delta> {
        let tokens = std::mem::take(&mut self.waiting);
        (!tokens.is_empty() && !self.reasons).then(|| Delta::Text { text: String::new(), tokens })
    }
}

/// A new call's id.
fn call_id() -> String {
    let random = RandomState::new();
    format!("call_{:016x}{:08x}", random.hash_one(0), random.hash_one(1) as u32)
}
