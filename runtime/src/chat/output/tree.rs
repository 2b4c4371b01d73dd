//! Values as models write them: JSON, JSON with the slips that models make, Python's literals, Gemma 4's own notation.
//!
//! One reader for all of them, since they differ in how strings and keys are written and in little else. It is given a text that
//! may end anywhere, and tells what ends too early from what is wrong. Numbers stay text, so that none loses digits.

use serde_json::Value;

/// Deepest value within values.
const MAX_DEPTH: usize = 100;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tree {
    /// `null`, `true`, `false` or a number, as JSON writes it.
    Plain(String),
    Text(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

/// Why no value was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The text ends within it.
    More,
    /// It is none.
    Bad,
}

/// How strings and keys are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notation {
    /// JSON; Python's `True`, `False`, `None`, single quotes and line breaks within strings are taken as meant.
    Json,
    /// `{city:<|"|>Paris<|"|>,days:3}`
    Gemma,
}

/// Quotes a string of Gemma 4.
const GEMMA_QUOTE: &str = "<|\"|>";

/// Reads a value at the beginning of a text; also says where it ends.
pub(super) fn read(text: &str, notation: Notation) -> Result<(Tree, usize), Stop> {
    let mut reader = Reader { text, at: 0, notation };
    let tree = reader.value(0)?;
    Ok((tree, reader.at))
}

/// Reads a value that is the whole text, white space around it aside.
pub(super) fn whole(text: &str) -> Option<Tree> {
    // A number ends where something else begins.
    let text = format!("{} ", text.trim());
    let (tree, end) = read(&text, Notation::Json).ok()?;
    text[end..].trim().is_empty().then_some(tree)
}

