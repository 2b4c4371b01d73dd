//! llama.cpp's notation for grammars (GBNF), translated to Lark's.
//!
//! Characters stay characters: each becomes a terminal of its own, since a lexer that takes the longest terminal would refuse
//! texts that the grammar allows.

use std::collections::HashMap;
use std::fmt::Write;

use super::GrammarError;

/// Deepest group within groups.
const MAX_DEPTH: usize = 24;

/// The same grammar in Lark's notation.
///
/// # Errors
/// One line with the place of what is not GBNF.
pub(super) fn to_lark(gbnf: &str) -> Result<String, GrammarError> {
    let mut parser = Parser { letters: gbnf.chars().collect(), at: 0, names: HashMap::new() };
    let mut lark = String::new();
    let mut defined = Vec::new();
    parser.skip(true);
    while parser.peek().is_some() {
        let name = parser.name()?;
        if defined.contains(&name) {
            return Err(parser.fault("the rule is defined before"));
        }
        parser.skip(false);
        for letter in "::=".chars() {
            parser.expect(letter)?;
        }
        parser.skip(true);
        let body = parser.alternatives(0)?;
        let _ = writeln!(lark, "r{name}: {body}");
        defined.push(name);
        if !matches!(parser.peek(), None | Some('\n' | '\r')) {
            return Err(parser.fault("a rule ends with its line"));
        }
        parser.skip(true);
    }
    let missing = parser.names.iter().find(|(_, number)| !defined.contains(number));
    if let Some((name, _)) = missing {
        return Err(GrammarError(format!("the grammar has no rule `{name}`")));
    }
    match parser.names.get("root") {
        Some(root) => Ok(format!("start: r{root}\n{lark}")),
        None => Err(GrammarError("the grammar has no rule `root`".to_owned())),
    }
}

