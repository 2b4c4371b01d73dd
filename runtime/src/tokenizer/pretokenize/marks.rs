//! The family of DeepSeek V3's pattern: ASCII punctuation joins ASCII letters that follow it, and numbers, controls and
//! unassigned code points match nothing.

use super::classes::{is_letter, is_letter_or_mark, is_line_end, is_punctuation_or_symbol, is_space};
use super::rules::{run, spaces};

/// `` [!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*| ``
/// `\s*[\r\n]+|\s+(?!\S)|\s+`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    /// `[\r\n]` in place of `\s*[\r\n]+`, and punctuation does not include line ends.
    pub(super) single_lines: bool,
}

impl Marks {
    /// Bytes of the match at the start of a text that begins with `first`.
    pub(super) fn matched(self, text: &str, first: char) -> Option<usize> {
        let rest = &text[first.len_utf8()..];
        if first.is_ascii_punctuation() && rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Some(1 + run(rest, |c| c.is_ascii_alphabetic()));
        }
        // An optional leading mark needs no special case: it is in `[\p{L}\p{M}]`.
        if is_letter_or_mark(first) {
            return Some(run(text, is_letter_or_mark));
        }
        let leads = !is_line_end(first) && !is_letter(first) && !is_punctuation_or_symbol(first);
        if leads && rest.starts_with(is_letter_or_mark) {
            return Some(first.len_utf8() + run(rest, is_letter_or_mark));
        }
        let lead = usize::from(first == ' ');
        let others = run(&text[lead..], is_punctuation_or_symbol);
        if others > 0 {
            let ends = if self.single_lines { 0 } else { run(&text[lead + others..], is_line_end) };
            return Some(lead + others + ends);
        }
        if !is_space(first) {
            return None;
        }
        if self.single_lines {
            return Some(if is_line_end(first) { 1 } else { spaces(text) });
        }
        let all = run(text, is_space);
        Some(text[..all].rfind(is_line_end).map_or_else(|| spaces(text), |at| at + 1))
    }
}
