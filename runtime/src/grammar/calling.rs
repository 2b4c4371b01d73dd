//! Tool calls within an answer: text is free until a mark begins a call, which then obeys its grammar.
//!
//! While the model talks, no grammar is asked, so that talking costs next to nothing however many tools there are.

use std::collections::VecDeque;
use std::sync::Arc;

use super::compiling::Compiling;
use super::mark::Mark;
use crate::TokenId;
use crate::sampling::{Constraint, TokenMask};
use crate::tokenizer::Tokenizer;

/// Most tokens that can be undone: more than any step of a speculation has.
const UNDOABLE: usize = 256;

/// The calls of a request.
#[derive(Clone, Debug)]
pub struct Calls {
    /// The first is for calls that are required.
    pub(crate) kinds: Arc<[CallKind]>,
    /// What follows the mark of each.
    pub(crate) grammars: Compiling,
    /// The answer is a call, and nothing else before it.
    pub(crate) required: bool,
    /// More may follow a call.
    pub(crate) parallel: bool,
}

/// A way in which calls are written.
#[derive(Clone, Debug)]
pub(crate) struct CallKind {
    /// Behind this the grammar begins; `None` if a call is an answer that begins with `first`.
    pub(crate) mark: Option<Mark>,
    /// Tokens that begin with white space and `first`.
    pub(crate) begins: Arc<[TokenId]>,
    /// Tokens that write the mark.
    pub(crate) forced: Arc<[TokenId]>,
    /// Nothing comes after it.
    pub(crate) last: bool,
}

/// An answer with calls.
#[derive(Clone, Debug)]
pub(super) struct Calling {
    tokenizer: Arc<Tokenizer>,
    calls: Calls,
    /// Tokens that end the answer.
    ends: Arc<[TokenId]>,
    state: State,
    earlier: VecDeque<State>,
    /// The grammar of each call so far.
    begun: Vec<Box<dyn Constraint>>,
}

#[derive(Clone, Debug)]
struct State {
    phase: Phase,
    /// The last bytes of text, fewer than any mark.
    tail: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing but white space has come, and a call without a mark may.
    Begin,
    Text,
    /// So many tokens of the required mark have come.
    Forced(usize),
    /// Within the nth call.
    Call(usize),
    /// After a required call: another may follow, or the end.
    Between,
    /// Nothing may follow.
    Done,
}

impl Calls {
    /// Whether the answer must be a call.
    pub fn are_required(&self) -> bool {
        self.required
    }

    /// A constraint at the beginning of an answer.
    pub fn constraint(&self, tokenizer: Arc<Tokenizer>, ends: Arc<[TokenId]>) -> Box<dyn Constraint> {
        let bare = self.kinds.iter().any(|kind| kind.mark.is_none());
        let phase = match (self.required, bare) {
            (true, _) => Phase::Forced(0),
            (false, true) => Phase::Begin,
            (false, false) => Phase::Text,
        };
        let state = State { phase, tail: Vec::new() };
        let (calls, earlier, begun) = (self.clone(), VecDeque::new(), Vec::new());
        Box::new(Calling { tokenizer, calls, ends, state, earlier, begun })
    }
}

impl Calling {
    fn begin(&mut self, kind: usize) -> Result<Phase, String> {
        let grammar = self.calls.grammars.wait(kind)?;
        self.begun.push(grammar.constraint(Arc::default()));
        Ok(Phase::Call(self.begun.len() - 1))
    }

