//! The patterns of which pre-tokenisers are chains: what each matches at the start of a text.
//!
//! Every scanner looks at each character a bounded number of times, so a megabyte of spaces takes as long as a megabyte of
//! prose, where a backtracking regex engine gives up or takes minutes. The tests compare every scanner with its pattern in a
//! regex engine on random text.

use super::cased::Cased;
use super::classes::{Class, is_letter, is_line_end, is_number, is_other, is_space};
use super::digits::{self, Groups};
use super::lines::Lines;
use super::marks::Marks;

/// A pattern that cuts text into pieces: its matches, and the text between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// `[class]`
    Each(Class),
    /// `[class]+`
    Runs(Class),
    /// `\p{N}{1,most}`
    Numbers {
        /// Maximum number of digits in a piece.
        most: usize,
    },
    /// `\s?[class]+`
    AfterSpace(Class),
    /// ` ?[class]+`
    AfterBlank(Class),
    /// GPT-2: `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
    Words,
    /// Llama 3, Qwen 2 and similar ones.
    Lines(Lines),
    /// GPT-4o, Tekken and similar ones.
    Cased(Cased),
    /// DeepSeek V3 and similar ones.
    Marks(Marks),
    /// `[0-9][0-9][0-9]`
    ThreeDigits,
    /// Numbers in groups of three digits counted from the end.
    Groups(Groups),
    /// `\s+$`
    TrailingSpace,
    /// Jais 2, after Llama 3's: white space without line ends, in pieces of powers of two.
    /// `\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|…|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}`
    PowersOfTwo,
    /// Chameleon: `<sentinel:[0-9]+>`
    Sentinel,
    /// Chameleon: `(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z`
    Image,
    /// Chameleon: `([\t\n]|    |  )`
    Indent,
}

impl Rule {
    /// Calls `piece` with the pieces of `text` in order; concatenated they give the text.
    pub(super) fn cut<'a>(self, text: &'a str, piece: &mut impl FnMut(&'a str)) {
        match self {
            Self::Groups(groups) => return digits::cut(groups, text, piece),
            Self::TrailingSpace => {
                let (body, trailing) = text.split_at(text.trim_end_matches(is_space).len());
                return [body, trailing].into_iter().filter(|part| !part.is_empty()).for_each(piece);
            }
            Self::PowersOfTwo => return powers_of_two(text, piece),
            _ => {}
        }
        let (mut start, mut at) = (0, 0);
        while let Some(first) = text[at..].chars().next() {
            let Some(bytes) = self.matched(&text[at..], first) else {
                at += first.len_utf8();
                continue;
            };
            if start < at {
                piece(&text[start..at]);
            }
            piece(&text[at..at + bytes]);
            at += bytes;
            start = at;
        }
        if start < at {
            piece(&text[start..at]);
        }
    }

    /// Bytes of the match at the start of `text`, at least one; `first` is its first character.
    fn matched(self, text: &str, first: char) -> Option<usize> {
        match self {
            Self::Each(class) => class.contains(first).then_some(first.len_utf8()),
            Self::Runs(class) => some(run(text, |c| class.contains(c))),
            Self::Numbers { most } => numbers(text, most),
            Self::AfterSpace(class) => after(is_space(first), class, text, first),
            Self::AfterBlank(class) => after(first == ' ', class, text, first),
            Self::Words => Some(words(text, first)),
            Self::Lines(lines) => Some(lines.matched(text, first)),
            Self::Cased(cased) => Some(cased.matched(text, first)),
            Self::Marks(marks) => marks.matched(text, first),
            Self::ThreeDigits => {
                let digits = text.as_bytes().iter().take(3).filter(|b| b.is_ascii_digit());
                (digits.count() == 3).then_some(3)
            }
            // Unbounded look-ahead: handled in `cut`.
            Self::TrailingSpace | Self::PowersOfTwo | Self::Groups(_) => None,
            Self::Sentinel => {
                let digits = text.strip_prefix("<sentinel:")?;
                let count = run(digits, |c| c.is_ascii_digit());
                (count > 0 && digits[count..].starts_with('>')).then_some("<sentinel:>".len() + count)
            }
            Self::Image => {
                let letters = text.strip_prefix("IMGIMG")?;
                let count = run(letters, |c| matches!(c, 'A'..='I'));
                ((1..=4).contains(&count) && letters[count..].starts_with('Z')).then_some("IMGIMGZ".len() + count)
            }
            Self::Indent => match first {
                '\t' | '\n' => Some(1),
                _ => ["    ", "  "].into_iter().find(|indent| text.starts_with(indent)).map(str::len),
            },
        }
    }
}

/// Bytes of the longest prefix of `text` whose characters are all in `class`.
pub(super) fn run(text: &str, class: impl Fn(char) -> bool) -> usize {
    text.find(|c| !class(c)).unwrap_or(text.len())
}

/// The length of a match, `None` for 0.
pub(super) fn some(bytes: usize) -> Option<usize> {
    (bytes > 0).then_some(bytes)
}

fn powers_of_two<'a>(text: &'a str, piece: &mut impl FnMut(&'a str)) {
    if !text.chars().all(|c| is_space(c) && !is_line_end(c)) {
        return piece(text);
    }
    let (mut rest, mut count) = (text, text.chars().count());
    for taken in [512, 256, 128, 64, 32, 16, 8, 4, 2, 1] {
        while count >= taken {
            let bytes = rest.char_indices().nth(taken).map_or(rest.len(), |(at, _)| at);
            piece(&rest[..bytes]);
            (rest, count) = (&rest[bytes..], count - taken);
        }
    }
}

/// `\p{N}{1,most}`
pub(super) fn numbers(text: &str, most: usize) -> Option<usize> {
    let numbers = text.char_indices().take(most).take_while(|&(_, c)| is_number(c));
    numbers.last().map(|(at, c)| at + c.len_utf8())
}

/// A run of a class, optionally after the character `first` if it `leads`.
fn after(leads: bool, class: Class, text: &str, first: char) -> Option<usize> {
    let lead = first.len_utf8();
    let behind = if leads { run(&text[lead..], |c| class.contains(c)) } else { 0 };
    if behind > 0 { Some(lead + behind) } else { some(run(text, |c| class.contains(c))) }
}

/// Bytes of an English contraction at the start: `'s`, `'t`, `'re`, `'ve`, `'m`, `'ll`, `'d`.
pub(super) fn contraction(text: &str, any_case: bool) -> Option<usize> {
    let mut letters = text.strip_prefix('\'')?.bytes().map(|b| if any_case { b.to_ascii_lowercase() } else { b });
    match (letters.next()?, letters.next()) {
        (b's' | b't' | b'm' | b'd', _) => Some(2),
        (b'r' | b'v', Some(b'e')) | (b'l', Some(b'l')) => Some(3),
        _ => None,
    }
}

/// `\s+(?!\S)|\s+` at the start of a text that begins with white space: the whole run if it ends the text, else all but its
/// last character, which may belong to the next word.
pub(super) fn spaces(text: &str) -> usize {
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
