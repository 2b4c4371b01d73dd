//! The tokens by which a model fills a gap in a text (fill in the middle), and the order in which it reads the two sides.

use satchel_gguf::Metadata;

use super::TokenizerError;
use super::special::id_of_key;
use super::vocabulary::Vocabulary;
use crate::TokenId;

/// What stands before, between and behind the two sides of a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Infill {
    prefix: TokenId,
    suffix: TokenId,
    /// `None`: the side that is read last is continued at once.
    middle: Option<TokenId>,
    files: Option<Files>,
}

/// What stands before a repository's name and before each of its files, where a model was trained on whole repositories (Hui et
/// al., "Qwen2.5-Coder Technical Report", 2024).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Files {
    /// Before the repository's name.
    pub repository: TokenId,
    /// Before a file's name.
    pub file: TokenId,
}

/// Keys and texts of the tokens of [`Files`].
const FILE_KEYS: [&str; 2] = ["tokenizer.ggml.fim_rep_token_id", "tokenizer.ggml.fim_sep_token_id"];
const FILE_TEXTS: [&str; 2] = ["<|repo_name|>", "<|file_sep|>"];

/// Keys of the three tokens, newer and older.
const KEYS: [[&str; 3]; 2] = [
    ["tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.fim_suf_token_id", "tokenizer.ggml.fim_mid_token_id"],
    ["tokenizer.ggml.prefix_token_id", "tokenizer.ggml.suffix_token_id", "tokenizer.ggml.middle_token_id"],
];

/// Texts of the three tokens, where a file has no keys.
const TEXTS: [[&str; 3]; 8] = [
    ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"], // Qwen, Gemma, Granite
    ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"],       // StarCoder
    ["<fim-prefix>", "<fim-suffix>", "<fim-middle>"],
    ["<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"], // DeepSeek
    ["<PRE>", "<SUF>", "<MID>"],
    ["▁<PRE>", "▁<SUF>", "▁<MID>"],                            // CodeLlama
    ["<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"], // GLM
    ["[PREFIX]", "[SUFFIX]", ""],                              // Codestral reads the suffix first
];

/// The tokens of a vocabulary; `None` if its model was not trained for it.
pub(super) fn find(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Option<Infill>, TokenizerError> {
    let files = find_files(metadata, vocabulary)?;
    for [prefix, suffix, middle] in KEYS {
        let id = |key| id_of_key(metadata, key, vocabulary);
        if let (Some(prefix), Some(suffix), middle) = (id(prefix)?, id(suffix)?, id(middle)?) {
            return Ok(Some(Infill { prefix, suffix, middle, files }));
        }
    }
    Ok(TEXTS.iter().find_map(|[prefix, suffix, middle]| {
        let (prefix, suffix) = (vocabulary.id(prefix)?, vocabulary.id(suffix)?);
        let middle = if middle.is_empty() { None } else { Some(vocabulary.id(middle)?) };
        Some(Infill { prefix, suffix, middle, files })
    }))
}

fn find_files(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Option<Files>, TokenizerError> {
    let [repository, file] = FILE_KEYS.map(|key| id_of_key(metadata, key, vocabulary));
    let pair = repository?.zip(file?).or_else(|| vocabulary.id(FILE_TEXTS[0]).zip(vocabulary.id(FILE_TEXTS[1])));
    Ok(pair.map(|(repository, file)| Files { repository, file }))
}

impl Infill {
    /// The tokens by which files are told apart; `None`: they are plain text.
    pub fn files(&self) -> Option<Files> {
        self.files
    }

    /// The prompt for what lies between two texts, given as tokens.
    pub fn prompt(&self, before: &[TokenId], after: &[TokenId]) -> Vec<TokenId> {
        let ((first, one), (second, other)) = match self.middle {
            Some(_) => ((self.prefix, before), (self.suffix, after)),
            None => ((self.suffix, after), (self.prefix, before)),
        };
        [&[first], one, &[second], other].concat().into_iter().chain(self.middle).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::Tokenizer;

    #[test]
    fn the_gap_comes_last() {
        let bytes = crate::tokenizer::tests::vocabulary("starcoder");
        let gguf = satchel_gguf::Gguf::parse(&bytes).expect("a sound GGUF");
        let tokenizer = Tokenizer::from_gguf(&gguf.metadata).expect("a tokenizer");
        let infill = tokenizer.infill().expect("a model that fills gaps");
        let id = |text: &str| tokenizer.encode(text, false, true).expect("ids")[0];
        let (prefix, suffix, middle) = (id("<fim_prefix>"), id("<fim_suffix>"), id("<fim_middle>"));
        assert_eq!(infill.prompt(&[7, 8], &[9]), [prefix, 7, 8, suffix, 9, middle]);
        assert_eq!(infill.files(), None, "its file tokens are others");
        let suffix_first = Infill { middle: None, ..infill };
        assert_eq!(suffix_first.prompt(&[7, 8], &[9]), [suffix, 9, prefix, 7, 8]);
        let bytes = crate::tokenizer::tests::vocabulary("gpt-2");
        let gguf = satchel_gguf::Gguf::parse(&bytes).expect("a sound GGUF");
        assert_eq!(Tokenizer::from_gguf(&gguf.metadata).expect("a tokenizer").infill(), None);
    }
}
