//! Answers in channels: messages with headers, of which one may be a call and one is the answer.
//!
//! Reasoning is free. A header that names a tool begins a call, which obeys the tools' grammar; the message of the final channel obeys
//! the format. Where a call or a format is wanted, nothing else is said to the user, and the answer cannot end before it. A header
//! that leads elsewhere is given up, and the right one is written in its place.

use std::collections::VecDeque;
use std::sync::Arc;

use super::calling::Calls;
use super::mark::Mark;
use crate::TokenId;
use crate::sampling::{Constraint, TokenMask};
use crate::tokenizer::Tokenizer;

/// Most tokens that can be undone: more than any step of a speculation has.
const UNDOABLE: usize = 256;

/// Longest header in bytes; what is longer is a message.
const LONGEST_HEADER: usize = 1000;

/// The marks of a format with channels, and the tokens that lead to what is wanted.
#[derive(Clone, Debug)]
pub struct ChannelRules {
    /// Names a channel.
    pub channel: &'static str,
    /// Begins a header that is not the answer's first.
    pub start: &'static str,
    /// Ends a header.
    pub message: Mark,
    /// Begins a tool's name, in a header.
    pub recipient: Mark,
    /// Ends a message.
    pub end: Mark,
    /// Lead to the answer, or to a call if one is required: at the beginning,
    pub opening: Arc<[TokenId]>,
    /// behind a message,
    pub next: Arc<[TokenId]>,
    /// and within a message or header.
    pub forced: Arc<[TokenId]>,
}

/// What an answer in channels must have.
#[derive(Debug, Default)]
pub struct Channelled {
    /// Calls that it may have, or must have instead of an answer.
    pub calls: Option<Calls>,
    /// What the final message follows.
    pub format: Option<Box<dyn Constraint>>,
    /// Tokens before the answer is begun.
    pub budget: Option<usize>,
    /// Tokens that end an answer.
    pub ends: Arc<[TokenId]>,
}

#[derive(Clone, Debug)]
struct Channels {
    tokenizer: Arc<Tokenizer>,
    rules: ChannelRules,
    calls: Option<Calls>,
    format: Option<Box<dyn Constraint>>,
    budget: usize,
    ends: Arc<[TokenId]>,
    /// The call that has begun.
    call: Option<Box<dyn Constraint>>,
    state: State,
    earlier: VecDeque<State>,
}

#[derive(Clone, Debug)]
struct State {
    phase: Phase,
    /// The header so far, or a message's last bytes, fewer than end it.
    tail: Vec<u8>,
    /// Tokens before the answer or the call.
    spent: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Header,
    Message,
    /// So many of these tokens have come.
    Forced(Arc<[TokenId]>, usize),
    Call,
    Final,
    /// Nothing may follow.
    Done,
}

impl Channelled {
    /// The constraint at the beginning of an answer; `None` if nothing is wanted of it.
    pub fn constraint(self, tokenizer: Arc<Tokenizer>, rules: ChannelRules) -> Option<Box<dyn Constraint>> {
        if self.calls.is_none() && self.format.is_none() && self.budget.is_none() {
            return None;
        }
        let budget = self.budget.filter(|_| !rules.opening.is_empty()).unwrap_or(usize::MAX);
        let phase = if budget == 0 { Phase::Forced(Arc::clone(&rules.opening), 0) } else { Phase::Header };
        let state = State { phase, tail: Vec::new(), spent: 0 };
        let Self { calls, format, ends, .. } = self;
        let (call, earlier) = (None, VecDeque::new());
        Some(Box::new(Channels { tokenizer, rules, calls, format, budget, ends, call, state, earlier }))
    }
}

impl Channels {
    fn requires_call(&self) -> bool {
        self.calls.as_ref().is_some_and(Calls::are_required)
    }

    /// Whether the answer must not end before its call or its final message.
    fn must_go_on(&self) -> bool {
        self.format.is_some() || self.requires_call()
    }

    /// What a header says of its channel: the text behind the last mark; `None` if there is no mark.
    fn channel(&self) -> Option<&[u8]> {
        let (tail, mark) = (&self.state.tail, self.rules.channel.as_bytes());
        let at = tail.windows(mark.len()).rposition(|bytes| bytes == mark)?;
        Some(tail[at + mark.len()..].trim_ascii_start())
    }

    fn is_on(&self, name: &str) -> bool {
        self.channel().is_some_and(|channel| channel.starts_with(name.as_bytes()))
    }

