//! Compares every scanner with its pattern in a regex engine, on adversarial text.

use fancy_regex::Regex;

use super::*;

// The patterns of the models. They are written as in llama.cpp, except where it approximates what its regex engine cannot run.

const WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

const CONTRACTIONS: &str = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])";
const LETTERS: &str = r"[^\r\n\p{L}\p{N}]?\p{L}+";
const MARKS: &str = r" ?[^\s\p{L}\p{N}]+[\r\n]*";
const SPACES: &str = r"\s*[\r\n]+|\s+(?!\S)|\s+";
const FAR_EAST: &str = r"[一-龥\u{800}-一가-\u{d7ff}]+";
const HAN_AND_KANA: &str = r"[一-龥\u{3040}-\u{309f}\u{30a0}-\u{30ff}]+";

/// Llama 3's pattern with some parts replaced.
fn lines(contractions: &str, letters: &str, number: &str, marks: &str, spaces: &str) -> String {
    let parts = [contractions, letters, number, marks, spaces];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("|")
}

fn llama_3(number: &str) -> String {
    lines(CONTRACTIONS, LETTERS, number, MARKS, SPACES)
}

/// GPT-4o's pattern with some parts replaced.
fn cased(suffix: &str, number: &str, marks: &str) -> String {
    let (begin, go_on) = (r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]");
    format!(
        r"[^\r\n\p{{L}}\p{{N}}]?{begin}*{go_on}+{suffix}|[^\r\n\p{{L}}\p{{N}}]?{begin}+{go_on}*{suffix}|{number}|{marks}|{SPACES}"
    )
}

fn gpt_4o(number: &str) -> String {
    cased(&format!("{CONTRACTIONS}?"), number, r" ?[^\s\p{L}\p{N}]+[\r\n/]*")
}

fn deepseek_3(behind: &str, spaces: &str) -> String {
    format!(
        "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{{|}}~][A-Za-z]+|[^\\r\\n\\p{{L}}\\p{{P}}\\p{{S}}]?[\\p{{L}}\\p{{M}}]+|\
         \x20?[\\p{{P}}\\p{{S}}]+{behind}|{spaces}"
    )
}

/// Kimi K2's, in the syntax of an engine that can exclude Han from a class.
fn kimi() -> String {
    let han =
        r"\u{4e00}-\u{9fff}\u{3400}-\u{4dbf}\u{20000}-\u{2a6df}\u{2a700}-\u{2ebef}\u{f900}-\u{faff}\u{2f800}-\u{2fa1f}";
    let (begin, go_on) = (
        format!(r"[\p{{Lu}}\p{{Lt}}\p{{Lm}}\p{{Lo}}\p{{M}}&&[^{han}]]"),
        format!(r"[\p{{Ll}}\p{{Lm}}\p{{Lo}}\p{{M}}&&[^{han}]]"),
    );
    let lead = r"[^\r\n\p{L}\p{N}]?";
    format!(
        "[{han}]+|{lead}{begin}*{go_on}+{CONTRACTIONS}?|{lead}{begin}+{go_on}*{CONTRACTIONS}?|\\p{{N}}{{1,3}}|{MARKS}|{SPACES}"
    )
}

