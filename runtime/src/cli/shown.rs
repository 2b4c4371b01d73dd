//! Text out of a file, or out of a model, on its way to a terminal.
//!
//! Names, templates and answers may hold control characters, with which they could move the cursor, change the title or
//! write to the clipboard. Whatever is printed that this program did not write itself goes through here.

use std::borrow::Cow;

/// The text with control characters as U+FFFD, and with them the marks that turn the direction of what follows; line
/// breaks and tabs stay.
pub fn shown(text: &str) -> Cow<'_, str> {
    match text.contains(is_harmful) {
        true => Cow::Owned(text.replace(is_harmful, "\u{fffd}")),
        false => Cow::Borrowed(text),
    }
}

/// The same on one line.
pub fn shown_on_one_line(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| is_harmful(c) || matches!(c, '\n' | '\t');
    match text.contains(harmful) {
        true => Cow::Owned(text.replace(harmful, "\u{fffd}")),
        false => Cow::Borrowed(text),
    }
}

fn is_harmful(c: char) -> bool {
    let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || c.is_control() && !matches!(c, '\n' | '\t')
}

#[cfg(test)]
mod tests {
    use super::{shown, shown_on_one_line};

    #[test]
    fn a_terminal_gets_no_control_characters() {
        assert_eq!(shown("a\tb\nü🦀"), "a\tb\nü🦀");
        assert_eq!(shown("\u{1b}[2Jx\r\u{9b}y\u{7}"), "\u{fffd}[2Jx\u{fffd}\u{fffd}y\u{fffd}");
        assert_eq!(shown("a\u{202e}b"), "a\u{fffd}b");
        assert_eq!(shown_on_one_line("name\nsatchel: fine\t"), "name\u{fffd}satchel: fine\u{fffd}");
    }
}
