//! WordPiece, as in BERT (`tokenizer.ggml.model` = `bert`).
//!
//! Text is normalised and cut into words at white space and around punctuation and ideographs. A word gets a `▁` prefix, since
//! llama.cpp's converter marks tokens at the start of a word with `▁` instead of others with `##`, and is matched greedily from
//! its start, the longest token first. A word that cannot be matched to its end is unknown as a whole.
//!
//! Normalisation is that of llama.cpp, whose tokens and embeddings ours are compared with: it keeps the first character of a
//! canonical decomposition, and drops marks.

use satchel_gguf::Metadata;
use unicode_general_category::{GeneralCategory as Category, get_general_category};
use unicode_normalization::char::decompose_canonical;

use super::TokenizerError;
use super::pretokenize::classes::{is_mark, is_punctuation};
use super::spm::SPACE;
use super::trie::Trie;
use super::vocabulary::{Vocabulary, check_token_bytes};
use crate::TokenId;

/// The rules of a WordPiece tokenizer.
#[derive(Debug)]
pub(super) struct Wpm {
    trie: Trie,
    unknown: Option<TokenId>,
    lowercase: bool,
    strip_accents: bool,
}

impl Wpm {
    /// Reads the normalisation settings.
    pub(super) fn from_gguf(
        metadata: &Metadata,
        vocabulary: &Vocabulary,
        unknown: Option<TokenId>,
    ) -> Result<Self, TokenizerError> {
        let lowercase = metadata.get_bool("tokenizer.ggml.normalizer.lowercase")?.unwrap_or(true);
        let strip_accents = metadata.get_bool("tokenizer.ggml.normalizer.strip_accents")?.unwrap_or(lowercase);
        let ids = || vocabulary.kinds().map(|(id, _)| id);
        check_token_bytes(vocabulary, ids())?;
        Ok(Self { trie: Trie::new(vocabulary, ids()), unknown, lowercase, strip_accents })
    }

    /// Appends the tokens of `text`, without recognising special tokens.
    pub(super) fn encode(&self, text: &str, tokens: &mut Vec<TokenId>) -> Result<(), TokenizerError> {
        let mut word = Word::default();
        for c in text.chars() {
            if c.is_whitespace() {
                self.finish(&mut word, tokens)?;
                continue;
            }
            let Some(c) = self.normalised(c) else { continue };
            if is_punctuation(c) || c.is_ascii_punctuation() || is_ideograph(c) {
                self.finish(&mut word, tokens)?;
                word.push(c);
                self.finish(&mut word, tokens)?;
            } else {
                word.push(c);
            }
        }
        self.finish(&mut word, tokens)
    }

    /// The normalised form of `c`; `None` if it is dropped.
    fn normalised(&self, c: char) -> Option<char> {
        let mut base = c;
        if self.strip_accents {
            let mut first = None;
            decompose_canonical(c, |part| _ = first.get_or_insert(part));
            base = first.unwrap_or(c);
        }
        let dropped = base == '\0'
            || base == '\u{FFFD}'
            || matches!(get_general_category(base), Category::Control | Category::Format | Category::PrivateUse)
            || (self.strip_accents && is_mark(base));
        if dropped {
            return None;
        }
        let mut lower = base.to_lowercase();
        Some(if self.lowercase && lower.len() == 1 { lower.next()? } else { base })
    }

    /// Appends the tokens of a word, and clears it.
    fn finish(&self, word: &mut Word, tokens: &mut Vec<TokenId>) -> Result<(), TokenizerError> {
        if word.0.is_empty() {
            return Ok(());
        }
        let (start, mut rest) = (tokens.len(), word.0.as_bytes());
        while !rest.is_empty() {
            let Some((bytes, id)) = self.trie.prefixes(rest).last() else {
                tokens.truncate(start);
                let text = word.0.trim_start_matches(SPACE);
                tokens.push(self.unknown.ok_or_else(|| TokenizerError::NoToken { text: text.to_owned() })?);
                break;
            };
            tokens.push(id);
            rest = &rest[bytes..];
        }
        word.0.clear();
        Ok(())
    }
}

/// A word in the form of the vocabulary: `▁`, then its characters; or empty.
#[derive(Default)]
struct Word(String);

impl Word {
    fn push(&mut self, c: char) {
        if self.0.is_empty() {
            self.0.push(SPACE);
        }
        self.0.push(c);
    }
}

/// Whether BERT treats a character as a word: CJK ideographs, in the ranges of Hugging Face's tokenizers.
fn is_ideograph(c: char) -> bool {
    matches!(c,
        '\u{4E00}'..='\u{9FFF}'
        | '\u{3400}'..='\u{4DBF}'
        | '\u{20000}'..='\u{2A6DF}'
        | '\u{2A700}'..='\u{2B81F}'
        | '\u{2B920}'..='\u{2CEAF}'
        | '\u{F900}'..='\u{FAFF}'
        | '\u{2F800}'..='\u{2FA1F}')
}