/// The patterns of each name.
fn patterns() -> Vec<(&'static [&'static str], Vec<String>)> {
    let one = |pattern: &str| vec![pattern.to_owned()];
    let many = |patterns: &[&str]| patterns.iter().map(|&pattern| pattern.to_owned()).collect::<Vec<_>>();
    let no_spaces = r"[一-\u{9fff}\u{3400}-\u{4dbf}\u{f900}-\u{faff}\u{3040}-\u{309f}\u{30a0}-\u{30ff}\u{ff65}-\u{ff9f}\u{2f00}-\u{2fdf}\u{e40}-\u{e7f}\u{e80}-\u{eff}\u{1780}-\u{17ff}\u{1000}-\u{109f}\u{aa60}-\u{aa7f}\u{a9e0}-\u{a9ff}\u{ac00}-\u{d7af}\u{1100}-\u{11ff}]+";
    let powers = r"\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}";
    let cased_letters: String =
        scripts::CASED_LETTERS.iter().map(|(a, b)| format!("\\u{{{:x}}}-\\u{{{:x}}}", *a as u32, *b as u32)).collect();
    vec![
        (&["default"], many(&[r"[\p{P}\$\+<=>\^~\|]+", WORDS, r"\p{N}+", "[0-9][0-9][0-9]"])),
        (
            &["gpt-2", "phi-2", "mpt", "olmo", "jais", "exaone4", "modern-bert", "roberta-bpe", "jina-v2-code"],
            one(WORDS),
        ),
        (&["smollm", "starcoder", "refact", "command-r", "exaone", "minerva-7b"], many(&[r"\p{N}", WORDS])),
        (&["falcon"], many(&[r"[\p{P}\$\+<=>\^~\|`]+", WORDS, "[0-9][0-9][0-9]"])),
        (&["llama-bpe", "falcon-h1", "lfm2", "dbrx", "smaug-bpe", "glm4", "chatglm-bpe"], one(&llama_3(r"\p{N}{1,3}"))),
        (&["jais-2"], one(&lines(CONTRACTIONS, LETTERS, r"\p{N}{1,3}", MARKS, powers))),
        (&["qwen2", "stablelm2", "megrez", "hunyuan", "grok-2", "solar-open"], one(&llama_3(r"\p{N}"))),
        (&["bailingmoe2"], one(&lines(CONTRACTIONS, LETTERS, r"\p{N}", MARKS, r"\s*[\r\n]|\s+(?!\S)|\s+"))),
        (
            &["qwen35"],
            one(&lines(
                CONTRACTIONS,
                r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+",
                r"\p{N}",
                r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",
                SPACES,
            )),
        ),
        (&["seed-coder"], one(&lines(CONTRACTIONS, LETTERS, r"\p{N}{1}", r" ?[^\s\p{L}\p{N}\r\n]+", SPACES))),
        (&["ufakzeka"], one(&lines("", LETTERS, r"\p{N}", MARKS, SPACES))),
        (&["laguna"], many(&[r"[^\n]+|[\n]+", &llama_3(r"\p{N}")])),
        (
            &["exaone-moe"],
            one(&lines(
                CONTRACTIONS,
                r"[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+",
                r"\p{N}",
                r" ?[^\s\p{L}\p{N}]+[\r\n/]?",
                r"\s*[\r\n]|\s+(?!\S)|\s+",
            )),
        ),
        (&["minicpm5"], many(&[r"\p{N}{1,3}", &llama_3(r"\p{N}+")])),
        (
            &["deepseek-llm"],
            many(&[
                r"[\r\n]",
                &format!(r"\s?[{cased_letters}]+"),
                r"\s?[!-/:-~！-／：-～‘-‟\u{3000}-。]+",
                r"\s+$",
                FAR_EAST,
                r"\p{N}+",
            ]),
        ),
        (&["deepseek-coder"], many(&[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", FAR_EAST, r"\p{N}"])),
        (
            &["deepseek-v3", "hunyuan-dense", "joyai-llm"],
            many(&[r"\p{N}{1,3}", HAN_AND_KANA, &deepseek_3(r"[\r\n]*", SPACES)]),
        ),
        (&["spark2_5"], many(&[r"\p{N}{1,3}", HAN_AND_KANA, &deepseek_3("", r"[\r\n]|\s+(?!\S)|\s+"), r"\p{N}"])),
        (&["afmoe"], many(&[r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))", no_spaces, &deepseek_3(r"[\r\n]*", SPACES)])),
        (
            &["youtu"],
            many(&[
                r"[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-\u{303f}︰-﹏]+|[ㄅ-ㄯ]+|[一-龥\u{3040}-\u{309f}\u{30a0}-\u{30ff}]+",
                &gpt_4o(r"\p{N}"),
            ]),
        ),
        (&["tekken"], one(&cased("", r"\p{N}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*"))),
        (&["gpt-4o", "llama4", "minimax-m2", "granite-embed-multi-97m"], one(&gpt_4o(r"\p{N}{1,3}"))),
        (
            &["tiny_aya", "cohere2moe"],
            many(&[r"\p{Nd}{1,3}(?=(?:\p{Nd}{3})*(?![\p{L}\p{M}\p{Nd}\p{Pc}]))", &gpt_4o(r"\p{N}{1,3}")]),
        ),
        (&["kimi-k2"], one(&kimi())),
        (&["superbpe"], many(&[r"\p{N}+", r"(?=(\p{Nd}{3})+(?!\p{Nd}))"])),
        (&["bloom", "poro-chat", "gpt3-finnish"], one(r" ?[^(\s|.,!?…。，、।۔،)]+")),
        (&["viking"], many(&[r" ?[^(\s|.,!?…。，、।۔،)]+", r"\p{N}"])),
        (
            &["chameleon"],
            many(&[
                "<sentinel:[0-9]+>",
                "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
                r"([\t\n]|    |  )",
                r"\p{N}",
                r"[\p{P}!-/:-@\[-`{-~]",
                WORDS,
            ]),
        ),
        (&["gemma4", "sarvam-moe"], one(r"[^\n]+|[\n]+")),
    ]
}

/// The pieces that a pattern cuts; the text between matches counts, too.
fn pieces_of_pattern<'a>(pattern: &Regex, text: &'a str) -> Vec<&'a str> {
    let (mut pieces, mut at) = (Vec::new(), 0);
    for found in pattern.find_iter(text) {
        let found = found.expect("short texts do not exhaust the engine");
        pieces.extend([&text[at..found.start()], &text[found.start()..found.end()]]);
        at = found.end();
    }
    pieces.push(&text[at..]);
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

/// The pieces that a chain of patterns cuts.
fn pieces_of_patterns<'a>(patterns: &[Regex], text: &'a str) -> Vec<&'a str> {
    patterns.iter().fold(vec![text], |pieces, pattern| {
        pieces.into_iter().flat_map(|piece| pieces_of_pattern(pattern, piece)).collect()
    })
}

/// Texts that mix all cases that the patterns distinguish with characters from all of Unicode.
fn awkward_texts(count: usize) -> impl Iterator<Item = String> {
    const SPECIMENS: [&str; 60] = [
        " ",
        " ",
        "  ",
        "\n",
        "\r\n",
        "\r",
        "\t",
        "\u{a0}",
        "\u{3000}",
        "\u{2028}",
        "\u{85}",
        "'",
        "'s",
        "'LL",
        "'Re",
        "'ve",
        "'t",
        "'ſ",
        "a",
        "Z",
        "é",
        "e\u{301}",
        "ß",
        "中",
        "文字",
        "ا",
        "ñ",
        "ᵃ",
        "0",
        "7",
        "42",
        "１",
        "Ⅷ",
        "½",
        "٣",
        ".",
        "!?",
        "$",
        "+",
        "_",
        "🙂",
        "AB",
        "Ǆǅǆ",
        "ʰ",
        "ाि",
        "ไท",
        "한글",
        "ㄅ",
        "カナ",
        "，、",
        "/",
        "`",
        "12345678",
        "100000",
        "IMGIMGABZ",
        "<sentinel:12>",
        "     ",
        "👩‍👩‍👧",
        "\u{200b}",
        "\u{e000}",
    ];
    let mut random = oorandom::Rand32::new(0x5eed);
    (0..count).map(move |_| {
        let mut text = String::new();
        for _ in 0..random.rand_range(0..24) {
            match random.rand_range(0..12) {
                0 => text.extend(char::from_u32(random.rand_range(0..0x11_0000))),
                1 => text.extend(char::from_u32(random.rand_range(0..0x3000))),
                _ => text.push_str(SPECIMENS[random.rand_range(0..SPECIMENS.len() as u32) as usize]),
            }
        }
        text
    })
}

#[test]
fn scanners_cut_like_their_patterns() {
    for (names, patterns) in patterns() {
        let patterns: Vec<_> = patterns.iter().map(|pattern| Regex::new(pattern).expect("a valid pattern")).collect();
        for text in awkward_texts(2_000) {
            let expected = pieces_of_patterns(&patterns, &text);
            assert_eq!(words_of(names[0], &text), expected, "{} on {text:?}", names[0]);
        }
        for name in names {
            let text = format!("I've 1234567  apples/\r\n\r\n 中文ABCdef{}x{}", " ".repeat(1207), "\u{a0}".repeat(30));
            assert_eq!(words_of(name, &text), pieces_of_patterns(&patterns, &text), "{name}");
        }
    }
}

/// Fails if a new name is added without a pattern to compare with.
#[test]
fn every_name_is_compared_with_a_pattern() {
    let tested: Vec<_> =
        patterns().iter().flat_map(|(names, _)| names.iter().map(|name| PreTokenizer::by_name(name))).collect();
    for known in names::KNOWN {
        let same = |other: &Option<&PreTokenizer>| other.is_some_and(|other| other.rules == known.rules);
        assert!(tested.iter().any(same), "{:?}", known.names);
    }
}

#[test]
fn ranges_are_ascending_and_disjoint() {
    use scripts::*;
    for ranges in
        [HAN_AND_KANA, FAR_EAST, DEEPSEEK_MARKS, HANGUL, CHINESE_MARKS, BOPOMOFO, WITHOUT_SPACES, HAN, CASED_LETTERS]
    {
        assert!(ranges.iter().all(|(first, last)| first <= last), "{ranges:?}");
        assert!(ranges.is_sorted_by(|before, after| before.1 < after.0), "{ranges:?}");
    }
}

#[test]
fn character_classes_match_the_regex_engine() {
    let class = |pattern: &str| Regex::new(pattern).expect("a valid pattern");
    let (letter, number, mark, space) = (class(r"^\p{L}$"), class(r"^\p{N}$"), class(r"^\p{P}$"), class(r"^\s$"));
    for c in '\0'..=char::MAX {
        let text = c.to_string();
        let matches = |pattern: &Regex| pattern.is_match(&text).expect("one character");
        assert_eq!(classes::is_letter(c), matches(&letter), "{c:?}");
        assert_eq!(classes::is_number(c), matches(&number), "{c:?}");
        assert_eq!(classes::is_punctuation(c), matches(&mark), "{c:?}");
        assert_eq!(classes::is_space(c), matches(&space), "{c:?}");
    }
}

fn words_of<'a>(name: &str, text: &'a str) -> Vec<&'a str> {
    let mut words = Vec::new();
    PreTokenizer::by_name(name).expect("a known name").for_each_word(text, &mut |word| words.push(word));
    words
}

