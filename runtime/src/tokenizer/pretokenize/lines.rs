//! The family of Llama 3's and Qwen 2's pattern: words with an optional leading character, groups of digits, punctuation with
//! the line ends that follow it, and white space up to its last line end.

use super::classes::{is_letter, is_letter_or_mark, is_line_end, is_mark, is_number, is_other, is_space};
use super::rules::{contraction, numbers, run, spaces};

/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?LETTERS|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+BEHIND|\s*[\r\n]+|\s+(?!\S)|\s+`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lines {
    /// Whether English contractions are separate pieces.
    pub(super) contractions: bool,
    /// What a word consists of.
    pub(super) letters: Letters,
    /// Maximum number of digits in a piece.
    pub(super) digits: usize,
    /// What punctuation includes after it.
    pub(super) behind: Behind,
}

/// What a word consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Letters {
    /// `\p{L}+`
    Plain,
    /// `[\p{L}\p{M}]+`; marks do not count as punctuation.
    WithMarks,
    /// Words with single spaces between them: `(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+`
    Phrases,
}

/// What punctuation includes after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// Nothing.
    Nothing,
    /// `[\r\n]*`
    LineEnds,
    /// `[\r\n/]?`
    OneLineEndOrSlash,
}

/// Llama 3's; others are variations of it.
pub(super) const LLAMA_3: Lines =
    Lines { contractions: true, letters: Letters::Plain, digits: 3, behind: Behind::LineEnds };

/// Qwen 2's: single digits.
pub(super) const QWEN_2: Lines = Lines { digits: 1, ..LLAMA_3 };

impl Lines {
    /// Bytes of the match at the start of a text that begins with `first`; there always is one.
    pub(super) fn matched(self, text: &str, first: char) -> usize {
        if self.contractions
            && let Some(bytes) = contraction(text, true)
        {
            return bytes;
        }
        if let Some(bytes) = self.word(text, first) {
            return bytes;
        }
        if let Some(bytes) = numbers(text, self.digits) {
            return bytes;
        }
        let lead = usize::from(first == ' ');
        let marks = self.letters == Letters::WithMarks;
        let others = run(&text[lead..], |c| is_other(c) && !(marks && is_mark(c)));
        if others > 0 {
            return lead + others + self.behind.bytes(&text[lead + others..]);
        }
        // Only white space is left: up to its last line end, if it has one.
        let all = run(text, is_space);
        match text[..all].rfind(is_line_end) {
            Some(at) => at + 1,
            None => spaces(text),
        }
    }

    /// `[^\r\n\p{L}\p{N}]?LETTERS`
    fn word(self, text: &str, first: char) -> Option<usize> {
        if self.letters.begin_with(first) {
            return Some(self.letters.bytes(text));
        }
        if is_line_end(first) || is_number(first) {
            return None;
        }
        let rest = &text[first.len_utf8()..];
        let begins = rest.chars().next().is_some_and(|c| self.letters.begin_with(c));
        begins.then(|| first.len_utf8() + self.letters.bytes(rest))
    }
}

impl Letters {
    fn begin_with(self, c: char) -> bool {
        if self == Self::WithMarks { is_letter_or_mark(c) } else { is_letter(c) }
    }

    /// Bytes of a word, at the start of a text that begins with one.
    fn bytes(self, text: &str) -> usize {
        match self {
            Self::Plain => run(text, is_letter),
            Self::WithMarks => run(text, is_letter_or_mark),
            Self::Phrases => {
                let mut bytes = run(text, is_letter_or_mark);
                while text[bytes..].strip_prefix(' ').is_some_and(|rest| rest.starts_with(is_letter)) {
                    bytes += 1 + run(&text[bytes + 1..], is_letter_or_mark);
                }
                bytes
            }
        }
    }
}

impl Behind {
    fn bytes(self, text: &str) -> usize {
        match self {
            Self::Nothing => 0,
            Self::LineEnds => run(text, is_line_end),
            Self::OneLineEndOrSlash => usize::from(text.starts_with(['\r', '\n', '/'])),
        }
    }
}
