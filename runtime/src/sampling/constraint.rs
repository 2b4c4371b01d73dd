//! A constraint on the answer: which tokens may come next.
//!
//! The engine asks for a mask before it samples and reports what was chosen; it knows nothing about grammars.

use std::fmt::Debug;

use crate::TokenId;

/// A bit mask of allowed tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenMask {
    words: Vec<u32>,
}

impl TokenMask {
    /// A mask for this many tokens that allows none.
    pub fn none(tokens: usize) -> Self {
        Self { words: vec![0; tokens.div_ceil(32)] }
    }

    /// A mask for this many tokens that allows all.
    pub fn all(tokens: usize) -> Self {
        Self { words: vec![u32::MAX; tokens.div_ceil(32)] }
    }

    /// From bits, lowest bit of the first word first.
    pub fn from_words(words: Vec<u32>) -> Self {
        Self { words }
    }

    /// As bits, lowest bit of the first word first.
    pub fn into_words(self) -> Vec<u32> {
        self.words
    }

    /// Allows a token.
    pub fn allow(&mut self, token: TokenId) {
        self.words[token as usize / 32] |= 1 << (token % 32);
    }

    /// Forbids a token.
    pub fn forbid(&mut self, token: TokenId) {
        if let Some(word) = self.words.get_mut(token as usize / 32) {
            *word &= !(1 << (token % 32));
        }
    }

    /// Allows what `other` allows, too.
    pub fn allow_also(&mut self, other: &Self) {
        self.words.resize(self.words.len().max(other.words.len()), 0);
        self.words.iter_mut().zip(&other.words).for_each(|(word, more)| *word |= more);
    }

    /// Whether a token is allowed; tokens beyond the mask are not.
    pub fn allows(&self, token: TokenId) -> bool {
        self.words.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
    }

    /// Sets the logits of disallowed tokens to negative infinity.
    pub fn apply(&self, logits: &mut [f32]) {
        for (at, logits) in logits.chunks_mut(32).enumerate() {
            apply_word(self.words.get(at).copied().unwrap_or(0), logits);
        }
    }
}

/// Most words allow nearly all of their tokens or nearly none: only the few others are visited one by one.
fn apply_word(word: u32, logits: &mut [f32]) {
    let length = logits.len();
    let bits = |mut left: u32| {
        let all = std::iter::from_fn(move || {
            let bit = left.trailing_zeros() as usize;
            left &= left.checked_sub(1)?;
            Some(bit)
        });
        all.take_while(move |&bit| bit < length)
    };
    if word.count_ones() >= 16 {
        bits(!word).for_each(|bit| logits[bit] = f32::NEG_INFINITY);
        return;
    }
    let mut kept = [f32::NEG_INFINITY; 32];
    bits(word).for_each(|bit| kept[bit] = logits[bit]);
    logits.copy_from_slice(&kept[..length]);
}

/// A grammar's state at some point of an answer.
pub trait Constraint: Debug + Send {
    /// Whether an answer can begin: what it needs may still be made elsewhere. Once true it stays so.
    fn is_ready(&self) -> bool {
        true
    }

    /// The tokens that may come next, including end tokens if the answer may end here.
    ///
    /// # Errors
    /// One line if the grammar gives up (too large, too slow); the answer then ends rather than going on unchecked.
    fn allowed(&mut self) -> Result<TokenMask, String>;

    /// Advances by the chosen token.
    ///
    /// # Errors
    /// One line if the token was not allowed.
    fn accept(&mut self, token: TokenId) -> Result<(), String>;

    /// Tokens of which the constraint can say already that they come next, as far as it knows how the text is made of tokens:
    /// guesses, which are checked as others are.
    fn forced(&mut self) -> Vec<TokenId> {
        Vec::new()
    }

    /// Whether the answer is whole: nothing but its end can follow.
    fn is_complete(&self) -> bool;

    /// Undoes the last `tokens` tokens.
    ///
    /// # Errors
    /// One line if that many cannot be undone.
    fn roll_back(&mut self, tokens: usize) -> Result<(), String>;

    /// An independent copy of the current state.
    fn fork(&self) -> Box<dyn Constraint>;
}

impl Clone for Box<dyn Constraint> {
    fn clone(&self) -> Self {
        self.fork()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_keeps_allowed_tokens_only() {
        let mut mask = TokenMask::none(70);
        for token in [0, 31, 32, 69] {
            mask.allow(token);
        }
        let mut logits = vec![1.0; 80];
        mask.apply(&mut logits);
        let left: Vec<usize> = (0..80).filter(|&token| logits[token] == 1.0).collect();
        assert_eq!(left, [0, 31, 32, 69], "tokens past the end of the mask are not allowed");
        assert!(mask.allows(31) && !mask.allows(30) && !mask.allows(1000));
    }
}
