//! Character classes of the pre-tokeniser patterns: `\p{L}`, `\p{N}`, `\p{P}` and `\s`.
//!
//! They are Unicode's general categories, not the standard library's `is_alphabetic` (which also takes marks and
//! some numbers). ASCII, nearly all text, is answered without the table.

use unicode_general_category::{GeneralCategory as Category, get_general_category};

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

/// `\p{N}`
pub(super) fn is_number(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_digit();
    }
    matches!(get_general_category(c), Category::DecimalNumber | Category::LetterNumber | Category::OtherNumber)
}

/// `\p{P}`
pub(super) fn is_punctuation(c: char) -> bool {
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

/// `\s`: the property White_Space.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace()
}

/// `[^\s\p{L}\p{N}]`: punctuation, symbols, marks, controls, and what Unicode has not assigned.
pub(super) fn is_other(c: char) -> bool {
    !is_space(c) && !is_letter(c) && !is_number(c)
}

/// `[\r\n]`
pub(super) fn is_line_end(c: char) -> bool {
    c == '\n' || c == '\r'
}
