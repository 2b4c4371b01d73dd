//! SentencePiece with scores, as Llama 2 has it (`tokenizer.ggml.model` = `llama`).
//!
//! There are no words: the whole text is one row of characters, with `▁` for a space. Two neighbours may merge where
//! what they make together is a token, the one of the highest score first. What remains and is no token is written
//! as bytes, `<0xE2>`.

use super::TokenizerError;
use super::merge::Merger;
use super::vocabulary::{TokenKind, Vocabulary};
use crate::TokenId;

/// What a space is written as.
const SPACE: &str = "▁";

/// The rules of an SPM tokenizer.
#[derive(Debug)]
pub(super) struct Spm {
    /// Text at the start, or behind a special token, gets a space in front.
    pub(super) add_space_prefix: bool,
    bytes: Box<[Option<TokenId>; 256]>,
    unknown: Option<TokenId>,
}

impl Spm {
    /// Finds the byte tokens of the vocabulary.
    pub(super) fn new(vocabulary: &Vocabulary, add_space_prefix: bool, unknown: Option<TokenId>) -> Self {
        let bytes = std::array::from_fn(|byte| vocabulary.id(&format!("<0x{byte:02X}>")));
        Self { add_space_prefix, bytes: Box::new(bytes), unknown }
    }

    /// Appends the tokens of `text`, in which special tokens have no meaning. `begins` where it is at the start of
    /// everything or behind a special token.
    pub(super) fn encode(
        &self,
        vocabulary: &Vocabulary,
        text: &str,
        begins: bool,
        tokens: &mut Vec<TokenId>,
    ) -> Result<(), TokenizerError> {
        let prefix = if self.add_space_prefix && begins { SPACE } else { "" };
        let escaped = prefix.to_owned() + &text.replace(' ', SPACE);
        if u32::try_from(escaped.len()).is_err() {
            return Err(TokenizerError::TextTooLong { bytes: text.len() });
        }
        let ends = escaped.char_indices().map(|(at, c)| (at + c.len_utf8()) as u32);
        let symbol = |start: u32, end: u32| &escaped[start as usize..end as usize];
        let mut merger = Merger::default();
        let bounds = merger.merge(ends, |start, _, end| {
            if (end - start) as usize > vocabulary.longest_bytes() {
                return None;
            }
            vocabulary.id(symbol(start, end)).map(|id| rank(vocabulary.score(id)))
        });
        for pair in bounds.windows(2) {
            let symbol = symbol(pair[0], pair[1]);
            match vocabulary.id(symbol) {
                Some(id) => tokens.push(id),
                None => {
                    for &byte in symbol.as_bytes() {
                        let id = self.bytes[usize::from(byte)].or(self.unknown);
                        tokens.push(id.ok_or_else(|| TokenizerError::NoToken { text: symbol.to_owned() })?);
                    }
                }
            }
        }
        Ok(())
    }
}

/// A rank that is lower the higher the score is.
fn rank(score: f32) -> u32 {
    // -0.0 and 0.0 are one score; total order puts NaN beyond the infinities.
    let bits = (score + 0.0).to_bits();
    let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    !ascending
}

/// The bytes that a token stands for, special tokens aside.
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
    u8::from_str_radix(digits, 16).ok()
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
        assert_eq!(decode("<0xZZ>", TokenKind::Byte), b"<0xZZ>");
        assert_eq!(decode("▁a▁b", TokenKind::Normal), b" a b");
    }
}
