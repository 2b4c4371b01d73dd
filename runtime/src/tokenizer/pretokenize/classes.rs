//! Character classes of the pre-tokeniser patterns: `\p{L}`, `\p{N}`, `\p{P}`, `\s` and related ones.
//!
//! They are Unicode's general categories, not the standard library's `is_alphabetic` (which includes marks and some numbers).
//! ASCII, the most frequent case, does not need the table.

use unicode_general_category::{GeneralCategory as Category, get_general_category};

use super::scripts;

/// A class that a pattern names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// `\p{L}`
    Letter,
    /// `\p{N}`
    Number,
    /// `\p{P}`
    Punctuation,
    /// `[\p{P}\$\+<=>\^~\|]`
    Marked,
    /// ``[\p{P}\$\+<=>\^~\|`]``
    MarkedOrTick,
    /// `` [\p{P}!-/:-@\[-`{-~] ``
    AnyPunctuation,
    /// `[\r\n]`
    LineEnd,
    /// `\n`
    Newline,
    /// All characters except those that end a word in BLOOM: `[^(\s|.,!?…。，、।۔،)]`
    Unbroken,
    /// A list of ranges.
    Of(&'static [(char, char)]),
}

impl Class {
    pub(super) fn contains(self, c: char) -> bool {
        match self {
            Self::Letter => is_letter(c),
            Self::Number => is_number(c),
            Self::Punctuation => is_punctuation(c),
            Self::Marked => is_marked(c),
            Self::MarkedOrTick => c == '`' || is_marked(c),
            Self::AnyPunctuation => c.is_ascii_punctuation() || is_punctuation(c),
            Self::LineEnd => is_line_end(c),
            Self::Newline => c == '\n',
            Self::Unbroken => !is_space(c) && !scripts::BLOOM_BREAKS.contains(&c),
            Self::Of(ranges) => scripts::contains(ranges, c),
        }
    }
}

/// `\p{L}`
pub(super) fn is_letter(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphabetic();
    }
    matches!(
        get_general_category(c),
        Category::UppercaseLetter
            | Category::LowercaseLetter
            | Category::TitlecaseLetter
            | Category::ModifierLetter
            | Category::OtherLetter
    )
}

/// `\p{M}`
pub(in crate::tokenizer) fn is_mark(c: char) -> bool {
    !c.is_ascii()
        && matches!(get_general_category(c), Category::NonspacingMark | Category::SpacingMark | Category::EnclosingMark)
}

/// `[\p{L}\p{M}]`
pub(super) fn is_letter_or_mark(c: char) -> bool {
    is_letter(c) || is_mark(c)
}

/// `\p{N}`
pub(super) fn is_number(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_digit();
    }
    matches!(get_general_category(c), Category::DecimalNumber | Category::LetterNumber | Category::OtherNumber)
}

/// `\d`: `\p{Nd}`
pub(super) fn is_digit(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_digit() } else { get_general_category(c) == Category::DecimalNumber }
}

/// `[\p{L}\p{M}\p{Nd}\p{Pc}]`, the characters between which there is no `\b`.
pub(super) fn is_word(c: char) -> bool {
    is_letter_or_mark(c) || is_digit(c) || get_general_category(c) == Category::ConnectorPunctuation
}

/// `\p{P}`
pub(in crate::tokenizer) fn is_punctuation(c: char) -> bool {
    matches!(
        get_general_category(c),
        Category::ConnectorPunctuation
            | Category::DashPunctuation
            | Category::OpenPunctuation
            | Category::ClosePunctuation
            | Category::InitialPunctuation
            | Category::FinalPunctuation
            | Category::OtherPunctuation
    )
}

/// `[\p{P}\$\+<=>\^~\|]`
fn is_marked(c: char) -> bool {
    matches!(c, '$' | '+' | '<' | '=' | '>' | '^' | '~' | '|') || is_punctuation(c)
}

/// `[\p{P}\p{S}]`
pub(super) fn is_punctuation_or_symbol(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_punctuation();
    }
    is_punctuation(c)
        || matches!(
            get_general_category(c),
            Category::MathSymbol | Category::CurrencySymbol | Category::ModifierSymbol | Category::OtherSymbol
        )
}

/// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`: how a word can begin in patterns that cut by case.
pub(super) fn begins_cased(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_uppercase() } else { is_letter_or_mark(c) && !is_lowercase(c) }
}

/// `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`: how a word can continue in patterns that cut by case.
pub(super) fn continues_cased(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_lowercase();
    }
    let capital = matches!(get_general_category(c), Category::UppercaseLetter | Category::TitlecaseLetter);
    is_letter_or_mark(c) && !capital
}

fn is_lowercase(c: char) -> bool {
    get_general_category(c) == Category::LowercaseLetter
}

/// `\s`: the property White_Space.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace()
}

/// `[^\s\p{L}\p{N}]`: punctuation, symbols, marks, controls, and unassigned code points.
pub(super) fn is_other(c: char) -> bool {
    !is_space(c) && !is_letter(c) && !is_number(c)
}

/// `[\r\n]`
pub(super) fn is_line_end(c: char) -> bool {
    c == '\n' || c == '\r'
}
