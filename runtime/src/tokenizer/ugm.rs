//! Unigram, as in T5 and XLM-RoBERTa (`tokenizer.ggml.model` = `t5`).
//!
//! Text is normalised by the model's table (`charsmap`), spaces become `▁`, and dynamic programming (Viterbi) finds the
//! segmentation with the highest sum of scores. A character that is not itself a token can be unknown, at a score below every
//! token's; adjacent unknown tokens become one.
//!
//! If no token crosses the start of a word, as is usual, words can be segmented separately, and repeated ones are cached.

use satchel_gguf::Metadata;

use super::TokenizerError;
use super::charsmap::Charsmap;
use super::spm::{self, SPACE};
use super::trie::Trie;
use super::vocabulary::{TokenKind, Vocabulary, check_token_bytes};
use super::word_cache::WordCache;
use crate::TokenId;

/// How far an unknown character's score lies below the lowest score of a token.
const UNKNOWN_PENALTY: f64 = 10.0;

/// The rules of a Unigram tokenizer.
#[derive(Debug)]
pub(super) struct Ugm {
    /// The text gets a leading space.
    pub(super) add_space_prefix: bool,
    /// Collapse repeated spaces, and remove those at both ends.
    remove_extra_whitespaces: bool,
    charsmap: Charsmap,
    trie: Trie,
    has_words: bool,
    unknown: Option<TokenId>,
    unknown_score: f64,
}

/// The best segmentation of the text up to some offset.
#[derive(Clone, Copy)]
struct Best {
    score: f64,
    /// Start offset of its last token.
    start: u32,
    /// Its last token; `None` for unknown text.
    token: Option<TokenId>,
}

impl Ugm {
    /// Reads the normalisation settings, and the tokens to segment into.
    pub(super) fn from_gguf(
        metadata: &Metadata,
        vocabulary: &Vocabulary,
        unknown: Option<TokenId>,
    ) -> Result<Self, TokenizerError> {
        let flag = |key| Ok::<_, TokenizerError>(metadata.get_bool(key)?.unwrap_or(false));
        let of_kind = |kinds: &'static [TokenKind]| {
            vocabulary.kinds().filter(move |(_, kind)| kinds.contains(kind)).map(|(id, _)| id)
        };
        let ids = || of_kind(&[TokenKind::Normal, TokenKind::UserDefined, TokenKind::Unused]);
        check_token_bytes(vocabulary, ids())?;
        let lowest = of_kind(&[TokenKind::Normal]).map(|id| score(vocabulary, id)).fold(f64::from(f32::MAX), f64::min);
        Ok(Self {
            add_space_prefix: flag("tokenizer.ggml.add_space_prefix")?,
            remove_extra_whitespaces: flag("tokenizer.ggml.remove_extra_whitespaces")?,
            charsmap: Charsmap::from_gguf(metadata)?,
            trie: Trie::new(vocabulary, ids()),
            has_words: spm::has_words(vocabulary),
            unknown,
            unknown_score: lowest - UNKNOWN_PENALTY,
        })
    }

    /// Appends the tokens of `text`, without recognising special tokens.
    pub(super) fn encode(
        &self,
        vocabulary: &Vocabulary,
        text: &str,
        tokens: &mut Vec<TokenId>,
    ) -> Result<(), TokenizerError> {
        let text = self.normalised(text)?;
        let (first, mut seen, mut ways) = (tokens.len(), WordCache::default(), Vec::new());
        let mut encode =
            |word| seen.append(word, tokens, |tokens| self.encode_word(vocabulary, word, &mut ways, tokens));
        match self.has_words {
            true => spm::words(&text).try_for_each(encode)?,
            false => encode(&text)?,
        }
        let mut kept = first;
        for at in first..tokens.len() {
            let repeated = kept > first && tokens[kept - 1] == tokens[at] && Some(tokens[at]) == self.unknown;
            tokens[kept] = tokens[at];
            kept += usize::from(!repeated);
        }
        tokens.truncate(kept);
        Ok(())
    }

    fn normalised(&self, text: &str) -> Result<String, TokenizerError> {
        let mut normalised = String::with_capacity(text.len() + text.len() / 4);
        let (mut in_word, mut prefixed) = (false, !self.add_space_prefix);
        let mut push = |part: &str| {
            for c in part.chars() {
                if c != ' ' {
                    if !in_word && (self.remove_extra_whitespaces || !prefixed) {
                        normalised.push(SPACE);
                        prefixed = true;
                    }
                    normalised.push(c);
                } else if !self.remove_extra_whitespaces {
                    normalised.push(SPACE);
                }
                in_word = c != ' ';
            }
        };
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let bytes = match self.charsmap.replacement(rest.as_bytes()) {
                // A match of a damaged table may end inside a character.
                Some((bytes, replacement)) if rest.is_char_boundary(bytes) => {
                    push(replacement?);
                    bytes
                }
                _ => {
                    push(&rest[..c.len_utf8()]);
                    c.len_utf8()
                }
            };
            rest = &rest[bytes..];
        }
        Ok(normalised)
    }

    fn encode_word(
        &self,
        vocabulary: &Vocabulary,
        word: &str,
        ways: &mut Vec<Option<Best>>,
        tokens: &mut Vec<TokenId>,
    ) -> Result<(), TokenizerError> {
        ways.clear();
        ways.resize(word.len() + 1, None);
        ways[0] = Some(Best { score: 0.0, start: 0, token: None });
        for (start, c) in word.char_indices() {
            // Always reachable: at least through unknown characters.
            let Some(before) = ways[start] else { continue };
            let mut offer = |bytes: usize, token: Option<TokenId>, score: f64| {
                let (score, way) = (before.score + score, &mut ways[start + bytes]);
                if way.is_none_or(|best| score > best.score) {
                    *way = Some(Best { score, start: start as u32, token });
                }
            };
            let mut is_token = false;
            for (bytes, id) in self.trie.prefixes(&word.as_bytes()[start..]) {
                is_token |= bytes == c.len_utf8();
                let user_defined = vocabulary.kind(id) == TokenKind::UserDefined;
                offer(bytes, Some(id), if user_defined { 0.0 } else { score(vocabulary, id) });
            }
            if !is_token {
                offer(c.len_utf8(), None, self.unknown_score);
            }
        }
        let (first, mut end) = (tokens.len(), word.len());
        while let Some(best) = ways[end].filter(|_| end > 0) {
            let id = best.token.or(self.unknown);
            tokens.push(id.ok_or_else(|| TokenizerError::NoToken { text: word[best.start as usize..end].to_owned() })?);
            end = best.start as usize;
        }
        tokens[first..].reverse();
        Ok(())
    }
}

/// A token's score, clamped to finite values, so that sums can be compared.
fn score(vocabulary: &Vocabulary, id: TokenId) -> f64 {
    f64::from(vocabulary.score(id).clamp(f32::MIN, f32::MAX))
}
