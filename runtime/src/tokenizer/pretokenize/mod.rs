//! Pre-tokenisers: how text is cut into words before byte-pair merges, none of which crosses a cut.
//!
//! A GGUF names its pre-tokeniser in `tokenizer.ggml.pre`. A name stands for a chain of patterns, each applied to the
//! pieces of the one before. A name that is not in the table is an error: a wrong guess gives other tokens, and the
//! model worse answers, with nothing to see. Patterns and names are those of llama.cpp (llama-vocab.cpp).

mod classes;
mod rules;
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
    /// Whether a beginning-of-sequence token goes first where the metadata do not say.
    pub(super) add_bos: bool,
}

/// The names known, by what they stand for.
static KNOWN: &[PreTokenizer] = &[
    PreTokenizer {
        names: &["default"],
        rules: &[Rule::Punctuation, Rule::Words, Rule::Numbers, Rule::ThreeDigits],
        ignore_merges: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &["gpt-2", "phi-2", "jina-es", "jina-de", "jina-v2-es", "jina-v2-de", "mpt", "olmo", "jais", "exaone4"],
        rules: &[Rule::Words],
        ignore_merges: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"],
        rules: &[Rule::EachNumber, Rule::Words],
        ignore_merges: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        rules: &[Rule::WordsAndLines { digits: 3 }],
        ignore_merges: true,
        add_bos: true,
    },
    PreTokenizer {
        names: &["dbrx", "smaug-bpe"],
        rules: &[Rule::WordsAndLines { digits: 3 }],
        ignore_merges: false,
        add_bos: false,
    },
    PreTokenizer {
        names: &["qwen2", "deepseek-r1-qwen", "stablelm2", "megrez", "hunyuan"],
        rules: &[Rule::WordsAndLines { digits: 1 }],
        ignore_merges: false,
        add_bos: false,
    },
];

impl PreTokenizer {
    /// The pre-tokeniser of this name.
    pub(super) fn by_name(name: &str) -> Option<&'static Self> {
        KNOWN.iter().find(|known| known.names.contains(&name))
    }

    /// All names, for messages.
    pub(super) fn known_names() -> String {
        let names: Vec<_> = KNOWN.iter().flat_map(|known| known.names).copied().collect();
        names.join(", ")
    }

    /// Calls `word` with the words of `text` in order; together they are the text.
    pub(super) fn for_each_word<'a>(&self, text: &'a str, word: &mut impl FnMut(&'a str)) {
        split(self.rules, text, word);
    }
}

fn split<'a>(rules: &[Rule], text: &'a str, word: &mut impl FnMut(&'a str)) {
    let Some((rule, finer)) = rules.split_first() else { return word(text) };
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(rule.first_piece_bytes(rest));
        split(finer, piece, word);
        rest = behind;
    }
}