    /// Whether a message may begin here that is neither a call nor free.
    fn may_begin_message(&self) -> bool {
        !self.must_go_on() || self.is_on("analysis") || (self.is_on("final") && !self.requires_call())
    }

    /// Whether the header has left every way to what is wanted.
    fn is_astray(&self) -> bool {
        let ways = [("analysis", true), ("commentary", self.calls.is_some()), ("final", !self.requires_call())];
        let fits = |channel: &[u8]| {
            let begins = |name: &str| name.as_bytes().starts_with(channel) || channel.starts_with(name.as_bytes());
            ways.iter().any(|(name, is_open)| *is_open && begins(name))
        };
        self.must_go_on()
            && (self.state.tail.len() > LONGEST_HEADER || self.channel().is_some_and(|channel| !fits(channel)))
    }

    fn all(&self) -> TokenMask {
        TokenMask::all(self.tokenizer.vocab_size())
    }

    /// Whether a text is how a header begins, or the beginning of that.
    fn begins_header(&self, text: &[u8]) -> bool {
        let recipient = self.calls.as_ref().map(|_| self.rules.recipient.text());
        let mut starts = [Some(self.rules.channel), Some(self.rules.start), recipient].into_iter().flatten();
        starts.any(|start| text.starts_with(start.as_bytes()) || start.as_bytes().starts_with(text))
    }

    /// Whether a header's first mark has come.
    fn has_begun(&self) -> bool {
        let text = self.state.tail.trim_ascii_start();
        let marks = [self.rules.channel, self.rules.start, self.rules.recipient.text()];
        marks.iter().any(|mark| text.starts_with(mark.as_bytes()))
    }

    /// The tokens with which a header begins, after its first bytes: what begins otherwise would be read as the answer.
    fn beginnings(&self) -> TokenMask {
        let mut mask = TokenMask::none(self.tokenizer.vocab_size());
        let (begun, mut text) = (self.state.tail.len(), self.state.tail.clone());
        for token in 0..self.tokenizer.vocab_size() as TokenId {
            text.truncate(begun);
            text.extend_from_slice(&self.tokenizer.token_bytes(token, true));
            let header = text.trim_ascii_start();
            let fits = if header.is_empty() { begun == 0 } else { self.begins_header(header) };
            if text.len() > begun && fits {
                mask.allow(token);
            }
        }
        mask
    }

    /// What may come in a header or a message, where nothing is asked of its text.
    fn free(&self) -> TokenMask {
        let in_header = self.state.phase == Phase::Header;
        let mut mask = if in_header && self.must_go_on() && !self.has_begun() { self.beginnings() } else { self.all() };
        if self.must_go_on() {
            self.ends.iter().for_each(|&end| mask.forbid(end));
        }
        let tail = &self.state.tail;
        if !in_header {
            self.rules.end.forbid_straddling(tail, &mut mask);
            return mask;
        }
        self.rules.message.forbid_straddling(tail, &mut mask);
        if !self.may_begin_message() {
            self.rules.message.forbid(tail, &mut mask);
        }
        if self.calls.is_some() {
            self.rules.recipient.forbid_straddling(tail, &mut mask);
        }
        mask
    }

    fn begin_call(&mut self) -> Result<Phase, String> {
        let Some(calls) = &self.calls else { return Ok(Phase::Message) };
        self.call = Some(calls.grammars.wait(0)?.constraint(Arc::default()));
        Ok(Phase::Call)
    }

    fn in_header(&mut self) -> Result<Phase, String> {
        if self.calls.is_some() && self.rules.recipient.is_in(&self.state.tail) {
            return self.begin_call();
        }
        if self.rules.message.is_in(&self.state.tail) {
            return Ok(if self.is_on("final") { Phase::Final } else { Phase::Message });
        }
        if self.is_astray() {
            return Ok(Phase::Forced(Arc::clone(&self.rules.forced), 0));
        }
        Ok(if self.state.tail.len() > LONGEST_HEADER { Phase::Message } else { Phase::Header })
    }

    fn in_message(&mut self) -> Phase {
        if self.rules.end.is_in(&self.state.tail) {
            // A call follows the reasoning if there must be one.
            return if self.requires_call() { Phase::Forced(Arc::clone(&self.rules.next), 0) } else { Phase::Header };
        }
        let kept = self.state.tail.len().saturating_sub(self.rules.end.len() - 1);
        self.state.tail.drain(..kept);
        Phase::Message
    }

