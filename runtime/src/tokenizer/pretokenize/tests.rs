//! Every scanner against its pattern in a regex engine, on text made to be awkward.

use fancy_regex::Regex;

use super::rules::Rule;
use super::*;

const WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

fn words_and_lines(number: &str) -> String {
    format!(
        "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\\r\\n\\p{{L}}\\p{{N}}]?\\p{{L}}+|{number}|\
         \x20?[^\\s\\p{{L}}\\p{{N}}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
    )
}

/// The pieces that a pattern cuts, text between matches being pieces too.
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

fn pieces_of_rule(rule: Rule, text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    split(&[rule], text, &mut |piece| pieces.push(piece));
    pieces
}

/// Texts that mix what the patterns tell apart, and characters from all of Unicode.
fn awkward_texts(count: usize) -> impl Iterator<Item = String> {
    const SPECIMENS: [&str; 44] = [
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
fn scanners_cut_as_their_patterns_do() {
    let cases = [
        (Rule::Words, WORDS.to_owned()),
        (Rule::WordsAndLines { digits: 3 }, words_and_lines(r"\p{N}{1,3}")),
        (Rule::WordsAndLines { digits: 1 }, words_and_lines(r"\p{N}")),
        (Rule::EachNumber, r"\p{N}".to_owned()),
        (Rule::Numbers, r"\p{N}+".to_owned()),
        (Rule::ThreeDigits, "[0-9][0-9][0-9]".to_owned()),
        (Rule::Punctuation, r"[\p{P}\$\+<=>\^~\|]+".to_owned()),
    ];
    for (rule, pattern) in cases {
        let pattern = Regex::new(&pattern).expect("a valid pattern");
        for text in awkward_texts(20_000) {
            assert_eq!(pieces_of_rule(rule, &text), pieces_of_pattern(&pattern, &text), "{rule:?} on {text:?}");
        }
    }
}

#[test]
fn every_character_is_classed_as_in_the_patterns() {
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
fn chains_cut_the_pieces_of_the_rule_before() {
    let text = "I've 1234  apples\r\n\r\n";
    assert_eq!(words_of("gpt-2", text), ["I", "'ve", " 1234", " ", " apples", "\r\n\r\n"]);
    assert_eq!(words_of("smollm", text), ["I", "'ve", " ", "1", "2", "3", "4", " ", " apples", "\r\n\r\n"]);
    assert_eq!(words_of("llama-bpe", text), ["I", "'ve", " ", "123", "4", " ", " apples", "\r\n\r\n"]);
    assert_eq!(words_of("qwen2", text), ["I", "'ve", " ", "1", "2", "3", "4", " ", " apples", "\r\n\r\n"]);
    assert_eq!(words_of("default", "a+b 12345"), ["a", "+", "b", " ", "123", "45"]);
}

#[test]
fn no_name_comes_twice() {
    let mut names: Vec<_> = KNOWN.iter().flat_map(|known| known.names).collect();
    names.sort_unstable();
    assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    assert!(PreTokenizer::by_name("").is_none());
    assert!(PreTokenizer::known_names().contains("smollm"));
}

/// What made other implementations give up or take minutes.
#[test]
fn long_runs_are_cut_in_one_go() {
    const BYTES: usize = 1 << 20;
    for unit in [" ", "\n", "\r\n", "\t", "a", "1", "!", "é", "中", " \n", "'", "a ", "\u{301}", "  a"] {
        let text = unit.repeat(BYTES / unit.len());
        for name in ["default", "gpt-2", "smollm", "llama-bpe", "qwen2"] {
            let mut bytes = 0;
            PreTokenizer::by_name(name).expect("known").for_each_word(&text, &mut |word| bytes += word.len());
            assert_eq!(bytes, text.len(), "{name}: {unit:?}");
        }
    }
}
