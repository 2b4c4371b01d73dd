//! Byte-pair encoding (`tokenizer.ggml.model` = `gpt2` or `gemma4`).
//!
//! The pre-tokeniser cuts text into words, each word is written in the byte alphabet, and its letters merge by their rank in
//! `tokenizer.ggml.merges`, the lowest first. Merges are looked up by their texts as stored in the file, so that opening a
//! model only has to index them.
//!
//! Gemma 4 and a few others do not use the alphabet: words are UTF-8 with `▁` for a space, as in SentencePiece, and text
//! without a token is written as byte tokens, `<0xE2>`. There a word is a whole line, cut further where no merge would cross
//! the cut.

use std::convert::Infallible;
use std::hash::{BuildHasher, Hash, Hasher};

use hashbrown::{DefaultHashBuilder, HashTable};
use satchel_gguf::{Metadata, StringArray};

use super::TokenizerError;
use super::byte_alphabet;
use super::merge::Merger;
use super::pretokenize::PreTokenizer;
use super::spm::{self, ByteTokens};
use super::vocabulary::Vocabulary;
use super::word_cache::WordCache;
use crate::TokenId;

const MERGES: &str = "tokenizer.ggml.merges";

/// The rules of a BPE tokenizer.
#[derive(Debug)]
pub(super) struct Bpe {
    pub(super) words: &'static PreTokenizer,
    merges: Merges,
    /// Without the byte alphabet: the tokens of single bytes.
    bytes: Option<ByteTokens>,
    /// Without the byte alphabet: no merge crosses the start of a word.
    has_words: bool,
}

impl Bpe {
    /// Reads the merges; one that is not two texts separated by a space is an error.
    pub(super) fn from_gguf(
        metadata: &Metadata,
        vocabulary: &Vocabulary,
        words: &'static PreTokenizer,
    ) -> Result<Self, TokenizerError> {
        let merges = Merges::new(metadata.require_str_array(MERGES)?.clone())?;
        let has_words = !words.byte_level && merges.stay_in_words();
        let bytes = (!words.byte_level).then(|| ByteTokens::new(vocabulary));
        Ok(Self { words, merges, bytes, has_words })
    }

    /// Appends the tokens of `text`, without recognising special tokens.
    pub(super) fn encode(&self, vocabulary: &Vocabulary, text: &str, tokens: &mut Vec<TokenId>) {
        let (mut merger, mut seen, mut letters) = (Merger::default(), WordCache::default(), String::new());
        let mut encode = |word| {
            let Ok(()) = seen.append(word, tokens, |tokens| {
                letters.clear();
                match self.bytes {
                    None => letters.extend(word.bytes().map(byte_alphabet::letter)),
                    Some(_) => letters.extend(word.chars().map(spm::escape)),
                }
                self.encode_word(vocabulary, &letters, &mut merger, tokens);
                Ok::<_, Infallible>(())
            });
        };
        self.words.for_each_word(text, &mut |word| match self.has_words {
            true => spm::words(word).for_each(&mut encode),
            false => encode(word),
        });
    }

    fn encode_word(&self, vocabulary: &Vocabulary, letters: &str, merger: &mut Merger, tokens: &mut Vec<TokenId>) {
        if (self.words.ignore_merges || (self.words.whole_line_ends && letters.bytes().all(|b| b == b'\n')))
            && let Some(id) = vocabulary.id(letters)
        {
            return tokens.push(id);
        }
        let ends = letters.char_indices().map(|(at, c)| (at + c.len_utf8()) as u32);
        let text = |start: u32, end: u32| &letters[start as usize..end as usize];
        let bounds = merger.merge(ends, |start, middle, end| self.merges.rank(text(start, middle), text(middle, end)));
        for pair in bounds.windows(2) {
            let symbol = text(pair[0], pair[1]);
            match (vocabulary.id(symbol), &self.bytes) {
                (Some(id), _) => tokens.push(id),
                // The result of a merge is not a token: use its letters. Letters missing in the vocabulary are dropped, as
                // in the reference implementations.
                (None, None) => tokens.extend(symbol.chars().filter_map(|c| vocabulary.id(c.encode_utf8(&mut [0; 4])))),
                (None, Some(bytes)) => tokens.extend(symbol.bytes().filter_map(|byte| bytes.id(byte))),
            }
        }
    }
}

/// Ranks of pairs: their indices in the list of merges.
#[derive(Debug)]
struct Merges {
    /// "left right"
    pairs: StringArray,
    ranks: HashTable<u32>,
    hasher: DefaultHashBuilder,
    longest_bytes: usize,
}

impl Merges {
    fn new(pairs: StringArray) -> Result<Self, TokenizerError> {
        let mut ranks = HashTable::with_capacity(pairs.len());
        let hasher = DefaultHashBuilder::default();
        let mut longest_bytes = 0;
        for (rank, pair) in (0..).zip(pairs.iter()) {
            let Some((left, right)) = halves(pair) else {
                return Err(TokenizerError::BadMerge { rank, text: pair.to_owned() });
            };
            longest_bytes = longest_bytes.max(left.len() + right.len());
            let same = |&other: &u32| pairs.get(other as usize) == Some(pair);
            let hash_again =
                |&other: &u32| pairs.get(other as usize).and_then(halves).map_or(0, |(l, r)| hash(&hasher, l, r));
            // The first of duplicate merges counts.
            ranks.entry(hash(&hasher, left, right), same, hash_again).or_insert(rank);
        }
        Ok(Self { pairs, ranks, hasher, longest_bytes })
    }

    /// Whether no merge crosses the start of a word.
    fn stay_in_words(&self) -> bool {
        let mut both = String::new();
        self.pairs.iter().filter_map(halves).all(|(left, right)| {
            both.clear();
            both.extend([left, right]);
            spm::first_word_bytes(&both) == both.len()
        })
    }

    fn rank(&self, left: &str, right: &str) -> Option<u32> {
        let bytes = left.len() + right.len();
        if bytes > self.longest_bytes {
            return None;
        }
        let same = |&rank: &u32| {
            let pair = self.pairs.get(rank as usize).unwrap_or_default().as_bytes();
            pair.len() == bytes + 1
                && pair.starts_with(left.as_bytes())
                && pair.ends_with(right.as_bytes())
                && pair[left.len()] == b' '
        };
        self.ranks.find(hash(&self.hasher, left, right), same).copied()
    }
}

/// The two texts of a merge. The first may itself begin with a space.
fn halves(pair: &str) -> Option<(&str, &str)> {
    let first = pair.chars().next()?.len_utf8();
    let (left, right) = pair.split_at(first + pair[first..].find(' ')?);
    (right.len() > 1).then_some((left, &right[1..]))
}

fn hash(hasher: &DefaultHashBuilder, left: &str, right: &str) -> u64 {
    let mut state = hasher.build_hasher();
    left.hash(&mut state);
    right.hash(&mut state);
    state.finish()
}