    /// Begins the call that an answer begins with, or may.
    fn enter(&mut self) -> Result<(), String> {
        match self.state.phase {
            // It is asked what may begin a call, and dropped if the answer is text.
            Phase::Begin if self.begun.is_empty() => self.begin(0).map(drop),
            Phase::Forced(_) if self.calls.kinds[0].forced.is_empty() => {
                self.state.phase = self.begin(0)?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn all(&self) -> TokenMask {
        TokenMask::all(self.tokenizer.vocab_size())
    }

    /// Everything but tokens that hold the end of a mark and the beginning of a call.
    fn text(&self) -> TokenMask {
        let mut mask = self.all();
        let marks = self.calls.kinds.iter().filter_map(|kind| kind.mark.as_ref());
        marks.for_each(|end| end.forbid_straddling(&self.state.tail, &mut mask));
        mask
    }

    /// Text, or what may begin a call without a mark.
    fn begin_mask(&mut self) -> Result<TokenMask, String> {
        let mut mask = self.text();
        let allowed = self.begun[0].allowed()?;
        let begins = self.calls.kinds.iter().flat_map(|kind| kind.begins.iter());
        begins.filter(|&&token| !allowed.allows(token)).for_each(|&token| mask.forbid(token));
        Ok(mask)
    }

    fn accept_text(&mut self, token: TokenId) -> Result<Phase, String> {
        self.state.tail.extend_from_slice(&self.tokenizer.token_bytes(token, true));
        let kinds = self.calls.kinds.iter().enumerate();
        let found = kinds.filter(|(_, kind)| kind.mark.as_ref().is_some_and(|mark| mark.is_in(&self.state.tail)));
        if let Some((kind, _)) = found.min_by_key(|(kind, _)| *kind) {
            self.state.tail.clear();
            return self.begin(kind);
        }
        let longest = self.calls.kinds.iter().filter_map(|kind| kind.mark.as_ref()).map(Mark::len).max();
        let kept = self.state.tail.len().saturating_sub(longest.unwrap_or(1) - 1);
        self.state.tail.drain(..kept);
        Ok(Phase::Text)
    }

    /// The first token where a call without a mark may come.
    fn accept_first(&mut self, token: TokenId) -> Result<Phase, String> {
        let begins = self.calls.kinds.iter().any(|kind| kind.begins.contains(&token));
        let bytes = self.tokenizer.token_bytes(token, false);
        if begins {
            return self.accept_call(token, 0);
        }
        if bytes.trim_ascii().is_empty() {
            return Ok(Phase::Begin);
        }
        self.accept_text(token)
    }

    fn accept_call(&mut self, token: TokenId, call: usize) -> Result<Phase, String> {
        self.begun[call].accept(token)?;
        if !self.begun[call].is_complete() {
            return Ok(Phase::Call(call));
        }
        let last = self.calls.kinds.iter().any(|kind| kind.last);
        Ok(match (last || !self.calls.parallel, self.calls.required) {
            (true, _) => Phase::Done,
            (false, true) => Phase::Between,
            (false, false) => Phase::Text,
        })
    }

    fn accept_forced(&mut self, at: usize) -> Result<Phase, String> {
        if at + 1 < self.calls.kinds[0].forced.len() { Ok(Phase::Forced(at + 1)) } else { self.begin(0) }
    }
}

impl Constraint for Calling {
    fn is_ready(&self) -> bool {
        self.calls.grammars.outcome().is_some()
    }

    fn allowed(&mut self) -> Result<TokenMask, String> {
        self.enter()?;
        match self.state.phase {
            Phase::Begin => self.begin_mask(),
            Phase::Text => Ok(self.text()),
            Phase::Forced(at) => {
                let mut mask = TokenMask::none(self.tokenizer.vocab_size());
                mask.allow(self.calls.kinds[0].forced[at]);
                Ok(mask)
            }
            Phase::Call(call) => self.begun[call].allowed(),
            Phase::Between => {
                let mut mask = TokenMask::none(self.tokenizer.vocab_size());
                self.ends.iter().chain(self.calls.kinds[0].forced.first()).for_each(|&token| mask.allow(token));
                Ok(mask)
            }
            Phase::Done => Ok(self.all()),
        }
    }

    fn accept(&mut self, token: TokenId) -> Result<(), String> {
        self.enter()?;
        let earlier = self.state.clone();
        self.state.phase = match earlier.phase {
            Phase::Begin => self.accept_first(token)?,
            Phase::Text => self.accept_text(token)?,
            Phase::Forced(at) => self.accept_forced(at)?,
            Phase::Between if self.ends.contains(&token) => Phase::Done,
            Phase::Between => self.accept_forced(0)?,
            Phase::Call(call) => self.accept_call(token, call)?,
            Phase::Done => Phase::Done,
        };
        self.earlier.push_back(earlier);
        if self.earlier.len() > UNDOABLE {
            self.earlier.pop_front();
        }
        Ok(())
    }

    fn forced(&mut self) -> Vec<TokenId> {
        match self.state.phase {
            Phase::Forced(at) => self.calls.kinds[0].forced[at..].to_vec(),
            Phase::Call(call) => self.begun[call].forced(),
            _ => Vec::new(),
        }
    }

    fn is_complete(&self) -> bool {
        self.state.phase == Phase::Done
    }

    fn roll_back(&mut self, tokens: usize) -> Result<(), String> {
        let mut of_call = vec![0; self.begun.len()];
        let mut left = self.begun.len();
        for _ in 0..tokens {
            let earlier = self.earlier.pop_back().ok_or("a call cannot be undone that far")?;
            match (earlier.phase, self.state.phase) {
                (Phase::Call(call), _) => of_call[call] += 1,
                // The first token of a call without a mark, whose grammar was there before.
                (Phase::Begin, Phase::Call(_) | Phase::Done) => of_call[0] += 1,
                (Phase::Text | Phase::Forced(_) | Phase::Between, Phase::Call(call)) => left = call,
                _ => {}
            }
            self.state = earlier;
        }
        self.begun.truncate(left);
        for (call, tokens) in self.begun.iter_mut().zip(of_call).filter(|(_, tokens)| *tokens > 0) {
            call.roll_back(tokens)?;
        }
        Ok(())
    }

    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(self.clone())
    }
}
