//! Text to token ids and back, as the model's own tokenizer does it.
//!
//! Everything comes from the GGUF: [`Tokenizer::from_gguf`] reads the vocabulary and picks the algorithm, BPE (`bpe`),
//! SentencePiece with scores (`spm`), WordPiece (`wpm`) or Unigram (`ugm`). Whatever the algorithm, special tokens are cut out
//! first, and the text between them is encoded piece by piece. An unknown kind of tokenizer or pre-tokeniser is an error: an
//! approximation would silently make the model worse.
//!
//! Not here: chat templates, partial characters in streams, and stop strings; they build on this.

mod bpe;
mod byte_alphabet;
mod charsmap;
mod end_tokens;
mod infill;
mod merge;
mod pretokenize;
mod special;
mod spm;
#[cfg(test)]
pub(crate) mod tests;
mod trie;
mod ugm;
mod vocabulary;
mod word_cache;
mod wpm;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use satchel_gguf::Metadata;

use self::bpe::Bpe;
use self::pretokenize::PreTokenizer;
use self::special::{Fragment, RoleDefaults, Roles, SpecialTokens};
use self::spm::Spm;
use self::ugm::Ugm;
use self::vocabulary::{SEARCHED_TOKEN_BYTES, Vocabulary};
use self::wpm::Wpm;
use crate::TokenId;

pub use self::infill::Infill;
pub use self::vocabulary::TokenKind;

/// Longer texts are refused: offsets are 32 bits, and escaping may grow every byte to three.
pub(crate) const MAX_TEXT_BYTES: usize = 1 << 30;

/// Why a tokenizer cannot be made, or a text not be encoded.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum TokenizerError {
    #[error(transparent)]
    Metadata(#[from] satchel_gguf::Error),
    #[error(
        "tokenizer.ggml.model is {0:?}, which this version does not support; it supports gpt2, llama, gemma4, bert and t5"
    )]
    UnknownKind(String),
    #[error("tokenizer.ggml.pre is {name:?}, a pre-tokeniser that this version does not support; it supports {known}")]
    UnknownPreTokenizer { name: String, known: String },
    #[error("{key} has {found} elements, but there are {tokens} tokens")]
    WrongLength { key: &'static str, tokens: usize, found: usize },
    #[error("tokenizer.ggml.tokens: tokens {first} and {second} are both {text:?}")]
    DuplicateToken { text: String, first: TokenId, second: TokenId },
    #[error("tokenizer.ggml.token_type: token {id} has type {value}; types go from 0 to 6")]
    UnknownTokenType { id: TokenId, value: i32 },
    #[error("tokenizer.ggml.scores: the score of token {id} is NaN")]
    NotAScore { id: TokenId },
    #[error(
        "tokenizer.ggml.tokens: token {id} has {bytes} bytes; this kind of tokenizer supports at most {SEARCHED_TOKEN_BYTES}"
    )]
    LongToken { id: TokenId, bytes: usize },
    #[error("tokenizer.ggml.precompiled_charsmap: its {bytes} bytes are not a table followed by texts")]
    BadCharsmap { bytes: usize },
    #[error("tokenizer.ggml.precompiled_charsmap: the table points to {start}, where there is no text")]
    BadReplacement { start: usize },
    #[error("tokenizer.ggml.merges: merge {rank} is {text:?}, not two texts separated by a space")]
    BadMerge { rank: u32, text: String },
    #[error("{key} is {id}, but there are {tokens} tokens")]
    IdOutOfRange { key: &'static str, id: TokenId, tokens: usize },
    #[error("{key} is true, but there is no {role}")]
    NoSuchRole { key: &'static str, role: &'static str },
    #[error("this model takes token ids only: its tokenizer is of kind {0:?}, which has no text form")]
    NoText(String),
    #[error("the text has {bytes} bytes; at most {MAX_TEXT_BYTES} are supported")]
    TextTooLong { bytes: usize },
    #[error("the vocabulary has no token for {text:?}, none for its bytes, and none for unknown text")]
    NoToken { text: String },
}

/// Part of a text, and whether it may contain control tokens: see [`Tokenizer::encode_pieces`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The text.
    pub text: &'a str,
    /// Whether control tokens are recognised in it: true for text of a chat template, false for text of a user.
    pub special: bool,
}

/// How text becomes tokens.
#[derive(Debug)]
enum Algorithm {
    Bpe(Bpe),
    Spm(Spm),
    Wpm(Wpm),
    Ugm(Ugm),
    /// The model takes token ids only; its vocabulary has no text form.
    None,
}