struct Parser {
    letters: Vec<char>,
    at: usize,
    names: HashMap<String, usize>,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.letters.get(self.at).copied()
    }

    fn fault(&self, why: &str) -> GrammarError {
        let line = 1 + self.letters[..self.at.min(self.letters.len())].iter().filter(|letter| **letter == '\n').count();
        GrammarError(format!("line {line} of the grammar: {why}"))
    }

    fn expect(&mut self, wanted: char) -> Result<(), GrammarError> {
        if self.peek() != Some(wanted) {
            return Err(self.fault(&format!("`{wanted}` is missing")));
        }
        self.at += 1;
        Ok(())
    }

    /// Skips white space and comments; line breaks only where the notation allows them.
    fn skip(&mut self, breaks: bool) {
        while let Some(letter) = self.peek() {
            match letter {
                ' ' | '\t' => self.at += 1,
                '\n' | '\r' if breaks => self.at += 1,
                '#' => {
                    while self.peek().is_some_and(|letter| letter != '\n') {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    /// The number of a rule's name.
    fn name(&mut self) -> Result<usize, GrammarError> {
        let begin = self.at;
        while self.peek().is_some_and(|letter| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_') {
            self.at += 1;
        }
        if begin == self.at {
            return Err(self.fault("the name of a rule is missing"));
        }
        let name: String = self.letters[begin..self.at].iter().collect();
        let next = self.names.len();
        Ok(*self.names.entry(name).or_insert(next))
    }

    fn alternatives(&mut self, depth: usize) -> Result<String, GrammarError> {
        let mut lark = self.sequence(depth)?;
        while self.peek() == Some('|') {
            self.at += 1;
            self.skip(true);
            lark.push_str(" | ");
            lark.push_str(&self.sequence(depth)?);
        }
        Ok(lark)
    }

    fn sequence(&mut self, depth: usize) -> Result<String, GrammarError> {
        let mut lark = String::new();
        while let Some(item) = self.item(depth)? {
            self.skip(depth > 0);
            let repeated = self.repetition()?;
            let _ = write!(lark, "({item}){repeated} ");
            self.skip(depth > 0);
        }
        Ok(if lark.is_empty() { "\"\"".to_owned() } else { lark })
    }

    fn item(&mut self, depth: usize) -> Result<Option<String>, GrammarError> {
        Ok(Some(match self.peek() {
            Some('"') => self.literal()?,
            Some('[') => self.class()?,
            Some('.') => {
                self.at += 1;
                "/(?s:.)/".to_owned()
            }
            Some('(') if depth >= MAX_DEPTH => return Err(self.fault("groups are nested too deeply")),
            Some('(') => {
                self.at += 1;
                self.skip(true);
                let inner = self.alternatives(depth + 1)?;
                self.skip(true);
                self.expect(')')?;
                inner
            }
            Some(letter) if letter.is_ascii_alphanumeric() => format!("r{}", self.name()?),
            Some('<' | '!') => return Err(self.fault("tokens are not supported")),
            _ => return Ok(None),
        }))
    }

    fn literal(&mut self) -> Result<String, GrammarError> {
        self.at += 1;
        let mut lark = String::new();
        while self.peek() != Some('"') {
            let letter = self.letter()?;
            let _ = write!(lark, "/{}/ ", point(letter));
        }
        self.at += 1;
        Ok(if lark.is_empty() { "\"\"".to_owned() } else { lark })
    }

    fn class(&mut self) -> Result<String, GrammarError> {
        self.at += 1;
        let mut lark = "/[".to_owned();
        if self.peek() == Some('^') {
            self.at += 1;
            lark.push('^');
        }
        let begin = lark.len();
        while self.peek() != Some(']') {
            let first = self.letter()?;
            lark.push_str(&point(first));
            if self.peek() == Some('-') && self.letters.get(self.at + 1).is_some_and(|next| *next != ']') {
                self.at += 1;
                lark.push('-');
                lark.push_str(&point(self.letter()?));
            }
        }
        self.at += 1;
        if lark.len() == begin {
            return Err(self.fault("a class is empty"));
        }
        lark.push_str("]/");
        Ok(lark)
    }

    /// A character of a literal or a class, which may be escaped.
    fn letter(&mut self) -> Result<char, GrammarError> {
        let Some(letter) = self.peek() else { return Err(self.fault("the grammar ends within a literal or a class")) };
        self.at += 1;
        if letter != '\\' {
            return Ok(letter);
        }
        let escaped = self.peek();
        self.at += 1;
        match escaped {
            Some('n') => Ok('\n'),
            Some('r') => Ok('\r'),
            Some('t') => Ok('\t'),
            Some('x') => self.hexadecimal(2),
            Some('u') => self.hexadecimal(4),
            Some('U') => self.hexadecimal(8),
            Some(letter @ ('\\' | '"' | '[' | ']' | '-' | '^')) => Ok(letter),
            _ => Err(self.fault("an escape is unknown")),
        }
    }

    fn hexadecimal(&mut self, digits: usize) -> Result<char, GrammarError> {
        let text: String = self.letters.iter().skip(self.at).take(digits).collect();
        let letter = u32::from_str_radix(&text, 16).ok().filter(|_| text.len() == digits).and_then(char::from_u32);
        self.at += digits;
        letter.ok_or_else(|| self.fault("an escape is not a character's number"))
    }

    /// A repetition, which Lark writes in the same way.
    fn repetition(&mut self) -> Result<String, GrammarError> {
        match self.peek() {
            Some(sign @ ('*' | '+' | '?')) => {
                self.at += 1;
                Ok(sign.to_string())
            }
            Some('{') => {
                let rest = self.letters[self.at..].iter();
                let text: String = rest.take_while(|letter| **letter != '}').filter(|letter| **letter != ' ').collect();
                while self.peek().is_some_and(|letter| letter != '}') {
                    self.at += 1;
                }
                self.expect('}')?;
                let counts = &text[1..];
                let (least, most) = counts.split_once(',').unwrap_or((counts, counts));
                let is_count = |text: &str| text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
                if least.is_empty() || !is_count(least) || !is_count(most) {
                    return Err(self.fault("a repetition is {2}, {2,} or {2,3}, with numbers below 100000"));
                }
                Ok(format!("{{{counts}}}"))
            }
            _ => Ok(String::new()),
        }
    }
}

/// A character as a regular expression has it.
fn point(letter: char) -> String {
    format!("\\x{{{:x}}}", u32::from(letter))
}
