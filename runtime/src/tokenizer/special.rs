//! Special tokens: found in the text before anything else is cut, and the rules for the ids that begin and end a
//! sequence.
//!
//! Control and unknown tokens are found only where the caller says so (what a chat template itself wrote), user-defined
//! ones always. Of several that match at one place the longest counts, as in Hugging Face's tokenizers.

use std::ops::Range;

use satchel_gguf::Metadata;

use super::TokenizerError;
use super::trie::Trie;
use super::vocabulary::{TokenKind, Vocabulary, check_token_bytes};
use crate::TokenId;

/// A stretch of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fragment<'a> {
    /// Text to be cut into tokens.
    Text(&'a str),
    /// A special token.
    Token(TokenId),
}

/// A special token's attributes.
#[derive(Clone, Copy, Debug)]
struct Special {
    id: TokenId,
    /// Takes the white space before it.
    left_strip: bool,
    /// Takes the white space behind it.
    right_strip: bool,
}

/// Finds special tokens.
#[derive(Debug)]
pub(super) struct SpecialTokens {
    all: Finder,
    user_defined: Finder,
}

#[derive(Debug)]
struct Finder {
    trie: Trie,
    /// Whether a token begins with this byte: few do, so most of a text is passed at one look a byte.
    begins: Box<[bool; 256]>,
    /// In ascending order of their ids.
    tokens: Vec<Special>,
}

impl SpecialTokens {
    /// The special tokens of a vocabulary.
    pub(super) fn new(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Self, TokenizerError> {
        let strips = Strips::from_gguf(metadata)?;
        let finder = |kinds: &[TokenKind]| {
            let ids = vocabulary.kinds().filter(|(_, kind)| kinds.contains(kind)).map(|(id, _)| id);
            let named = ids.filter(|&id| !vocabulary.text(id).is_empty());
            Finder::new(vocabulary, named.map(|id| strips.of(vocabulary, id)).collect())
        };
        Ok(Self {
            all: finder(&[TokenKind::Control, TokenKind::Unknown, TokenKind::UserDefined])?,
            user_defined: finder(&[TokenKind::UserDefined])?,
        })
    }

    /// Cuts `text` at its special tokens. Control and unknown tokens count only inside `trusted`: ranges of the text in
    /// ascending order that do not touch.
    pub(super) fn split<'a>(&self, text: &'a str, trusted: &[Range<usize>]) -> Vec<Fragment<'a>> {
        let (mut fragments, mut at) = (Vec::new(), 0);
        // Where all of the text is trusted, the finder of all tokens finds the user-defined ones as well.
        let everywhere = matches!(trusted, [all] if *all == (0..text.len()));
        let mut anywhere =
            if everywhere { Search::default() } else { Search::over(&self.user_defined, text, 0..text.len()) };
        let mut inside = trusted.iter().map(|range| Search::over(&self.all, text, range.clone())).peekable();
        loop {
            while inside.peek_mut().is_some_and(|search| search.next_from(at).is_none()) {
                inside.next();
            }
            let trusted = inside.peek_mut().and_then(|search| search.next_from(at));
            let found = [trusted, anywhere.next_from(at)].into_iter().flatten();
            let Some(found) = found.min_by_key(|found| (found.start, std::cmp::Reverse(found.end))) else { break };
            let mut before = &text[at..found.start];
            if found.token.left_strip {
                before = before.trim_end_matches(is_stripped);
            }
            fragments.extend((!before.is_empty()).then_some(Fragment::Text(before)));
            fragments.push(Fragment::Token(found.token.id));
            at = found.end;
            if found.token.right_strip {
                at = text.len() - text[at..].trim_start_matches(is_stripped).len();
            }
        }
        fragments.extend((at < text.len()).then(|| Fragment::Text(&text[at..])));
        fragments
    }
}

/// A special token in the text.
#[derive(Clone, Copy)]
struct Found {
    start: usize,
    end: usize,
    token: Special,
}

/// A search through a stretch of the text that remembers what it found until the cut has passed it, so that two searches side
/// by side read everything once.
#[derive(Default)]
struct Search<'a> {
    /// Nothing more to be found without it.
    finder: Option<&'a Finder>,
    text: &'a str,
    range: Range<usize>,
    found: Option<Found>,
}

impl<'a> Search<'a> {
    fn over(finder: &'a Finder, text: &'a str, range: Range<usize>) -> Self {
        Self { finder: Some(finder), text, range, found: None }
    }

    /// The first token that begins at `at` or behind.
    fn next_from(&mut self, at: usize) -> Option<Found> {
        if self.found.is_none_or(|found| found.start < at) {
            self.range.start = self.range.start.max(at);
            self.found = self.finder.and_then(|finder| finder.find(self.text, self.range.clone()));
            self.finder = self.finder.filter(|_| self.found.is_some());
        }
        self.found
    }
}

impl Finder {
    fn new(vocabulary: &Vocabulary, tokens: Vec<Special>) -> Result<Self, TokenizerError> {
        let ids = || tokens.iter().map(|token| token.id);
        check_token_bytes(vocabulary, ids())?;
        let mut begins = Box::new([false; 256]);
        for byte in ids().filter_map(|id| vocabulary.text(id).bytes().next()) {
            begins[usize::from(byte)] = true;
        }
        Ok(Self { trie: Trie::new(vocabulary, ids()), begins, tokens })
    }

