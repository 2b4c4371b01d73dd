//! Caches the tokens of words within one text.
//!
//! A repeated word is not merged again; its tokens are copied from their earlier position in the output.

use hashbrown::HashMap;

use crate::TokenId;

/// Maximum number of cached words, which bounds the memory for a text without repetition.
const WORDS: usize = 1 << 16;
/// Longer words are not cached, since they rarely repeat.
const WORD_BYTES: usize = 64;

/// Words of a text and the ranges of their tokens in the output.
#[derive(Default)]
pub(super) struct WordCache<'a> {
    seen: HashMap<&'a str, (usize, usize)>,
}

impl<'a> WordCache<'a> {
    /// Appends the tokens of `word`: cached ones, or those that `encode` appends. `tokens` must be the same vector in all
    /// calls, and only be appended to.
    pub(super) fn append<E>(
        &mut self,
        word: &'a str,
        tokens: &mut Vec<TokenId>,
        encode: impl FnOnce(&mut Vec<TokenId>) -> Result<(), E>,
    ) -> Result<(), E> {
        if word.len() > WORD_BYTES {
            return encode(tokens);
        }
        if let Some(&(start, end)) = self.seen.get(word) {
            tokens.extend_from_within(start..end);
            return Ok(());
        }
        let start = tokens.len();
        encode(tokens)?;
        if self.seen.len() < WORDS {
            self.seen.insert(word, (start, tokens.len()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn a_repeated_word_is_encoded_once_unless_it_is_long() {
        let long = "x".repeat(WORD_BYTES + 1);
        let words = ["ab", "c", "ab", "", "ab", &long, &long];
        let (mut cache, mut tokens, mut encoded) = (WordCache::default(), Vec::new(), Vec::new());
        for word in words {
            let encode = |tokens: &mut Vec<TokenId>| {
                encoded.push(word);
                tokens.extend(word.bytes().take(2).map(TokenId::from));
                Ok::<_, Infallible>(())
            };
            cache.append(word, &mut tokens, encode).expect("cannot fail");
        }
        assert_eq!(tokens, b"abcababxxxx".map(TokenId::from));
        assert_eq!(encoded, ["ab", "c", "", &long, &long]);
    }
}
