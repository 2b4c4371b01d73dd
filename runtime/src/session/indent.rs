//! Ends a text at the first line that is indented too little, as an editor wants it that fills in a block.
//!
//! Pure, like `text.rs`, behind which it works: what it is given is final. A line's blanks are held back until it is known whether
//! the line is part of the text.

/// Watches the indentation of the lines behind the first.
pub(super) struct Indent {
    least: usize,
    /// The blanks of a line whose text has not begun; `None` anywhere else.
    blanks: Option<String>,
}

impl Indent {
    /// Every line but the first is to begin with at least so many blanks and tabs; 0: they may begin with anything. An empty line
    /// counts, as it does for llama.cpp's `n_indent`.
    pub(super) fn new(least: usize) -> Self {
        Self { least, blanks: None }
    }

    /// What of more text can be shown now, and whether the text has ended, behind a line feed.
    pub(super) fn push(&mut self, text: &str) -> (String, bool) {
        if self.least == 0 {
            return (text.to_owned(), false);
        }
        let mut shown = String::with_capacity(text.len());
        for character in text.chars() {
            match &mut self.blanks {
                Some(blanks) if matches!(character, ' ' | '\t') => {
                    blanks.push(character);
                    continue;
                }
                Some(blanks) if blanks.len() < self.least => {
                    self.blanks = None;
                    return (shown, true);
                }
                Some(blanks) => shown += &std::mem::take(blanks),
                None => {}
            }
            shown.push(character);
            self.blanks = (character == '\n').then(String::new);
        }
        (shown, false)
    }

    /// What was held back, at the end of the text.
    pub(super) fn finish(&mut self) -> String {
        self.blanks.take().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All text of these pieces, and whether it ended before them.
    fn run(least: usize, pieces: &[&str]) -> (String, bool) {
        let mut indent = Indent::new(least);
        let mut all = String::new();
        for piece in pieces {
            let (shown, ended) = indent.push(piece);
            all += &shown;
            if ended {
                return (all + &indent.finish(), true);
            }
        }
        (all + &indent.finish(), false)
    }

    #[test]
    fn a_line_with_less_indentation_ends_the_text() {
        let cases: [(usize, &str, &str, bool); 9] = [
            (4, "a\n    b\n  c\nd", "a\n    b\n", true),
            (4, "a\n\t\t\t\tb\n}", "a\n\t\t\t\tb\n", true),
            (4, "a\n\n    b", "a\n", true),
            (4, "a\n    b\n      c", "a\n    b\n      c", false),
            (4, "a\n  ", "a\n  ", false),
            (4, "  a\n", "  a\n", false),
            (4, "a\n    \n    b", "a\n    \n    b", false),
            (1, "é\n é\né", "é\n é\n", true),
            (0, "a\n\nb", "a\n\nb", false),
        ];
        for (least, text, left, ended) in cases {
            assert_eq!(run(least, &[text]), (left.to_owned(), ended), "{least}: {text:?}");
            let characters: Vec<String> = text.chars().map(String::from).collect();
            let characters: Vec<&str> = characters.iter().map(String::as_str).collect();
            assert_eq!(run(least, &characters), (left.to_owned(), ended), "{least}: {text:?}, one by one");
        }
    }

    #[test]
    fn only_the_blanks_of_a_new_line_wait() {
        let mut indent = Indent::new(2);
        assert_eq!(indent.push("  a  \n "), ("  a  \n".to_owned(), false));
        assert_eq!(indent.push(" "), (String::new(), false));
        assert_eq!(indent.push("b "), ("  b ".to_owned(), false));
    }
}
