//! A vocabulary as masks are computed on it: the bytes of every token that is text, in a trie.

use std::sync::Arc;

use llguidance::panic_utils::catch_unwind;
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};

use crate::TokenId;
use crate::tokenizer::Tokenizer;

/// Bytes of the longest token in the trie; a longer one is never allowed.
const LONGEST_TOKEN: usize = 1000;

/// Begins the name of a special token in the trie; UTF-8 has no such byte.
const MARKER: u8 = TokTrie::SPECIAL_TOKEN_MARKER;

/// The trie of a vocabulary.
pub(super) struct Words {
    pub(super) trie: TokEnv,
    /// A bit for each token that is text, as in a mask.
    pub(super) text: Vec<u32>,
    /// Stands for the end of an answer, which a model may have no token for, or several: an id behind the vocabulary.
    pub(super) end: TokenId,
}

impl Words {
    /// The trie of a tokenizer's vocabulary.
    ///
    /// # Errors
    /// One line if the vocabulary has no text form, or is too large for the trie.
    pub(super) fn new(tokenizer: &Tokenizer) -> Result<Self, String> {
        tokenizer.require_text().map_err(|error| error.to_string())?;
        let tokens = tokenizer.vocab_size();
        let mut words: Vec<Vec<u8>> = (0..tokens as TokenId).map(|id| word(tokenizer, id)).collect();
        let mut text = vec![0u32; tokens.div_ceil(32)];
        for id in (0..tokens).filter(|&id| !words[id].is_empty()) {
            text[id / 32] |= 1 << (id % 32);
        }
        words.push(Vec::new());
        let end = tokens as TokenId;
        let trie = catch_unwind(|| Ok(TokTrie::from(&TokRxInfo::new(end + 1, end), &words)))
            .map_err(|_| "the vocabulary is too large to constrain answers".to_owned())?;
        Ok(Self { trie: Arc::new(ApproximateTokEnv::new(trie)), text, end })
    }
}

/// The bytes that a token adds to an answer; none for those that are never allowed.
fn word(tokenizer: &Tokenizer, id: TokenId) -> Vec<u8> {
    let bytes = tokenizer.token_bytes(id, false);
    if bytes.len() > LONGEST_TOKEN || bytes.contains(&MARKER) || tokenizer.is_control(id) {
        return Vec::new();
    }
    bytes.into_owned()
}
