//! The known names in `tokenizer.ggml.pre`, and their rules.

use super::PreTokenizer;
use super::cased::{Cased, GPT_4O};
use super::classes::Class;
use super::digits::Groups;
use super::lines::{Behind, LLAMA_3, Letters, Lines, QWEN_2};
use super::marks::Marks;
use super::rules::Rule;
use super::scripts;

const WORDS: &[Rule] = &[Rule::Words];
const DIGITS_AND_WORDS: &[Rule] = &[Rule::Each(Class::Number), Rule::Words];
const DEEPSEEK_3: Rule = Rule::Marks(Marks { single_lines: false });
const HAN_AND_KANA: Rule = Rule::Runs(Class::Of(scripts::HAN_AND_KANA));
const TEKKEN: Cased = Cased { contractions: false, digits: 1, ..GPT_4O };

/// A byte-level pre-tokeniser without special settings; others are variations of it.
const fn plain(names: &'static [&'static str], rules: &'static [Rule]) -> PreTokenizer {
    PreTokenizer { names, rules, ignore_merges: false, whole_line_ends: false, add_bos: false, byte_level: true }
}

pub(super) static KNOWN: &[PreTokenizer] = &[
    plain(&["default"], &[Rule::Runs(Class::Marked), Rule::Words, Rule::Runs(Class::Number), Rule::ThreeDigits]),
    plain(&["gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "exaone4"], WORDS),
    plain(&["gigachat", "a.x-4.0", "mellum", "modern-bert", "roberta-bpe"], WORDS),
    plain(&["jina-es", "jina-de", "jina-v1-en", "jina-v2-es", "jina-v2-de", "jina-v2-code"], WORDS),
    plain(
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
        DIGITS_AND_WORDS,
    ),
    plain(&["falcon"], &[Rule::Runs(Class::MarkedOrTick), Rule::Words, Rule::ThreeDigits]),
    PreTokenizer {
        ignore_merges: true,
        add_bos: true,
        ..plain(
            &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"],
            &[Rule::Lines(LLAMA_3)],
        )
    },
    plain(&["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"], &[Rule::Lines(LLAMA_3)]),
    plain(&["jais-2"], &[Rule::Lines(LLAMA_3), Rule::PowersOfTwo]),
    plain(
        &["qwen2", "deepseek-r1-qwen", "stablelm2", "megrez", "hunyuan", "solar-open", "grok-2", "kormo", "f2llmv2"],
        &[Rule::Lines(QWEN_2)],
    ),
    plain(&["bailingmoe", "bailingmoe2", "llada-moe"], &[Rule::Lines(QWEN_2)]),
    plain(&["qwen35"], &[Rule::Lines(Lines { letters: Letters::WithMarks, ..QWEN_2 })]),
    plain(&["seed-coder"], &[Rule::Lines(Lines { behind: Behind::Nothing, ..QWEN_2 })]),
    plain(&["ufakzeka"], &[Rule::Lines(Lines { contractions: false, ..QWEN_2 })]),
    plain(&["laguna"], &[Rule::Runs(Class::Newline), Rule::Lines(QWEN_2)]),
    plain(
        &["exaone-moe"],
        &[Rule::Lines(Lines { letters: Letters::Phrases, behind: Behind::OneLineEndOrSlash, ..QWEN_2 })],
    ),
    // Digits are cut first, so that white space before them counts as being at the end of a text.
    PreTokenizer {
        ignore_merges: true,
        ..plain(&["minicpm5"], &[Rule::Numbers { most: 3 }, Rule::Lines(Lines { digits: usize::MAX, ..LLAMA_3 })])
    },
    plain(
        &["deepseek-llm"],
        &[
            Rule::Each(Class::LineEnd),
            Rule::AfterSpace(Class::Of(scripts::CASED_LETTERS)),
            Rule::AfterSpace(Class::Of(scripts::DEEPSEEK_MARKS)),
            Rule::TrailingSpace,
            Rule::Runs(Class::Of(scripts::FAR_EAST)),
            Rule::Runs(Class::Number),
        ],
    ),
    plain(
        &["deepseek-coder"],
        &[
            Rule::Each(Class::LineEnd),
            Rule::AfterSpace(Class::Letter),
            Rule::AfterSpace(Class::Punctuation),
            Rule::Runs(Class::Of(scripts::FAR_EAST)),
            Rule::Each(Class::Number),
        ],
    ),
    plain(
        &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
        &[Rule::Numbers { most: 3 }, HAN_AND_KANA, DEEPSEEK_3],
    ),
    plain(
        &["spark2_5"],
        &[
            Rule::Numbers { most: 3 },
            HAN_AND_KANA,
            Rule::Marks(Marks { single_lines: true }),
            Rule::Each(Class::Number),
        ],
    ),
    plain(&["afmoe"], &[Rule::Groups(Groups::Numbers), Rule::Runs(Class::Of(scripts::WITHOUT_SPACES)), DEEPSEEK_3]),
    PreTokenizer {
        ignore_merges: true,
        ..plain(
            &["youtu"],
            &[
                Rule::Runs(Class::Of(scripts::HANGUL)),
                Rule::Runs(Class::Of(scripts::CHINESE_MARKS)),
                Rule::Runs(Class::Of(scripts::BOPOMOFO)),
                HAN_AND_KANA,
                Rule::Cased(Cased { digits: 1, ..GPT_4O }),
            ],
        )
    },
    PreTokenizer { ignore_merges: true, add_bos: true, ..plain(&["tekken"], &[Rule::Cased(TEKKEN)]) },
    plain(&["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], &[Rule::Cased(GPT_4O)]),
    PreTokenizer { ignore_merges: true, ..plain(&["granite-embed-multi-97m"], &[Rule::Cased(GPT_4O)]) },
    plain(&["tiny_aya", "cohere2moe"], &[Rule::Groups(Groups::Words), Rule::Cased(GPT_4O)]),
    plain(&["kimi-k2"], &[Rule::Cased(Cased { slashes: false, han_apart: true, ..GPT_4O })]),
    plain(&["superbpe"], &[Rule::Runs(Class::Number), Rule::Groups(Groups::Places)]),
    plain(&["bloom", "poro-chat", "gpt3-finnish"], &[Rule::AfterBlank(Class::Unbroken)]),
    plain(&["viking"], &[Rule::AfterBlank(Class::Unbroken), Rule::Each(Class::Number)]),
    PreTokenizer {
        add_bos: true,
        ..plain(
            &["chameleon"],
            &[
                Rule::Sentinel,
                Rule::Image,
                Rule::Indent,
                Rule::Each(Class::Number),
                Rule::Each(Class::AnyPunctuation),
                Rule::Words,
            ],
        )
    },
    PreTokenizer {
        byte_level: false,
        whole_line_ends: true,
        add_bos: true,
        ..plain(&["gemma4", "granite-embed-multi-311m"], &[Rule::Runs(Class::Newline)])
    },
    PreTokenizer { byte_level: false, ..plain(&["sarvam-moe"], &[Rule::Runs(Class::Newline)]) },
];
