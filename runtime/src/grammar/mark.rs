//! A text in an answer behind which a grammar begins.
//!
//! A grammar reads whole tokens, so none may hold the end of a mark and the beginning of what follows. White space behind a mark
//! counts for nothing, so a token may have it.

use std::sync::Arc;

use crate::TokenId;
use crate::sampling::TokenMask;
use crate::tokenizer::Tokenizer;

/// A text, and the tokens that hold its end and more.
#[derive(Clone, Debug)]
pub struct Mark {
    text: Arc<str>,
    /// Tokens that begin with so many last bytes of the text and go on with something else than white space.
    straddling: Arc<[(TokenId, usize)]>,
    /// Tokens that begin with so many last bytes of the text and go on with white space, or not at all.
    ending: Arc<[(TokenId, usize)]>,
}

impl Mark {
    /// Looks through the vocabulary.
    pub(super) fn new(tokenizer: &Tokenizer, text: &str) -> Self {
        let end = text.as_bytes();
        let (mut straddling, mut ending) = (Vec::new(), Vec::new());
        for id in 0..tokenizer.vocab_size() as TokenId {
            let bytes = tokenizer.token_bytes(id, true);
            for length in 1..=end.len() {
                let Some(rest) = bytes.strip_prefix(&end[end.len() - length..]) else { continue };
                if rest.trim_ascii().is_empty() { ending.push((id, length)) } else { straddling.push((id, length)) }
            }
        }
        Self { text: text.into(), straddling: straddling.into(), ending: ending.into() }
    }

    /// The text.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Length of the text in bytes.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    /// Whether the text is in `tail`, the last bytes of an answer.
    pub(super) fn is_in(&self, tail: &[u8]) -> bool {
        tail.windows(self.len()).any(|bytes| bytes == self.text.as_bytes())
    }

    /// Forbids tokens that would hold the end of the text, after `tail`, and more.
    pub(super) fn forbid_straddling(&self, tail: &[u8], mask: &mut TokenMask) {
        self.forbid_of(&self.straddling, tail, mask);
    }

    /// Forbids tokens that would complete the text, after `tail`.
    pub(super) fn forbid(&self, tail: &[u8], mask: &mut TokenMask) {
        self.forbid_of(&self.straddling, tail, mask);
        self.forbid_of(&self.ending, tail, mask);
    }

    fn forbid_of(&self, tokens: &[(TokenId, usize)], tail: &[u8], mask: &mut TokenMask) {
        let text = self.text.as_bytes();
        for &(token, length) in tokens {
            if tail.ends_with(&text[..text.len() - length]) {
                mask.forbid(token);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn straddling(&self) -> impl Iterator<Item = &(TokenId, usize)> {
        self.straddling.iter()
    }
}
