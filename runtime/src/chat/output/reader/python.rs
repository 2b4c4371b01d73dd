//! Calls as Python writes them, `[get_weather(city="Paris", days=3)]`.

use super::super::families::Python;
use super::super::tree::{self, Notation, Stop, Tree};
use super::{Call, Place, Read, closed};

pub(super) fn read(format: &Python, text: &str, place: Place<'_>) -> Read {
    let mut reader = Reader { text, at: format.open.len() };
    match reader.list() {
        Ok(calls) if format.is_bare() && calls.iter().any(|call| place.tool(&call.name).is_none()) => Read::Not,
        Ok(calls) if calls.is_empty() => Read::Not,
        Ok(calls) => closed(calls, text, reader.at, &format.close, place.at_end),
        Err(Stop::More) => Read::More,
        Err(Stop::Bad) => Read::Not,
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&mut self) -> Result<char, Stop> {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        self.text[self.at..].chars().next().ok_or(Stop::More)
    }

    fn take(&mut self, wanted: char) -> Result<(), Stop> {
        if self.peek()? != wanted {
            return Err(Stop::Bad);
        }
        self.at += wanted.len_utf8();
        Ok(())
    }

    /// The text up to `end`, which is an identifier, with dots in it if it is a function's.
    fn identifier(&mut self, end: char) -> Result<&'a str, Stop> {
        self.peek()?;
        let rest = &self.text[self.at..];
        let fits = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == '.' || letter == '-';
        let length = rest.find(|letter| !fits(letter)).ok_or(Stop::More)?;
        self.at += length;
        self.take(end)?;
        if length == 0 { Err(Stop::Bad) } else { Ok(&rest[..length]) }
    }

    fn list(&mut self) -> Result<Vec<Call>, Stop> {
        self.take('[')?;
        let mut calls = Vec::new();
        while self.peek()? != ']' {
            calls.push(self.call()?);
            self.separator(']')?;
        }
        self.at += 1;
        Ok(calls)
    }

    fn call(&mut self) -> Result<Call, Stop> {
        let name = self.identifier('(')?.to_owned();
        let mut members: Vec<(String, Tree)> = Vec::new();
        while self.peek()? != ')' {
            let key = self.identifier('=')?;
            self.peek()?;
            let (value, length) = tree::read(&self.text[self.at..], Notation::Json)?;
            self.at += length;
            members.retain(|(own, _)| own != key);
            members.push((key.to_owned(), value));
            self.separator(')')?;
        }
        self.at += 1;
        Ok(Call { id: None, name, arguments: Tree::Object(members).json() })
    }

    fn separator(&mut self, close: char) -> Result<(), Stop> {
        match self.peek()? {
            ',' => self.take(','),
            next if next == close => Ok(()),
            _ => Err(Stop::Bad),
        }
    }
}