#[test]
fn each_rule_of_a_chain_cuts_the_pieces_of_the_one_before() {
    let text = "I've 1234  apples\r\n\r\n";
    assert_eq!(words_of("gpt-2", text), ["I", "'ve", " 1234", " ", " apples", "\r\n\r\n"]);
    assert_eq!(words_of("smollm", text), ["I", "'ve", " ", "1", "2", "3", "4", " ", " apples", "\r\n\r\n"]);
    assert_eq!(words_of("llama-bpe", text), ["I", "'ve", " ", "123", "4", " ", " apples", "\r\n\r\n"]);
    assert_eq!(words_of("qwen2", text), ["I", "'ve", " ", "1", "2", "3", "4", " ", " apples", "\r\n\r\n"]);
    assert_eq!(words_of("default", "a+b 12345"), ["a", "+", "b", " ", "123", "45"]);
}

#[test]
fn names_are_unique() {
    let mut names: Vec<_> = names::KNOWN.iter().flat_map(|known| known.names).collect();
    names.sort_unstable();
    assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    assert!(PreTokenizer::by_name("").is_none());
    assert!(PreTokenizer::known_names().contains("smollm"));
}

/// Text on which backtracking engines give up or take minutes.
#[test]
fn long_runs_are_cut_in_linear_time() {
    const BYTES: usize = 1 << 18;
    for unit in [" ", "\n", "\r\n", "\t", "a", "1", "!", "é", "中", " \n", "'", "a ", "\u{301}", "  a"] {
        let text = unit.repeat(BYTES / unit.len());
        for known in names::KNOWN {
            let name = known.names[0];
            let mut bytes = 0;
            known.for_each_word(&text, &mut |word| bytes += word.len());
            assert_eq!(bytes, text.len(), "{name}: {unit:?}");
        }
    }
}
