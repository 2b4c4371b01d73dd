//! The patterns of the pre-tokenisers, each as a hand-written scanner.
//!
//! A scanner answers one question: how long is the first piece of this text? It looks at each character a bounded
//! number of times, so a megabyte of spaces costs what a megabyte of prose costs, where a backtracking regex engine
//! gives up or takes minutes. The tests hold every scanner against its pattern in a regex engine on random text.

use super::classes::{is_letter, is_line_end, is_number, is_other, is_punctuation, is_space};

/// A pattern that cuts text into pieces. Text between two matches is a piece of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// GPT-2: `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
    Words,
    /// Llama 3 (numbers of up to three digits) and Qwen 2 (each digit alone):
    /// `(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}|`
    /// ` ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
    WordsAndLines {
        /// How many digits a piece takes at most.
        digits: usize,
    },
    /// `\p{N}`
    EachNumber,
    /// `\p{N}+`
    Numbers,
    /// `[0-9][0-9][0-9]`
    ThreeDigits,
    /// `[\p{P}\$\+<=>\^~\|]+`
    Punctuation,
}

impl Rule {
    /// Bytes of the first piece of `text`: at least one character, unless there is none.
    pub(super) fn first_piece_bytes(self, text: &str) -> usize {
        let Some(first) = text.chars().next() else { return 0 };
        match self {
            Self::Words => words(text, first),
            Self::WordsAndLines { digits } => words_and_lines(text, first, digits),
            Self::EachNumber if is_number(first) => first.len_utf8(),
            Self::EachNumber => run(text, |c| !is_number(c)),
            Self::Numbers if is_number(first) => run(text, is_number),
            Self::Numbers => run(text, |c| !is_number(c)),
            Self::ThreeDigits => three_digits(text),
            Self::Punctuation if is_mark(first) => run(text, is_mark),
            Self::Punctuation => run(text, |c| !is_mark(c)),
        }
    }
}

/// Bytes of the longest start of `text` whose characters are all in `class`.
fn run(text: &str, class: impl Fn(char) -> bool) -> usize {
    text.find(|c| !class(c)).unwrap_or(text.len())
}

/// `[\p{P}\$\+<=>\^~\|]`
fn is_mark(c: char) -> bool {
    matches!(c, '$' | '+' | '<' | '=' | '>' | '^' | '~' | '|') || is_punctuation(c)
}

/// Bytes of an English contraction at the start: `'s`, `'t`, `'re`, `'ve`, `'m`, `'ll`, `'d`.
fn contraction(text: &str, any_case: bool) -> Option<usize> {
    let mut letters = text.strip_prefix('\'')?.bytes().map(|b| if any_case { b.to_ascii_lowercase() } else { b });
    match (letters.next()?, letters.next()) {
        (b's' | b't' | b'm' | b'd', _) => Some(2),
        (b'r' | b'v', Some(b'e')) | (b'l', Some(b'l')) => Some(3),
        _ => None,
    }
}

/// `\s+(?!\S)|\s+` at the start of a text that begins with white space: the whole run at the end of the text;
/// before a word all but its last character, which may belong to the word.
fn spaces(text: &str) -> usize {
    let all = run(text, is_space);
    if all == text.len() {
        return all;
    }
    let last = text[..all].chars().next_back().map_or(0, char::len_utf8);
    if last < all { all - last } else { all }
}

fn words(text: &str, first: char) -> usize {
    if let Some(bytes) = contraction(text, false) {
        return bytes;
    }
    // ` ?` before a run of one class
    let lead = usize::from(first == ' ');
    let body = &text[lead..];
    let classed = match body.chars().next() {
        Some(c) if is_letter(c) => run(body, is_letter),
        Some(c) if is_number(c) => run(body, is_number),
        Some(c) if !is_space(c) => run(body, is_other),
        _ => return spaces(text),
    };
    lead + classed
}

fn words_and_lines(text: &str, first: char, digits: usize) -> usize {
    if let Some(bytes) = contraction(text, true) {
        return bytes;
    }
    if is_letter(first) {
        return run(text, is_letter);
    }
    if is_number(first) {
        let numbers = text.char_indices().take(digits).take_while(|&(_, c)| is_number(c));
        return numbers.last().map_or(0, |(at, c)| at + c.len_utf8());
    }
    // Any one character that is neither letter, number nor line end goes with the letters behind it.
    let rest = &text[first.len_utf8()..];
    if !is_line_end(first) && rest.starts_with(is_letter) {
        return first.len_utf8() + run(rest, is_letter);
    }
    let lead = usize::from(first == ' ');
    let others = run(&text[lead..], is_other);
    if others > 0 {
        let marks = lead + others;
        return marks + run(&text[marks..], is_line_end);
    }
    // Only white space is left: up to its last line end, if it has one.
    let all = run(text, is_space);
    match text[..all].rfind(is_line_end) {
        Some(at) => at + 1,
        None => spaces(text),
    }
}

fn three_digits(text: &str) -> usize {
    let is_group = |at: usize| text.as_bytes()[at..].iter().take(3).filter(|b| b.is_ascii_digit()).count() == 3;
    if is_group(0) {
        return 3;
    }
    (1..text.len()).find(|&at| is_group(at)).unwrap_or(text.len())
}
