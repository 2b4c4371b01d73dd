//! Pre-tokenisers: how text is cut into words before byte-pair merges, none of which crosses a cut.
//!
//! A GGUF names its pre-tokeniser in `tokenizer.ggml.pre`. A name stands for a chain of patterns, each applied to the pieces of
//! the one before (`names`). An unknown name is an error: a wrong guess would silently give different tokens and make the model
//! worse. Names and patterns are those of llama.cpp (llama-vocab.cpp); where its regex engine cannot run a model's pattern and
//! approximates it, the model's own is used.

mod cased;
pub(super) mod classes;
mod digits;
mod lines;
mod marks;
mod names;
mod rules;
mod scripts;
#[cfg(test)]
mod tests;

use rules::Rule;

/// What a name in `tokenizer.ggml.pre` stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PreTokenizer {
    names: &'static [&'static str],
    rules: &'static [Rule],
    /// A word that is a token is used as it is, without merges.
    pub(super) ignore_merges: bool,
    /// The same for a word that consists of line ends only.
    pub(super) whole_line_ends: bool,
    /// Whether to prepend a beginning-of-sequence token if the metadata do not say.
    pub(super) add_bos: bool,
    /// Whether words are written in the byte alphabet; otherwise they are UTF-8 with `▁` for a space, as in SentencePiece.
    pub(super) byte_level: bool,
}

impl PreTokenizer {
    /// The pre-tokeniser of this name.
    pub(super) fn by_name(name: &str) -> Option<&'static Self> {
        names::KNOWN.iter().find(|known| known.names.contains(&name))
    }

    /// All names, for messages.
    pub(super) fn known_names() -> String {
        let names: Vec<_> = names::KNOWN.iter().flat_map(|known| known.names).copied().collect();
        names.join(", ")
    }

    /// Calls `word` with the words of `text` in order; concatenated they give the text.
    pub(super) fn for_each_word<'a>(&self, text: &'a str, word: &mut dyn FnMut(&'a str)) {
        split(self.rules, text, word);
    }
}

fn split<'a>(rules: &[Rule], text: &'a str, word: &mut dyn FnMut(&'a str)) {
    match rules {
        [] => word(text),
        [rule, finer @ ..] => rule.cut(text, &mut |piece| split(finer, piece, word)),
    }
}
