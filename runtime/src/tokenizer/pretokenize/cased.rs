//! The family of GPT-4o's and Tekken's pattern: words are cut where an upper-case letter follows a lower-case one, and include
//! a contraction.
//!
//! `[^\r\n\p{L}\p{N}]?B*C+S?|[^\r\n\p{L}\p{N}]?B+C*S?|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
//! where B is `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`, C is `[\p{Ll}\p{Lm}\p{Lo}\p{M}]` and S is `(?i:'s|'t|'re|'ve|'m|'ll|'d)`.
//! These are the models' own patterns; llama.cpp approximates them with look-aheads that only know the case of ASCII.

use super::classes::{begins_cased, continues_cased, is_letter, is_line_end, is_number, is_other, is_space};
use super::rules::{contraction, numbers, run, some, spaces};
use super::scripts;

/// How the patterns of the family differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cased {
    /// Whether a word includes a following contraction.
    pub(super) contractions: bool,
    /// Maximum number of digits in a piece.
    pub(super) digits: usize,
    /// Whether punctuation includes following slashes, as it does line ends.
    pub(super) slashes: bool,
    /// Whether runs of Han are separate pieces rather than part of words (Kimi K2).
    pub(super) han_apart: bool,
}

/// GPT-4o's.
pub(super) const GPT_4O: Cased = Cased { contractions: true, digits: 3, slashes: true, han_apart: false };

impl Cased {
    /// Bytes of the match at the start of a text that begins with `first`; there always is one.
    pub(super) fn matched(self, text: &str, first: char) -> usize {
        if self.is_han(first) {
            return run(text, |c| self.is_han(c));
        }
        if let Some(bytes) = self.word(text, first) {
            let suffix = if self.contractions { contraction(&text[bytes..], true) } else { None };
            return bytes + suffix.unwrap_or(0);
        }
        if let Some(bytes) = numbers(text, self.digits) {
            return bytes;
        }
        let lead = usize::from(first == ' ');
        let others = run(&text[lead..], is_other);
        if others > 0 {
            let marks = lead + others;
            return marks + run(&text[marks..], |c| is_line_end(c) || (self.slashes && c == '/'));
        }
        let all = run(text, is_space);
        match text[..all].rfind(is_line_end) {
            Some(at) => at + 1,
            None => spaces(text),
        }
    }

    /// The two alternatives for a word; each is tried with the optional leading character first.
    fn word(self, text: &str, first: char) -> Option<usize> {
        let leads = !is_line_end(first) && !is_letter(first) && !is_number(first);
        let lead = leads.then_some(first.len_utf8());
        let small = |start: usize| Some(start + self.ending_small(&text[start..])?);
        let large = |start: usize| Some(start + self.beginning_large(&text[start..])?);
        lead.and_then(small).or_else(|| small(0)).or_else(|| lead.and_then(large)).or_else(|| large(0))
    }

    /// `B*C+`
    fn ending_small(self, text: &str) -> Option<usize> {
        let large = run(text, |c| self.begins(c));
        let small = run(&text[large..], |c| self.continues(c));
        if small > 0 {
            return Some(large + small);
        }
        // Backtrack to the last letter that is in both classes.
        let (at, c) = text[..large].char_indices().rfind(|&(_, c)| self.continues(c))?;
        Some(at + c.len_utf8())
    }

    /// `B+C*`
    fn beginning_large(self, text: &str) -> Option<usize> {
        let large = some(run(text, |c| self.begins(c)))?;
        Some(large + run(&text[large..], |c| self.continues(c)))
    }

    fn begins(self, c: char) -> bool {
        begins_cased(c) && !self.is_han(c)
    }

    fn continues(self, c: char) -> bool {
        continues_cased(c) && !self.is_han(c)
    }

    fn is_han(self, c: char) -> bool {
        self.han_apart && !c.is_ascii() && scripts::contains(scripts::HAN, c)
    }
}
