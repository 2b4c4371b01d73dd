//! A compiled grammar's state at some point of an answer, as the engine's constraint.

use std::fmt;
use std::sync::Arc;

use llguidance::Matcher;

use super::first_line;
use super::words::Words;
use crate::TokenId;
use crate::sampling::{Constraint, TokenMask};

/// An answer's state within a grammar.
pub(super) struct GrammarConstraint {
    matcher: Matcher,
    words: Arc<Words>,
    /// The tokens that may end the answer.
    ends: Arc<[TokenId]>,
    complete: bool,
    /// Control tokens may be allowed: the grammar names those that it means.
    trusted: bool,
}

impl GrammarConstraint {
    /// At the beginning of an answer.
    pub(super) fn new(matcher: &Matcher, words: Arc<Words>, ends: Arc<[TokenId]>, trusted: bool) -> Self {
        // A copy with a lexer of its own: what one answer makes of the lexer's limits is no other's concern.
        Self { matcher: matcher.deep_clone(), words, ends, complete: false, trusted }
    }
}

impl fmt::Debug for GrammarConstraint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("GrammarConstraint").field("complete", &self.complete).finish_non_exhaustive()
    }
}

impl Constraint for GrammarConstraint {
    fn allowed(&mut self) -> Result<TokenMask, String> {
        let set = self.matcher.compute_mask_or_eos().map_err(|error| gave_up(&error))?;
        let may_end = set.is_allowed(self.words.end);
        let mut words: Vec<u32> = set.into();
        words.truncate(self.words.text.len());
        // The end has an id behind the vocabulary, which may still be in its last word of bits.
        if let Some(word) = words.get_mut(self.words.end as usize / 32) {
            *word &= !(1 << (self.words.end % 32));
        }
        // A grammar can name tokens by number; control tokens are not text.
        if !self.trusted {
            words.iter_mut().zip(&self.words.text).for_each(|(word, text)| *word &= text);
        }
        self.complete = may_end && words.iter().all(|word| *word == 0);
        let mut mask = TokenMask::from_words(words);
        if may_end {
            self.ends.iter().for_each(|&end| mask.allow(end));
        }
        Ok(mask)
    }

    fn accept(&mut self, token: TokenId) -> Result<(), String> {
        let token = if self.ends.contains(&token) { self.words.end } else { token };
        self.matcher.consume_token(token).map_err(|error| gave_up(&error))?;
        self.complete = self.matcher.is_stopped();
        Ok(())
    }

    fn forced(&mut self) -> Vec<TokenId> {
        // On a copy: bytes taken ahead count against the limits of a step, and must not end an answer.
        let bytes = self.matcher.clone().compute_ff_bytes();
        let mut tokens = self.words.trie.tok_trie().greedy_tokenize(&bytes);
        let is_text =
            |token: TokenId| self.words.text.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1);
        let text = tokens.iter().take_while(|token| is_text(**token)).count();
        tokens.truncate(text);
        tokens
    }

    fn is_complete(&self) -> bool {
        self.complete
    }

    fn roll_back(&mut self, tokens: usize) -> Result<(), String> {
        self.complete = false;
        self.matcher.rollback(tokens).map_err(|error| gave_up(&error))
    }

    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(Self {
            matcher: self.matcher.deep_clone(),
            words: Arc::clone(&self.words),
            ends: Arc::clone(&self.ends),
            complete: self.complete,
            trusted: self.trusted,
        })
    }
}

fn gave_up(error: &impl fmt::Display) -> String {
    format!("the grammar gave up within the answer: {}", first_line(error))
}
