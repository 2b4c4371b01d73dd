//! Sanitises text from a file or a model for the terminal.
//!
//! Names, templates and answers may contain escape sequences that move the cursor, change the title or write to the
//! clipboard. All untrusted text that is printed goes through here.

use std::borrow::Cow;

/// Replaces control and bidirectional formatting characters by U+FFFD; line breaks and tabs stay.
pub fn shown(text: &str) -> Cow<'_, str> {
    match text.contains(is_harmful) {
        true => Cow::Owned(text.replace(is_harmful, "\u{fffd}")),
        false => Cow::Borrowed(text),
    }
}

/// As [`shown`], but replaces line breaks and tabs, too.
pub fn shown_on_one_line(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| is_harmful(c) || matches!(c, '\n' | '\t');
    match text.contains(harmful) {
        true => Cow::Owned(text.replace(harmful, "\u{fffd}")),
        false => Cow::Borrowed(text),
    }
}

fn is_harmful(c: char) -> bool {
    let is_bidi = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    is_bidi || c.is_control() && !matches!(c, '\n' | '\t')
}

#[cfg(test)]
mod tests {
    use super::{shown, shown_on_one_line};

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(shown("a\tb\nü🦀"), "a\tb\nü🦀");
        assert_eq!(shown("\u{1b}[2Jx\r\u{9b}y\u{7}"), "\u{fffd}[2Jx\u{fffd}\u{fffd}y\u{fffd}");
        assert_eq!(shown("a\u{202e}b"), "a\u{fffd}b");
        assert_eq!(shown_on_one_line("name\nsatchel: fine\t"), "name\u{fffd}satchel: fine\u{fffd}");
    }
}
