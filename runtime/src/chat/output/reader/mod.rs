//! Readers of calls: each is given a text that begins with a call and may end anywhere.
//!
//! A reader looks at the text from the left and says the same whatever follows what it needed to see, so that results do not
//! depend on how a stream was cut.

pub(super) mod fields;
pub(super) mod named;
pub(super) mod objects;
pub(super) mod python;

use super::families::Calls;
use super::tree::{self, Notation, Tree};
use crate::chat::tools::{Tool, Tools};

/// Longest text between a call's mark and its arguments.
const LONGEST_HEADER: usize = 400;

/// A call of a tool.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) id: Option<String>,
    pub(super) name: String,
    /// A JSON object.
    pub(super) arguments: String,
}

/// What a text begins with.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Read {
    /// Calls, and where they end.
    Calls(Vec<Call>, usize),
    /// It ends too early to tell.
    More,
    /// Not a call.
    Not,
}

/// Where a call is read.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) tools: &'a Tools,
    /// The answer is complete: nothing follows the text.
    pub(super) at_end: bool,
    /// The mark that ends the section of calls.
    pub(super) outer: Option<&'a str>,
}

impl<'a> Place<'a> {
    fn tool(&self, name: &str) -> Option<&'a Tool> {
        self.tools.list.iter().find(|tool| tool.name == name)
    }
}

/// Reads a call at the beginning of `text`.
pub(super) fn read(calls: &Calls, text: &str, place: Place<'_>) -> Read {
    let read = match calls {
        Calls::None => Read::Not,
        Calls::Objects(format) => objects::read(format, text, place),
        Calls::Named(format) => named::read(format, text, place),
        Calls::Fields(format) => fields::read(format, text, place),
        Calls::Python(format) => python::read(format, text, place),
    };
    // Where an answer ends within a call, there is none.
    if place.at_end && read == Read::More { Read::Not } else { read }
}

/// Arguments as JSON: an object, or a text that holds one.
fn arguments(tree: Option<&Tree>) -> Option<String> {
    match tree {
        Some(object @ Tree::Object(_)) => Some(object.json()),
        Some(Tree::Text(text)) if text.trim().is_empty() => Some("{}".to_owned()),
        Some(Tree::Text(text)) => match tree::read(text.trim(), Notation::Json) {
            Ok((object @ Tree::Object(_), _)) => Some(object.json()),
            _ => None,
        },
        Some(Tree::Plain(plain)) if plain == "null" => Some("{}".to_owned()),
        None => Some("{}".to_owned()),
        Some(_) => None,
    }
}

/// Whether a text can be the name of a function.
fn is_name(text: &str) -> bool {
    let fits = |letter: char| letter.is_alphanumeric() || "_-.:/".contains(letter);
    !text.is_empty() && text.chars().all(fits)
}

/// How a text begins, compared with a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begins {
    Yes,
    No,
    /// It ends within the mark.
    Maybe,
}

fn begins(text: &str, mark: &str) -> Begins {
    if text.starts_with(mark) {
        Begins::Yes
    } else if mark.starts_with(text) {
        Begins::Maybe
    } else {
        Begins::No
    }
}

/// What is in front of a call's end that models add: fences, and a brace too many.
fn before_close(letter: char) -> bool {
    letter.is_whitespace() || letter == '`' || letter == '}'
}

/// Where a call ends that has been read up to `at`: behind its closing mark, or there where that is missing.
fn closed(calls: Vec<Call>, text: &str, at: usize, close: &str, at_end: bool) -> Read {
    let rest = text[at..].trim_start_matches(before_close);
    match begins(rest, close) {
        Begins::Yes if close.is_empty() => Read::Calls(calls, at),
        Begins::Yes => Read::Calls(calls, text.len() - rest.len() + close.len()),
        Begins::Maybe if !at_end => Read::More,
        Begins::Maybe => Read::Calls(calls, text.len()),
        Begins::No => Read::Calls(calls, at),
    }
}
