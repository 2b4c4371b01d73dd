//! Pre-tokenisers: how text is cut into words before byte-pair merges, none of which crosses a cut.
//!
//! A GGUF names its pre-tokeniser in `tokenizer.ggml.pre`. A name stands for a chain of patterns, each applied to the
//! pieces of the one before (`names`). A name that is not in the table is an error: a wrong guess gives other tokens, and the
//! model worse answers, with nothing to see. Names are those of llama.cpp (llama-vocab.cpp), and so are the patterns, but
//! where llama.cpp's regex engine cannot run a model's own, which is then what stands here.

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
    /// A word that is a token as it stands is taken whole, without merges.
    pub(super) ignore_merges: bool,
    /// A word of nothing but line ends is taken whole where it is a token.
    pub(super) whole_line_ends: bool,
    /// Whether a beginning-of-sequence token goes first where the metadata do not say.
    pub(super) add_bos: bool,
    /// Whether words are written in the byte alphabet; else they are UTF-8 with `▁` for a space, as SentencePiece has them.
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

    /// Calls `word` with the words of `text` in order; together they are the text.
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