    /// The first token wholly inside a range, the longest of those that begin there.
    fn find(&self, text: &str, range: Range<usize>) -> Option<Found> {
        let text = text.as_bytes().get(..range.end)?;
        let mut start = range.start;
        loop {
            start += text.get(start..)?.iter().position(|&byte| self.begins[usize::from(byte)])?;
            if let Some((bytes, id)) = self.trie.prefixes(&text[start..]).last() {
                let token = self.tokens.binary_search_by_key(&id, |token| token.id).ok()?;
                return Some(Found { start, end: start + bytes, token: self.tokens[token] });
            }
            start += 1;
        }
    }
}

/// White space that a stripping token takes: C's `isspace`.
fn is_stripped(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

/// Which tokens strip. GGUF has no field for it; llama.cpp knows these models by name, and so must we.
struct Strips {
    phi_3: bool,
    /// The token that takes the white space before it.
    mask: Option<&'static str>,
}

impl Strips {
    fn from_gguf(metadata: &Metadata) -> Result<Self, TokenizerError> {
        let get = |key| Ok::<_, TokenizerError>(metadata.get_str(key)?.unwrap_or_default());
        let (pre, architecture) = (get("tokenizer.ggml.pre")?, get("general.architecture")?);
        let name = get("general.name")?.to_lowercase();
        let phi_3 = name.contains("phi-3") || name.contains("phi3");
        let mask = match () {
            () if ["jina-v2-de", "jina-v2-es", "jina-v2-code"].contains(&pre) => Some("<mask>"),
            () if ["nomic-bert-moe", "jina-bert-v3"].contains(&architecture) => Some("<mask>"),
            () if name.contains("modern-bert") => Some("[MASK]"),
            () => None,
        };
        Ok(Self { phi_3, mask })
    }

    fn of(&self, vocabulary: &Vocabulary, id: TokenId) -> Special {
        let text = vocabulary.text(id);
        let never = ["<unk>", "<s>", "<|endoftext|>"];
        Special { id, left_strip: self.mask == Some(text), right_strip: self.phi_3 && !never.contains(&text) }
    }
}

/// The ids that the metadata give a role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Roles {
    pub(super) bos: Option<TokenId>,
    pub(super) eos: Option<TokenId>,
    pub(super) unknown: Option<TokenId>,
    /// Between two texts, and behind the last (BERT).
    pub(super) separator: Option<TokenId>,
    /// The beginning-of-sequence token goes first.
    pub(super) add_bos: bool,
    /// The end-of-sequence token goes last.
    pub(super) add_eos: bool,
}

/// What holds where the metadata do not say.
#[derive(Default)]
pub(super) struct RoleDefaults {
    pub(super) bos: Option<TokenId>,
    pub(super) eos: Option<TokenId>,
    pub(super) unknown: Option<TokenId>,
    pub(super) separator: Option<TokenId>,
    pub(super) add_bos: bool,
    pub(super) add_eos: bool,
}

impl Roles {
    /// Reads the roles; an id outside the vocabulary is an error.
    pub(super) fn from_gguf(
        metadata: &Metadata,
        vocabulary: &Vocabulary,
        defaults: RoleDefaults,
    ) -> Result<Self, TokenizerError> {
        let inside = |id: &TokenId| (*id as usize) < vocabulary.len();
        let id = |key, default: Option<TokenId>| {
            let given = id_of_key(metadata, key, vocabulary)?;
            Ok::<_, TokenizerError>(given.or(default.filter(inside)))
        };
        let bos = id("tokenizer.ggml.bos_token_id", defaults.bos)?;
        let eos = id("tokenizer.ggml.eos_token_id", defaults.eos)?;
        let unknown = id("tokenizer.ggml.unknown_token_id", defaults.unknown)?;
        // The first is how files spell it.
        let separator = id_of_key(metadata, "tokenizer.ggml.seperator_token_id", vocabulary)?;
        let separator =
            separator.map_or_else(|| id("tokenizer.ggml.separator_token_id", defaults.separator), |id| Ok(Some(id)))?;
        let add = |key, role, token: Option<TokenId>, default| match metadata.get_bool(key)? {
            Some(true) if token.is_none() => Err(TokenizerError::NoSuchRole { key, role }),
            Some(add) => Ok(add),
            None => Ok(default && token.is_some()),
        };
        Ok(Self {
            bos,
            eos,
            unknown,
            separator,
            add_bos: add("tokenizer.ggml.add_bos_token", "tokenizer.ggml.bos_token_id", bos, defaults.add_bos)?,
            add_eos: add("tokenizer.ggml.add_eos_token", "tokenizer.ggml.eos_token_id", eos, defaults.add_eos)?,
        })
    }
}

/// The token id that `key` gives; one outside the vocabulary is an error.
pub(super) fn id_of_key(
    metadata: &Metadata,
    key: &'static str,
    vocabulary: &Vocabulary,
) -> Result<Option<TokenId>, TokenizerError> {
    match metadata.get_u32(key)? {
        Some(id) if id as usize >= vocabulary.len() => {
            Err(TokenizerError::IdOutOfRange { key, id, tokens: vocabulary.len() })
        }
        id => Ok(id),
    }
}