    /// After a token of a header or a message.
    fn talked(&mut self, token: TokenId) -> Result<Phase, String> {
        self.state.tail.extend_from_slice(&self.tokenizer.token_bytes(token, true));
        self.state.spent += 1;
        let before = self.state.phase.clone();
        let phase = if before == Phase::Header { self.in_header()? } else { self.in_message() };
        let may_end = before == Phase::Message || self.has_begun();
        if phase != before {
            self.state.tail.clear();
        }
        let is_spent = may_end && self.state.spent >= self.budget && matches!(phase, Phase::Header | Phase::Message);
        let behind = before == Phase::Message && phase == Phase::Header;
        Ok(match (is_spent, behind) {
            (true, true) => Phase::Forced(Arc::clone(&self.rules.next), 0),
            (true, false) => Phase::Forced(Arc::clone(&self.rules.forced), 0),
            (false, _) => phase,
        })
    }

    fn forced_one(&mut self, tokens: Arc<[TokenId]>, at: usize) -> Result<Phase, String> {
        match (at + 1 < tokens.len(), self.requires_call()) {
            (true, _) => Ok(Phase::Forced(tokens, at + 1)),
            (false, true) => self.begin_call(),
            (false, false) => Ok(Phase::Final),
        }
    }
}

impl Constraint for Channels {
    fn is_ready(&self) -> bool {
        let compiled = self.calls.as_ref().is_none_or(|calls| calls.grammars.outcome().is_some());
        compiled && self.format.as_ref().is_none_or(|format| format.is_ready())
    }

    fn allowed(&mut self) -> Result<TokenMask, String> {
        match (&self.state.phase, &mut self.call, &mut self.format) {
            (Phase::Header | Phase::Message, ..) => Ok(self.free()),
            (Phase::Forced(tokens, at), ..) => {
                let mut mask = TokenMask::none(self.tokenizer.vocab_size());
                mask.allow(tokens[*at]);
                Ok(mask)
            }
            (Phase::Call, Some(call), _) => call.allowed(),
            (Phase::Final, _, Some(format)) => format.allowed(),
            (Phase::Call | Phase::Final | Phase::Done, ..) => Ok(self.all()),
        }
    }

    fn accept(&mut self, token: TokenId) -> Result<(), String> {
        let earlier = self.state.clone();
        self.state.phase = match (earlier.phase.clone(), &mut self.call, &mut self.format) {
            (Phase::Header | Phase::Message, ..) => self.talked(token)?,
            (Phase::Forced(tokens, at), ..) => self.forced_one(tokens, at)?,
            (Phase::Call, Some(call), _) => {
                call.accept(token)?;
                if call.is_complete() { Phase::Done } else { Phase::Call }
            }
            (Phase::Final, _, Some(format)) => {
                format.accept(token)?;
                Phase::Final
            }
            (phase, ..) => phase,
        };
        self.earlier.push_back(earlier);
        if self.earlier.len() > UNDOABLE {
            self.earlier.pop_front();
        }
        Ok(())
    }

    fn forced(&mut self) -> Vec<TokenId> {
        match (&self.state.phase, &mut self.call, &mut self.format) {
            (Phase::Forced(tokens, at), ..) => tokens[*at..].to_vec(),
            (Phase::Call, Some(call), _) => call.forced(),
            (Phase::Final, _, Some(format)) => format.forced(),
            _ => Vec::new(),
        }
    }

    fn is_complete(&self) -> bool {
        match self.state.phase {
            Phase::Done => true,
            Phase::Final => self.format.as_ref().is_some_and(|format| format.is_complete()),
            _ => false,
        }
    }

    fn roll_back(&mut self, tokens: usize) -> Result<(), String> {
        let (mut of_call, mut of_format) = (0, 0);
        for _ in 0..tokens {
            let earlier = self.earlier.pop_back().ok_or("an answer cannot be undone that far")?;
            of_call += usize::from(earlier.phase == Phase::Call);
            of_format += usize::from(earlier.phase == Phase::Final);
            self.state = earlier;
        }
        match (&self.state.phase, &mut self.call) {
            (Phase::Call, Some(call)) if of_call > 0 => call.roll_back(of_call)?,
            (Phase::Call | Phase::Done, _) => {}
            _ => self.call = None,
        }
        match &mut self.format {
            Some(format) if of_format > 0 => format.roll_back(of_format),
            _ => Ok(()),
        }
    }

    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(self.clone())
    }
}
