//! Special tokens, which are recognised before any other processing of the text, and the ids that begin and end a sequence.
//!
//! Control and unknown tokens are recognised only in ranges that the caller trusts (text of a chat template), user-defined
//! ones everywhere. Of several that match at one position the longest wins, as in Hugging Face's tokenizers.

use std::ops::Range;

use satchel_gguf::Metadata;

use super::TokenizerError;
use super::trie::Trie;
use super::vocabulary::{TokenKind, Vocabulary, check_token_bytes};
use crate::TokenId;

/// A part of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fragment<'a> {
    /// Text to be tokenized.
    Text(&'a str),
    /// A special token.
    Token(TokenId),
}

/// A special token's attributes.
#[derive(Clone, Copy, Debug)]
struct Special {
    id: TokenId,
    /// Removes white space before it.
    left_strip: bool,
    /// Removes white space after it.
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
    /// First bytes of the tokens: there are few, so that most of a text is skipped with one lookup per byte.
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

    /// Cuts `text` at its special tokens. Control and unknown tokens count only inside `trusted`: ranges in ascending order
    /// that are not adjacent.
    pub(super) fn split<'a>(&self, text: &'a str, trusted: &[Range<usize>]) -> Vec<Fragment<'a>> {
        let (mut fragments, mut at) = (Vec::new(), 0);
        // If all of the text is trusted, the finder of all tokens covers user-defined ones, too.
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

/// A search through part of the text. It keeps a match until the cut has passed it, so that two interleaved searches each read
/// the text once.
#[derive(Default)]
struct Search<'a> {
    /// `None` once nothing is left to find.
    finder: Option<&'a Finder>,
    text: &'a str,
    range: Range<usize>,
    found: Option<Found>,
}

impl<'a> Search<'a> {
    fn over(finder: &'a Finder, text: &'a str, range: Range<usize>) -> Self {
        Self { finder: Some(finder), text, range, found: None }
    }

    /// The first token that begins at or after `at`.
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

    /// The first token that lies entirely inside a range; the longest, if several begin there.
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

/// White space that a stripping token removes: C's `isspace`.
fn is_stripped(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

/// Which tokens strip white space. GGUF has no field for it; as in llama.cpp, the models are recognised by name.
struct Strips {
    phi_3: bool,
    /// The token that removes white space before it.
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

/// Ids with a role, from the metadata.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Roles {
    pub(super) bos: Option<TokenId>,
    pub(super) eos: Option<TokenId>,
    pub(super) unknown: Option<TokenId>,
    /// Between two texts, and after the last (BERT).
    pub(super) separator: Option<TokenId>,
    /// Prepend the beginning-of-sequence token.
    pub(super) add_bos: bool,
    /// Append the end-of-sequence token.
    pub(super) add_eos: bool,
}

/// Roles if the metadata do not set them.
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
        // Files spell it as in the first key.
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
