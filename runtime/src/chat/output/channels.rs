//! gpt-oss's answers: messages with a header that names a channel and a recipient.
//!
//! `<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{…}`.
//! The recipient may be in either part of the header. A message may contain the marks as text: one that ends it is followed by
//! another message or by nothing.

use super::parser::{End, Said, overlap};
use super::reader::Call;
use super::tree::{self, Notation, Stop, Tree};
use crate::chat::tools::Tools;

const START: &str = "<|start|>";
const CHANNEL: &str = "<|channel|>";
const MESSAGE: &str = "<|message|>";
const ENDS: [&str; 3] = ["<|end|>", "<|call|>", "<|return|>"];
/// The control tokens of the format.
pub(super) const MARKS: [&str; 7] = [START, CHANNEL, MESSAGE, "<|constrain|>", "<|end|>", "<|call|>", "<|return|>"];
/// Begins a tool's name.
pub(super) const RECIPIENT: &str = "to=functions.";
/// Begins the answer.
pub(super) const FINAL: &str = "<|channel|>final<|message|>";
/// Ends a message and begins another.
pub(super) const NEXT: &str = "<|end|><|start|>assistant";

/// The marks of answers in channels, for their grammar.
#[derive(Clone, Copy, Debug)]
pub struct ChannelMarks {
    /// Names a channel, in a header.
    pub channel: &'static str,
    /// Ends a header.
    pub message: &'static str,
    /// Begins a tool's name, in a header.
    pub recipient: &'static str,
    /// Ends a message.
    pub end: &'static str,
    /// Ends a message and begins another's header.
    pub next: &'static str,
    /// The header of the answer.
    pub answer: &'static str,
    /// Begins the header of a call, up to the tool's name.
    pub call: &'static str,
}

pub(super) const CHANNEL_MARKS: ChannelMarks = ChannelMarks {
    channel: CHANNEL,
    message: MESSAGE,
    recipient: RECIPIENT,
    end: ENDS[0],
    next: NEXT,
    answer: FINAL,
    call: "<|channel|>commentary to=functions.",
};
/// Longest header; what is longer without its end is text.
const LONGEST_HEADER: usize = 1000;

/// Where an answer has come to.
#[derive(Debug)]
pub(super) struct Channels {
    state: State,
    offered: bool,
    /// Something has been said, so that what has no header is no answer.
    spoken: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Header,
    /// Within a message.
    Message(Kind),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Reasoning,
    /// For a tool that was not offered.
    Nobody,
    Call(String),
    /// After a call's arguments.
    Done,
}

impl Channels {
    pub(super) fn new(prompt_tail: &str, offered: bool) -> Self {
        let header = prompt_tail.rsplit(START).next().unwrap_or_default();
        let state = match header.strip_suffix(MESSAGE) {
            Some(header) => State::Message(kind(header, offered)),
            None => State::Header,
        };
        Self { state, offered, spoken: false }
    }

    pub(super) fn advance(&mut self, buffer: &mut String, end: End, tools: &Tools, say: &mut dyn FnMut(Said)) {
        debug_assert!(tools.are_offered() == self.offered);
        while match self.state.clone() {
            State::Header => self.header(buffer, end, say),
            State::Message(Kind::Call(name)) => self.call(buffer, end, name, say),
            State::Message(kind) => self.message(buffer, end, &kind, say),
        } {}
    }

    fn header(&mut self, buffer: &mut String, end: End, say: &mut dyn FnMut(Said)) -> bool {
        if let Some(at) = buffer.find(MESSAGE) {
            let header = buffer[..at].rsplit(START).next().unwrap_or_default();
            self.state = State::Message(kind(header, self.offered));
            buffer.drain(..at + MESSAGE.len());
            return true;
        }
        // A model that does not speak in channels.
        let plain = !self.spoken && !buffer.trim_start().is_empty() && !could_be_header(buffer);
        if plain || buffer.len() > LONGEST_HEADER {
            self.state = State::Message(Kind::Text);
            return true;
        }
        if end == End::Whole {
            let text = buffer.rsplit(START).next().unwrap_or_default().replace(CHANNEL, "");
            say(Said::Text(text.trim_start_matches("assistant").trim_start_matches("final").trim().to_owned()));
        }
        if end != End::Open {
            buffer.clear();
        }
        false
    }

