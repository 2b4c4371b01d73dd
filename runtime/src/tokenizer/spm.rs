//! SentencePiece with scores, as in Llama 2 (`tokenizer.ggml.model` = `llama`).
//!
//! The text is one sequence of characters, with `▁` for a space. Two neighbours merge if the result is a token, the highest
//! score first. Remaining symbols that are not tokens are written as byte tokens, `<0xE2>`.
//!
//! SentencePiece has no notion of words, but if no token has a `▁` after another character, as is usual, nothing can merge
//! across the start of a word, so that words can be encoded separately with the same result.

use super::TokenizerError;
use super::merge::Merger;
use super::vocabulary::{TokenKind, Vocabulary};
use super::word_cache::WordCache;
use crate::TokenId;

/// Replaces a space in vocabularies.
pub(super) const SPACE: char = '▁';

/// The rules of an SPM tokenizer.
#[derive(Debug)]
pub(super) struct Spm {
    /// Text at the start, or after a special token, gets a leading space.
    pub(super) add_space_prefix: bool,
    /// No token crosses the start of a word.
    has_words: bool,
    bytes: ByteTokens,
    unknown: Option<TokenId>,
}

impl Spm {
    /// Finds the byte tokens of the vocabulary, and whether it has words.
    pub(super) fn new(vocabulary: &Vocabulary, add_space_prefix: bool, unknown: Option<TokenId>) -> Self {
        Self { add_space_prefix, has_words: has_words(vocabulary), bytes: ByteTokens::new(vocabulary), unknown }
    }

    /// Appends the tokens of `text`, without recognising special tokens. `begins`: it is at the start of the whole text or
    /// after a special token.
    pub(super) fn encode(
        &self,
        vocabulary: &Vocabulary,
        text: &str,
        begins: bool,
        tokens: &mut Vec<TokenId>,
    ) -> Result<(), TokenizerError> {
        let (mut merger, mut seen, mut letters) = (Merger::default(), WordCache::default(), String::new());
        let (mut rest, mut prefix) = (text, self.add_space_prefix && begins);
        while !rest.is_empty() {
            let bytes = if self.has_words { first_word_bytes(rest) } else { rest.len() };
            let (word, behind) = rest.split_at(bytes);
            let mut encode = |tokens: &mut Vec<TokenId>| {
                letters.clear();
                letters.extend(std::mem::take(&mut prefix).then_some(SPACE));
                letters.extend(word.chars().map(escape));
                self.encode_word(vocabulary, &letters, &mut merger, tokens)
            };
            // Only the first word may have a prefix, so it is not cached.
            if rest.len() == text.len() {
                encode(tokens)?;
            } else {
                seen.append(word, tokens, encode)?;
            }
            rest = behind;
        }
        Ok(())
    }

    fn encode_word(
        &self,
        vocabulary: &Vocabulary,
        letters: &str,
        merger: &mut Merger,
        tokens: &mut Vec<TokenId>,
    ) -> Result<(), TokenizerError> {
        let ends = letters.char_indices().map(|(at, c)| (at + c.len_utf8()) as u32);
        let symbol = |start: u32, end: u32| &letters[start as usize..end as usize];
        let bounds = merger.merge(ends, |start, _, end| {
            if (end - start) as usize > vocabulary.longest_bytes() {
                return None;
            }
            vocabulary.id(symbol(start, end)).map(|id| rank(vocabulary.score(id)))
        });
        for pair in bounds.windows(2) {
            let symbol = symbol(pair[0], pair[1]);
            if let Some(id) = vocabulary.id(symbol) {
                tokens.push(id);
                continue;
            }
            for &byte in symbol.as_bytes() {
                let id = self.bytes.id(byte).or(self.unknown);
                tokens.push(id.ok_or_else(|| TokenizerError::NoToken { text: symbol.to_owned() })?);
            }
        }
        Ok(())
    }
}

/// The tokens of single bytes, `<0x0A>`.
#[derive(Debug)]
pub(super) struct ByteTokens(Box<[Option<TokenId>; 256]>);

impl ByteTokens {
    /// The byte tokens of a vocabulary.
    pub(super) fn new(vocabulary: &Vocabulary) -> Self {
        Self(Box::new(std::array::from_fn(|byte| vocabulary.id(&format!("<0x{byte:02X}>")))))
    }

    /// The token of a byte.
    pub(super) fn id(&self, byte: u8) -> Option<TokenId> {
        self.0[usize::from(byte)]
    }
}

/// Replaces a space by `▁`; keeps other characters.
pub(super) fn escape(c: char) -> char {
    if c == ' ' { SPACE } else { c }
}

/// Whether no token of the vocabulary crosses the start of a word.
pub(super) fn has_words(vocabulary: &Vocabulary) -> bool {
    let one_word = |(id, _)| first_word_bytes(vocabulary.text(id)) == vocabulary.text(id).len();
    vocabulary.kinds().all(one_word)
}

/// The words of a text: spaces, and the characters after them up to the next space.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (word, behind) = rest.split_at(first_word_bytes(rest));
        rest = behind;
        (!word.is_empty()).then_some(word)
    })
}

/// Bytes before the first space (or `▁`) that follows another character.
pub(super) fn first_word_bytes(text: &str) -> usize {
    let is_space = |c| c == ' ' || c == SPACE;
    let letters = text.len() - text.trim_start_matches(is_space).len();
    text[letters..].find(is_space).map_or(text.len(), |at| letters + at)
}

/// A rank that decreases with the score.
fn rank(score: f32) -> u32 {
    // Adding 0.0 turns -0.0 into 0.0. Flipping bits makes integers order like floats.
    let bits = (score + 0.0).to_bits();
    let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    !ascending
}

/// The bytes that a token decodes to, unless it is a special token.
pub(super) fn decode(text: &str, kind: TokenKind) -> Vec<u8> {
    if kind == TokenKind::Byte
        && let Some(byte) = byte_value(text)
    {
        return vec![byte];
    }
    text.replace(SPACE, " ").into_bytes()
}

/// `<0x0A>` -> 10
fn byte_value(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    // Rust reads a sign, too.
    let are_digits = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    are_digits.then(|| u8::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn higher_scores_rank_lower() {
        let scores = [f32::INFINITY, 3.5, 1e-40, 0.0, -1e-40, -1.0, -1e9, f32::NEG_INFINITY];
        assert!(scores.is_sorted_by(|a, b| rank(*a) < rank(*b)));
        assert_eq!(rank(0.0), rank(-0.0));
    }

    #[test]
    fn byte_tokens() {
        assert_eq!(decode("<0x0A>", TokenKind::Byte), b"\n");
        assert_eq!(decode("<0x0A>", TokenKind::Normal), b"<0x0A>");
        for none in ["<0xZZ>", "<0x-1>", "<0x+1>", "<0xA>", "<0x00A>", "<0x>"] {
            assert_eq!(decode(none, TokenKind::Byte), none.as_bytes());
        }
        assert_eq!(decode("▁a▁b", TokenKind::Normal), b" a b");
    }
}