/// A model's tokenizer. It is read-only: any number of threads may use one.
#[derive(Debug)]
pub struct Tokenizer {
    kind: String,
    algorithm: Algorithm,
    vocabulary: Vocabulary,
    special: SpecialTokens,
    roles: Roles,
    end_tokens: Arc<[TokenId]>,
    infill: Option<Infill>,
    warning: Option<String>,
}

impl Tokenizer {
    /// Reads the tokenizer of a model. Kinds `none`, `no_vocab`, `test`, and a missing one open, but [`Tokenizer::encode`]
    /// then always returns an error.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self, TokenizerError> {
        match metadata.get_str("tokenizer.ggml.model")? {
            Some("gpt2") => Self::bpe(metadata),
            Some("gemma4") => Self::gemma_4(metadata),
            Some("llama") => Self::spm(metadata),
            Some("bert") => Self::wpm(metadata),
            Some("t5") => Self::ugm(metadata),
            None => Self::ids_only(metadata, "none"),
            Some(kind @ ("none" | "no_vocab" | "test")) => Self::ids_only(metadata, kind),
            Some(kind) => Err(TokenizerError::UnknownKind(kind.to_owned())),
        }
    }

    fn bpe(metadata: &Metadata) -> Result<Self, TokenizerError> {
        // As in llama.cpp: old files without a name get `default`, with a warning.
        let name = metadata.get_str("tokenizer.ggml.pre")?;
        let words = PreTokenizer::by_name(name.unwrap_or("default")).ok_or_else(|| {
            let known = PreTokenizer::known_names();
            TokenizerError::UnknownPreTokenizer { name: name.unwrap_or_default().to_owned(), known }
        })?;
        let warning = name.is_none().then(|| {
            "the model does not name its pre-tokeniser (tokenizer.ggml.pre), so `default` is used; answers may be worse \
             than they should be: convert the model again"
                .to_owned()
        });
        Self::bpe_with(metadata, "gpt2", words, warning)
    }

    /// Gemma 4's files do not name a pre-tokeniser.
    fn gemma_4(metadata: &Metadata) -> Result<Self, TokenizerError> {
        let words = PreTokenizer::by_name("gemma4").expect("in the table");
        Self::bpe_with(metadata, "gemma4", words, None)
    }

    fn bpe_with(
        metadata: &Metadata,
        kind: &str,
        words: &'static PreTokenizer,
        warning: Option<String>,
    ) -> Result<Self, TokenizerError> {
        let defaults = RoleDefaults { add_bos: words.add_bos, ..RoleDefaults::default() };
        let vocabulary = Vocabulary::from_gguf(metadata)?;
        let mut roles = Roles::from_gguf(metadata, &vocabulary, defaults)?;
        // Some files of Gemma 4 wrongly say false; without the token the model produces nonsense.
        roles.add_bos |= words.whole_line_ends && roles.bos.is_some();
        let algorithm = Algorithm::Bpe(Bpe::from_gguf(metadata, &vocabulary, words)?);
        Self::assemble(metadata, kind, vocabulary, roles, algorithm, warning)
    }

    fn spm(metadata: &Metadata) -> Result<Self, TokenizerError> {
        let defaults =
            RoleDefaults { bos: Some(1), eos: Some(2), unknown: Some(0), add_bos: true, ..RoleDefaults::default() };
        let vocabulary = Vocabulary::from_gguf(metadata)?;
        let roles = Roles::from_gguf(metadata, &vocabulary, defaults)?;
        let add_space_prefix = metadata.get_bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
        let algorithm = Algorithm::Spm(Spm::new(&vocabulary, add_space_prefix, roles.unknown));
        Self::assemble(metadata, "llama", vocabulary, roles, algorithm, None)
    }

    fn wpm(metadata: &Metadata) -> Result<Self, TokenizerError> {
        let vocabulary = Vocabulary::from_gguf(metadata)?;
        let class = special::id_of_key(metadata, "tokenizer.ggml.cls_token_id", &vocabulary)?;
        let defaults = RoleDefaults {
            bos: class.or(Some(101)),
            unknown: Some(100),
            separator: Some(102),
            add_bos: true,
            ..RoleDefaults::default()
        };
        let roles = Roles::from_gguf(metadata, &vocabulary, defaults)?;
        let algorithm = Algorithm::Wpm(Wpm::from_gguf(metadata, &vocabulary, roles.unknown)?);
        Self::assemble(metadata, "bert", vocabulary, roles, algorithm, None)
    }

    fn ugm(metadata: &Metadata) -> Result<Self, TokenizerError> {
        let vocabulary = Vocabulary::from_gguf(metadata)?;
        let defaults = RoleDefaults { eos: Some(1), unknown: Some(2), add_eos: true, ..RoleDefaults::default() };
        let roles = Roles::from_gguf(metadata, &vocabulary, defaults)?;
        let algorithm = Algorithm::Ugm(Ugm::from_gguf(metadata, &vocabulary, roles.unknown)?);
        Self::assemble(metadata, "t5", vocabulary, roles, algorithm, None)
    }

    /// The vocabulary is only kept for its size; the meaning of its texts is unknown.
    fn ids_only(metadata: &Metadata, kind: &str) -> Result<Self, TokenizerError> {
        let vocabulary = match metadata.contains("tokenizer.ggml.tokens") {
            true => Vocabulary::from_gguf(metadata)?,
            false => Vocabulary::empty(),
        };
        let roles = Roles::default();
        Self::assemble(metadata, kind, vocabulary, roles, Algorithm::None, None)
    }

    fn assemble(
        metadata: &Metadata,
        kind: &str,
        mut vocabulary: Vocabulary,
        roles: Roles,
        algorithm: Algorithm,
        warning: Option<String>,
    ) -> Result<Self, TokenizerError> {
        let end_tokens = match algorithm {
            Algorithm::None => Vec::new(),
            _ => end_tokens::find(metadata, &mut vocabulary, roles.eos)?,
        };
        let special = SpecialTokens::new(metadata, &vocabulary)?;
        let infill = infill::find(metadata, &vocabulary)?;
        let end_tokens = end_tokens.into();
        Ok(Self { kind: kind.to_owned(), algorithm, vocabulary, special, roles, end_tokens, infill, warning })
    }

    /// The tokens of `text`. `add_special`: add the tokens that begin and end a sequence, if the model wants them.
    /// `parse_special`: recognise control tokens in the text, such as `<|im_start|>`; otherwise they are encoded as plain text.
    pub fn encode(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<TokenId>, TokenizerError> {
        let all = 0..text.len();
        self.encode_trusting(text, if parse_special { std::slice::from_ref(&all) } else { &[] }, add_special)
    }

    /// The tokens of one text in pieces. Control tokens are recognised only within [`Piece::special`] pieces: one that lies in
    /// or overlaps text of a user is encoded as plain text. Otherwise the result is that of the whole text; boundaries between
    /// pieces do not affect it.
    pub fn encode_pieces(&self, pieces: &[Piece<'_>], add_special: bool) -> Result<Vec<TokenId>, TokenizerError> {
        let (mut text, mut trusted) = (String::new(), Vec::<Range<usize>>::new());
        for piece in pieces {
            let start = text.len();
            text.push_str(piece.text);
            if !piece.special || piece.text.is_empty() {
                continue;
            }
            match trusted.last_mut() {
                Some(last) if last.end == start => last.end = text.len(),
                _ => trusted.push(start..text.len()),
            }
        }
        self.encode_trusting(&text, &trusted, add_special)
    }

    fn encode_trusting(
        &self,
        text: &str,
        trusted: &[Range<usize>],
        add_special: bool,
    ) -> Result<Vec<TokenId>, TokenizerError> {
        self.require_text()?;
        if text.len() > MAX_TEXT_BYTES {
            return Err(TokenizerError::TextTooLong { bytes: text.len() });
        }
        let mut tokens = Vec::with_capacity(text.len() / 4 + 2);
        tokens.extend(self.roles.bos.filter(|_| add_special && self.roles.add_bos));
        // SPM adds a space before text at the start and after a special token.
        let mut begins = true;
        for fragment in self.special.split(text, trusted) {
            match fragment {
                Fragment::Token(id) => tokens.push(id),
                Fragment::Text(text) => self.encode_text(text, begins, &mut tokens)?,
            }
            begins = matches!(fragment, Fragment::Token(_));
        }
        tokens.extend(self.last_token().filter(|_| add_special));
        Ok(tokens)
    }

    /// The token that [`Tokenizer::encode`] appends with `add_special`.
    fn last_token(&self) -> Option<TokenId> {
        match self.algorithm {
            Algorithm::Wpm(_) => self.roles.separator,
            _ => self.roles.eos.filter(|_| self.roles.add_eos),
        }
    }

    fn encode_text(&self, text: &str, begins: bool, tokens: &mut Vec<TokenId>) -> Result<(), TokenizerError> {
        match &self.algorithm {
            Algorithm::Bpe(bpe) => bpe.encode(&self.vocabulary, text, tokens),
            Algorithm::Spm(spm) => spm.encode(&self.vocabulary, text, begins, tokens)?,
            Algorithm::Wpm(wpm) => wpm.encode(text, tokens)?,
            Algorithm::Ugm(ugm) => ugm.encode(&self.vocabulary, text, tokens)?,
            Algorithm::None => {}
        }
        Ok(())
    }

    /// An error if the vocabulary has no text form, so that text cannot be encoded.
    pub fn require_text(&self) -> Result<(), TokenizerError> {
        match self.algorithm {
            Algorithm::None => Err(TokenizerError::NoText(self.kind.clone())),
            _ => Ok(()),
        }
    }

    /// The bytes that a token decodes to, possibly part of a character. Empty for control, unknown and unused tokens and ids
    /// out of range; with `render_special`, control and unknown tokens give their texts.
    pub fn token_bytes(&self, id: TokenId, render_special: bool) -> Cow<'_, [u8]> {
        let text = self.vocabulary.text(id);
        match (self.vocabulary.kind(id), &self.algorithm) {
            (TokenKind::Control | TokenKind::Unknown, _) if !render_special => Cow::Borrowed(&[]),
            (TokenKind::Unused, _) => Cow::Borrowed(&[]),
            (TokenKind::Control | TokenKind::Unknown | TokenKind::UserDefined, _) | (_, Algorithm::None) => {
                Cow::Borrowed(text.as_bytes())
            }
            (_, Algorithm::Bpe(bpe)) if bpe.words.byte_level => byte_alphabet::decode(text).into(),
            (kind, Algorithm::Bpe(_) | Algorithm::Spm(_) | Algorithm::Wpm(_) | Algorithm::Ugm(_)) => {
                spm::decode(text, kind).into()
            }
        }
    }

    /// The text of tokens. Invalid UTF-8 becomes U+FFFD.
    pub fn decode(&self, tokens: &[TokenId], render_special: bool) -> String {
        String::from_utf8_lossy(&self.decode_bytes(tokens, render_special)).into_owned()
    }

    /// The bytes of tokens. Removes the leading space that SPM and others add, if the first token has it.
    pub fn decode_bytes(&self, tokens: &[TokenId], render_special: bool) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(tokens.len() * 4);
        for (at, &id) in tokens.iter().enumerate() {
            let token = self.token_bytes(id, render_special);
            let has_prefix = at == 0 && self.adds_space_prefix() && token.first() == Some(&b' ');
            bytes.extend_from_slice(&token[usize::from(has_prefix)..]);
        }
        bytes
    }

    fn adds_space_prefix(&self) -> bool {
        match &self.algorithm {
            Algorithm::Spm(spm) => spm.add_space_prefix,
            Algorithm::Ugm(ugm) => ugm.add_space_prefix,
            Algorithm::Wpm(_) => true,
            Algorithm::Bpe(_) | Algorithm::None => false,
        }
    }

    /// Number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.vocabulary.len()
    }

    /// The token that begins a sequence.
    pub fn bos(&self) -> Option<TokenId> {
        self.roles.bos
    }

    /// The token that ends a sequence. Chat models may end a turn with others: [`Tokenizer::end_tokens`].
    pub fn eos(&self) -> Option<TokenId> {
        self.roles.eos
    }

    /// The token that separates two texts, such as a query and a document.
    pub fn separator(&self) -> Option<TokenId> {
        self.roles.separator
    }

    /// Whether [`Tokenizer::encode`] prepends [`Tokenizer::bos`] with `add_special`. If a chat template writes it, too, there
    /// would be two.
    pub fn adds_bos(&self) -> bool {
        self.roles.add_bos
    }

    /// Every token that ends a generation, in ascending order.
    pub fn end_tokens(&self) -> Arc<[TokenId]> {
        self.end_tokens.clone()
    }

    /// How this model fills a gap in a text; `None` if it was not trained for it.
    pub fn infill(&self) -> Option<Infill> {
        self.infill
    }

    /// Whether a token is a control token, which is not text.
    pub fn is_control(&self, id: TokenId) -> bool {
        self.vocabulary.kind(id) == TokenKind::Control
    }

    /// The kind of a token; `Unused` for an id out of range.
    pub fn token_kind(&self, id: TokenId) -> TokenKind {
        self.vocabulary.kind(id)
    }

    /// A token's text as in the vocabulary; empty for an id out of range.
    pub fn token_text(&self, id: TokenId) -> &str {
        self.vocabulary.text(id)
    }

    /// `tokenizer.ggml.model`, or `none`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// A one-line warning for the user about this tokenizer, if any.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }
}