    fn message(&mut self, buffer: &mut String, end: End, kind: &Kind, say: &mut dyn FnMut(Said)) -> bool {
        let mut from = 0;
        let found = loop {
            let next = ENDS.iter().filter_map(|mark| Some((from + buffer[from..].find(mark)?, mark.len()))).min();
            let Some((at, length)) = next else { break None };
            let follows = buffer[at + length..].trim_start();
            if follows.starts_with(START) || follows.starts_with(CHANNEL) || (follows.is_empty() && end != End::Open) {
                break Some((at, length));
            }
            if end == End::Open && (START.starts_with(follows) || CHANNEL.starts_with(follows)) {
                self.say(kind, buffer.drain(..at).as_str(), say);
                return false;
            }
            from = at + length;
        };
        if let Some((at, length)) = found {
            self.say(kind, &buffer[..at], say);
            buffer.drain(..at + length);
            self.state = State::Header;
            return true;
        }
        let keep = if end == End::Open { ENDS.iter().map(|mark| overlap(buffer, mark)).max().unwrap_or(0) } else { 0 };
        let text: String = buffer.drain(..buffer.len() - keep).collect();
        self.say(kind, &text, say);
        false
    }

    fn say(&mut self, kind: &Kind, text: &str, say: &mut dyn FnMut(Said)) {
        self.spoken = true;
        match kind {
            Kind::Text => say(Said::Text(text.to_owned())),
            Kind::Reasoning => say(Said::Reasoning(text.to_owned())),
            Kind::Nobody | Kind::Call(_) | Kind::Done => {}
        }
    }

    fn call(&mut self, buffer: &mut String, end: End, name: String, say: &mut dyn FnMut(Said)) -> bool {
        self.spoken = true;
        match arguments(buffer) {
            Ok((arguments, length)) => {
                buffer.drain(..length);
                say(Said::Call(Call { id: None, name, arguments }));
                self.state = State::Message(Kind::Done);
                true
            }
            Err(Stop::More) if end == End::Open => false,
            Err(Stop::More) if end == End::Cut => {
                buffer.clear();
                false
            }
            // Not arguments: what the model says is not lost.
            Err(_) => {
                self.state = State::Message(Kind::Text);
                true
            }
        }
    }
}

fn arguments(text: &str) -> Result<(String, usize), Stop> {
    match tree::read(text, Notation::Json)? {
        (object @ Tree::Object(_), length) => Ok((object.json(), length)),
        (Tree::Text(inner), length) => match tree::read(&inner, Notation::Json) {
            Ok((object @ Tree::Object(_), _)) => Ok((object.json(), length)),
            _ => Err(Stop::Bad),
        },
        _ => Err(Stop::Bad),
    }
}

/// Whether a text can be the beginning of a header.
fn could_be_header(text: &str) -> bool {
    let text = text.trim_start();
    let begins = [START, CHANNEL, "<|constrain|>", "to=", "assistant", ENDS[0], ENDS[1]];
    begins.iter().any(|begin| text.starts_with(begin) || begin.starts_with(text))
}

/// What a message with this header is.
fn kind(header: &str, offered: bool) -> Kind {
    let recipient = header.split("to=").nth(1).map(|rest| {
        let end = rest.find(|letter: char| letter.is_whitespace() || letter == '<').unwrap_or(rest.len());
        &rest[..end]
    });
    match recipient.map(|name| (name, name.strip_prefix("functions."))) {
        Some((_, Some(name))) if offered && !name.is_empty() => return Kind::Call(name.to_owned()),
        Some((name, None)) if !matches!(name, "assistant" | "user" | "all") => return Kind::Nobody,
        _ => {}
    }
    let channel = header.rsplit(CHANNEL).next().unwrap_or_default().trim_start();
    if channel.starts_with("analysis") { Kind::Reasoning } else { Kind::Text }
}
