//! The vocabulary: text, kind and score of each token id, and the id of a text.
//!
//! Texts are stored back to back as in the file, and the index over them holds only ids, so that opening a vocabulary of
//! 150,000 tokens takes few allocations.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use satchel_gguf::{Array, Metadata, StringArray};

use super::TokenizerError;
use crate::TokenId;

const TOKENS: &str = "tokenizer.ggml.tokens";

/// Longest special token, and longest token of any kind for WPM and UGM: every position of a text is searched for all tokens
/// that begin there, which takes time in proportion to their length.
pub(super) const SEARCHED_TOKEN_BYTES: usize = 1024;

/// What a token is for. The discriminants are those of `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// No kind given; treated as [`TokenKind::Normal`].
    Undefined = 0,
    /// A piece of text.
    Normal = 1,
    /// Replaces text that the vocabulary cannot represent.
    Unknown = 2,
    /// Structure rather than text, such as the end of a sequence.
    Control = 3,
    /// A piece of text that is recognised before any other processing.
    UserDefined = 4,
    /// A reserved id.
    Unused = 5,
    /// One byte, `<0x0A>`.
    Byte = 6,
}

impl TokenKind {
    fn from_id(id: i32) -> Option<Self> {
        Some(match id {
            0 => Self::Undefined,
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }
}

/// Texts, kinds and scores by id, and ids by text.
#[derive(Debug)]
pub(super) struct Vocabulary {
    texts: StringArray,
    kinds: Vec<TokenKind>,
    /// Empty if the file has none.
    scores: Vec<f32>,
    ids: HashTable<TokenId>,
    hasher: DefaultHashBuilder,
    longest_bytes: usize,
}

impl Vocabulary {
    /// Reads tokens, scores and kinds, which must be equal in number; two tokens with the same text are an error.
    pub(super) fn from_gguf(metadata: &Metadata) -> Result<Self, TokenizerError> {
        let texts = metadata.require_str_array(TOKENS)?.clone();
        let kinds = kinds(metadata, texts.len())?;
        let scores = scores(metadata, texts.len())?;
        Self::new(texts, kinds, scores)
    }

    /// A vocabulary without tokens.
    pub(super) fn empty() -> Self {
        Self {
            texts: StringArray::default(),
            kinds: Vec::new(),
            scores: Vec::new(),
            ids: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            longest_bytes: 0,
        }
    }

    fn new(texts: StringArray, kinds: Vec<TokenKind>, scores: Vec<f32>) -> Result<Self, TokenizerError> {
        let mut ids = HashTable::with_capacity(texts.len());
        let hasher = DefaultHashBuilder::default();
        let mut longest_bytes = 0;
        for (id, text) in (0..).zip(texts.iter()) {
            // Empty tokens never match a text, so duplicates are harmless.
            if text.is_empty() {
                continue;
            }
            longest_bytes = longest_bytes.max(text.len());
            let same = |&other: &TokenId| text_of(&texts, other) == text;
            let hash_again = |&other: &TokenId| hasher.hash_one(text_of(&texts, other));
            match ids.entry(hasher.hash_one(text), same, hash_again) {
                hashbrown::hash_table::Entry::Vacant(place) => place.insert(id),
                hashbrown::hash_table::Entry::Occupied(first) => {
                    let (text, first) = (text.to_owned(), *first.get());
                    return Err(TokenizerError::DuplicateToken { text, first, second: id });
                }
            };
        }
        Ok(Self { texts, kinds, scores, ids, hasher, longest_bytes })
    }

    /// Number of tokens.
    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    /// Bytes of the longest token.
    pub(super) fn longest_bytes(&self) -> usize {
        self.longest_bytes
    }

    /// The text of a token as it is in the file; empty for an id out of range.
    pub(super) fn text(&self, id: TokenId) -> &str {
        text_of(&self.texts, id)
    }

    /// The kind of a token; `Unused` for an id out of range.
    pub(super) fn kind(&self, id: TokenId) -> TokenKind {
        self.kinds.get(id as usize).copied().unwrap_or(TokenKind::Unused)
    }

    /// Makes a token a control token.
    pub(super) fn make_control(&mut self, id: TokenId) {
        if let Some(kind) = self.kinds.get_mut(id as usize) {
            *kind = TokenKind::Control;
        }
    }

    /// The score of a token; 0 if the file has none.
    pub(super) fn score(&self, id: TokenId) -> f32 {
        self.scores.get(id as usize).copied().unwrap_or(0.0)
    }

    /// The token with exactly this text.
    pub(super) fn id(&self, text: &str) -> Option<TokenId> {
        if text.len() > self.longest_bytes {
            return None;
        }
        self.ids.find(self.hasher.hash_one(text), |&id| text_of(&self.texts, id) == text).copied()
    }

    /// All ids with their kinds.
    pub(super) fn kinds(&self) -> impl Iterator<Item = (TokenId, TokenKind)> {
        (0..).zip(self.kinds.iter().copied())
    }
}

fn text_of(texts: &StringArray, id: TokenId) -> &str {
    texts.get(id as usize).unwrap_or_default()
}

fn kinds(metadata: &Metadata, tokens: usize) -> Result<Vec<TokenKind>, TokenizerError> {
    const KEY: &str = "tokenizer.ggml.token_type";
    let Some(types) = metadata.get_i32_array(KEY)? else {
        return Ok(vec![TokenKind::Normal; tokens]);
    };
    check_length(KEY, tokens, types.len())?;
    let kind = |(id, value): (TokenId, &i32)| {
        TokenKind::from_id(*value).ok_or(TokenizerError::UnknownTokenType { id, value: *value })
    };
    (0..).zip(&types).map(kind).collect()
}

/// Empty if the file has none.
fn scores(metadata: &Metadata, tokens: usize) -> Result<Vec<f32>, TokenizerError> {
    const KEY: &str = "tokenizer.ggml.scores";
    let scores = match metadata.get_array(KEY)? {
        Some(Array::I32(scores)) => scores.iter().map(|&score| score as f32).collect(),
        _ => metadata.get_f32_array(KEY)?.unwrap_or_default(),
    };
    if !scores.is_empty() {
        check_length(KEY, tokens, scores.len())?;
    }
    match (0..).zip(&scores).find(|(_, score)| score.is_nan()) {
        Some((id, _)) => Err(TokenizerError::NotAScore { id }),
        None => Ok(scores),
    }
}

/// Refuses tokens so long that searching for them at every position of a text would take minutes.
pub(super) fn check_token_bytes(
    vocabulary: &Vocabulary,
    mut ids: impl Iterator<Item = TokenId>,
) -> Result<(), TokenizerError> {
    match ids.find(|&id| vocabulary.text(id).len() > SEARCHED_TOKEN_BYTES) {
        Some(id) => Err(TokenizerError::LongToken { id, bytes: vocabulary.text(id).len() }),
        None => Ok(()),
    }
}

fn check_length(key: &'static str, tokens: usize, found: usize) -> Result<(), TokenizerError> {
    if found == tokens { Ok(()) } else { Err(TokenizerError::WrongLength { key, tokens, found }) }
}