impl Tree {
    /// The value as JSON.
    pub(super) fn json(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Plain(text) => out.push_str(text),
            Self::Text(text) => out.push_str(&Value::from(text.as_str()).to_string()),
            Self::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index > 0 { ", " } else { "" });
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (index, (name, value)) in members.iter().enumerate() {
                    out.push_str(if index > 0 { ", " } else { "" });
                    out.push_str(&Value::from(name.as_str()).to_string());
                    out.push_str(": ");
                    value.write(out);
                }
                out.push('}');
            }
        }
    }

    /// The value as Python writes it.
    pub(super) fn python(&self) -> String {
        let joined = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join(", ");
        match self {
            Self::Plain(plain) => match plain.as_str() {
                "true" => "True".to_owned(),
                "false" => "False".to_owned(),
                "null" => "None".to_owned(),
                number => number.to_owned(),
            },
            Self::Text(_) => self.json(),
            Self::List(items) => format!("[{}]", joined(&mut items.iter().map(Self::python))),
            Self::Object(members) => {
                let member =
                    |(name, value): &(String, Self)| format!("{}: {}", Value::from(name.as_str()), value.python());
                format!("{{{}}}", joined(&mut members.iter().map(member)))
            }
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.iter().find(|(own, _)| own == name).map(|(_, value)| value),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    notation: Notation,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// The next character that is not white space.
    fn peek(&mut self) -> Result<char, Stop> {
        let rest = self.rest();
        let trimmed = rest.trim_start();
        self.at += rest.len() - trimmed.len();
        trimmed.chars().next().ok_or(Stop::More)
    }

    fn value(&mut self, depth: usize) -> Result<Tree, Stop> {
        if depth > MAX_DEPTH {
            return Err(Stop::Bad);
        }
        match self.peek()? {
            '{' => self.object(depth),
            '[' | '(' => self.list(depth),
            '<' if self.notation == Notation::Gemma => Ok(Tree::Text(self.gemma_text()?)),
            quote @ ('"' | '\'') => Ok(Tree::Text(self.quoted(quote)?)),
            _ => self.plain(),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Tree, Stop> {
        let close = if self.rest().starts_with('[') { ']' } else { ')' };
        self.at += 1;
        let mut items = Vec::new();
        while self.peek()? != close {
            items.push(self.value(depth + 1)?);
            self.separator(close)?;
        }
        self.at += 1;
        Ok(Tree::List(items))
    }

    fn object(&mut self, depth: usize) -> Result<Tree, Stop> {
        self.at += 1;
        let mut members: Vec<(String, Tree)> = Vec::new();
        while self.peek()? != '}' {
            let name = self.key()?;
            if self.peek()? != ':' {
                return Err(Stop::Bad);
            }
            self.at += 1;
            let value = self.value(depth + 1)?;
            // The last of two members of the same name counts, as in most readers of JSON.
            members.retain(|(own, _)| *own != name);
            members.push((name, value));
            self.separator('}')?;
        }
        self.at += 1;
        Ok(Tree::Object(members))
    }

    /// A comma, or nothing before the end; a comma before the end is passed over.
    fn separator(&mut self, close: char) -> Result<(), Stop> {
        match self.peek()? {
            ',' => {
                self.at += 1;
                Ok(())
            }
            next if next == close => Ok(()),
            _ => Err(Stop::Bad),
        }
    }

    fn key(&mut self) -> Result<String, Stop> {
        match self.peek()? {
            quote @ ('"' | '\'') => self.quoted(quote),
            '<' if self.notation == Notation::Gemma => self.gemma_text(),
            _ if self.notation == Notation::Gemma => {
                let end = self.rest().find([':', '{', '}', '[', ']', ',']).ok_or(Stop::More)?;
                let name = self.rest()[..end].trim().to_owned();
                self.at += end;
                if name.is_empty() { Err(Stop::Bad) } else { Ok(name) }
            }
            _ => Err(Stop::Bad),
        }
    }

    fn gemma_text(&mut self) -> Result<String, Stop> {
        let rest = self.rest();
        let Some(inner) = rest.strip_prefix(GEMMA_QUOTE) else {
            return Err(if GEMMA_QUOTE.starts_with(rest) { Stop::More } else { Stop::Bad });
        };
        let end = inner.find(GEMMA_QUOTE).ok_or(Stop::More)?;
        self.at += end + 2 * GEMMA_QUOTE.len();
        Ok(inner[..end].to_owned())
    }

    fn quoted(&mut self, quote: char) -> Result<String, Stop> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let next = self.rest().chars().next().ok_or(Stop::More)?;
            self.at += next.len_utf8();
            match next {
                '\\' => self.escape(&mut out)?,
                next if next == quote => return Ok(out),
                next => out.push(next),
            }
        }
    }

    fn escape(&mut self, out: &mut String) -> Result<(), Stop> {
        let next = self.rest().chars().next().ok_or(Stop::More)?;
        self.at += next.len_utf8();
        match next {
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            'u' => out.push(self.unicode()?),
            '"' | '\'' | '\\' | '/' => out.push(next),
            // No escape of JSON's; models write paths and patterns so.
            other => out.extend(['\\', other]),
        }
        Ok(())
    }

    fn unicode(&mut self) -> Result<char, Stop> {
        let high = self.four_digits()?;
        if !(0xd800..0xdc00).contains(&high) {
            return Ok(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        match self.rest().as_bytes() {
            [b'\\', b'u', ..] => {}
            [] | [b'\\'] => return Err(Stop::More),
            _ => return Ok(char::REPLACEMENT_CHARACTER),
        }
        self.at += 2;
        let low = self.four_digits()?;
        let both = 0x10000 + ((high - 0xd800) << 10) + low.wrapping_sub(0xdc00);
        Ok(char::from_u32(both).filter(|_| (0xdc00..0xe000).contains(&low)).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn four_digits(&mut self) -> Result<u32, Stop> {
        let rest = self.rest();
        let digits = match rest.char_indices().nth(4) {
            Some((end, _)) => &rest[..end],
            None if rest.chars().count() == 4 => rest,
            None => return Err(Stop::More),
        };
        self.at += digits.len();
        u32::from_str_radix(digits, 16).map_err(|_| Stop::Bad)
    }

    /// A number or a literal: ends before what can be in neither.
    fn plain(&mut self) -> Result<Tree, Stop> {
        let rest = self.rest();
        let end = match self.notation {
            Notation::Json => rest.find(|letter: char| !letter.is_ascii_alphanumeric() && !"+-._".contains(letter)),
            Notation::Gemma => rest.find([',', '}', ']']),
        };
        let end = end.ok_or(Stop::More)?;
        let word = rest[..end].trim();
        self.at += end;
        match literal(word) {
            Some(plain) => Ok(Tree::Plain(plain)),
            None if self.notation == Notation::Gemma && !word.is_empty() => Ok(Tree::Text(word.to_owned())),
            None => Err(Stop::Bad),
        }
    }
}

/// JSON's form of a literal or a number.
fn literal(word: &str) -> Option<String> {
    match word {
        "true" | "True" => Some("true".to_owned()),
        "false" | "False" => Some("false".to_owned()),
        "null" | "None" => Some("null".to_owned()),
        _ => number(word),
    }
}

/// JSON's form of a number, which has digits on both sides of a point and no plus.
fn number(word: &str) -> Option<String> {
    if serde_json::from_str::<serde_json::Number>(word).is_ok() {
        return Some(word.to_owned());
    }
    let usual = word.strip_prefix('+').unwrap_or(word);
    let (sign, digits) = usual.strip_prefix('-').map_or(("", usual), |digits| ("-", digits));
    let fixed = match digits.split_once('.') {
        Some(("", fraction)) => format!("{sign}0.{fraction}"),
        Some((whole, "")) => format!("{sign}{whole}.0"),
        _ => usual.to_owned(),
    };
    serde_json::from_str::<serde_json::Number>(&fixed).is_ok().then_some(fixed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_they_are_meant() {
        for (notation, text, json) in [
            (
                Notation::Json,
                r#"{"a": [1, -2.5e3, null], "b": "x\n\u00e9\ud83d\ude00"} rest"#,
                r#"{"a": [1, -2.5e3, null], "b": "x\né😀"}"#,
            ),
            (Notation::Json, "{'a': True, \"b\": None,}", r#"{"a": true, "b": null}"#),
            (Notation::Json, "{\"a\": \"x\ny\\d\"}", r#"{"a": "x\ny\\d"}"#),
            (Notation::Json, r#"{"a": 1, "a": 123456789012345678901}"#, r#"{"a": 123456789012345678901}"#),
            (Notation::Json, "[+1, .5, 2., (3, 4)]", "[1, 0.5, 2.0, [3, 4]]"),
            (
                Notation::Gemma,
                r#"{a b:<|"|>x,y} "q"<|"|>,c:[1,{d:true}],e:word}"#,
                r#"{"a b": "x,y} \"q\"", "c": [1, {"d": true}], "e": "word"}"#,
            ),
        ] {
            assert_eq!(read(text, notation).map(|(tree, _)| tree.json()).as_deref(), Ok(json), "{text}");
        }
        for text in ["{\"a\": }", "{\"a\" 1}", "{a: 1}", "[1 2]", "nonsense,", "{\"a\": \"\\u00zz\"}", &"[".repeat(200)]
        {
            assert_eq!(read(text, Notation::Json), Err(Stop::Bad), "{text}");
        }
    }

    #[test]
    fn what_ends_early_is_not_wrong() {
        let text = r#"{"a": [1, true, "x\u00e9\ud83d\ude00\\"], "b": {"c": -1.5}}"#;
        for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
            assert_eq!(read(&text[..end], Notation::Json), Err(Stop::More), "{}", &text[..end]);
        }
        assert_eq!(read(text, Notation::Json).map(|(_, end)| end), Ok(text.len()));
    }
}
