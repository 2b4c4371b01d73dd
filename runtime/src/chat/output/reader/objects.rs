//! Calls as JSON objects, `{"name": …, "arguments": {…}}`: one or several, or an array of them.

use super::super::families::Objects;
use super::super::tree::{self, Notation, Stop, Tree};
use super::{Call, Place, Read, arguments, closed};

/// What objects call a function's name, and its arguments.
const NAMES: [&str; 3] = ["name", "tool_name", "function"];
const ARGUMENTS: [&str; 4] = ["arguments", "parameters", "args", "input"];

pub(super) fn read(format: &Objects, text: &str, place: Place<'_>) -> Read {
    list(text, format.open.len(), &format.close, format.is_bare(), place)
}

/// Reads the objects that begin at `at`.
pub(super) fn list(text: &str, mut at: usize, close: &str, bare: bool, place: Place<'_>) -> Read {
    let mut calls = Vec::new();
    loop {
        let rest = text[at..].trim_start_matches(|letter: char| letter.is_whitespace() || letter == ',');
        at = text.len() - rest.len();
        match rest.chars().next() {
            Some('{' | '[') => {}
            None if calls.is_empty() || !place.at_end => return Read::More,
            _ if calls.is_empty() => return Read::Not,
            _ => return closed(calls, text, at, close, place.at_end),
        }
        if bare && cannot_be_call(rest) {
            return Read::Not;
        }
        match tree::read(rest, Notation::Json) {
            Ok((tree, length)) => {
                let Some(own) = calls_of(&tree, bare, place) else { return Read::Not };
                calls.extend(own);
                at += length;
            }
            Err(Stop::More) => return Read::More,
            Err(Stop::Bad) => return Read::Not,
        }
        if close.is_empty() {
            return Read::Calls(calls, at);
        }
    }
}

/// An object without a mark is a call only if it begins with a call's own keys: an answer in JSON is not kept back.
fn cannot_be_call(text: &str) -> bool {
    let Some(key) = text.strip_prefix('{').and_then(|inner| inner.trim_start().strip_prefix('"')) else {
        return text.starts_with('{') && !text[1..].trim_start().is_empty();
    };
    let known = ["type", "id"].iter().chain(&NAMES).chain(&ARGUMENTS);
    match key.split_once('"') {
        Some((key, _)) => !known.clone().any(|own| *own == key),
        None => !known.clone().any(|own| own.starts_with(key)),
    }
}

fn calls_of(tree: &Tree, bare: bool, place: Place<'_>) -> Option<Vec<Call>> {
    match tree {
        Tree::List(items) => items
            .iter()
            .map(|item| call(item, place).filter(|call| !bare || place.tool(&call.name).is_some()))
            .collect(),
        one => call(one, place).filter(|call| !bare || place.tool(&call.name).is_some()).map(|call| vec![call]),
    }
}

fn call(tree: &Tree, place: Place<'_>) -> Option<Call> {
    let tree = tree.get("function").filter(|inner| matches!(inner, Tree::Object(_))).unwrap_or(tree);
    let id = tree.get("id").and_then(Tree::text).map(str::to_owned);
    let member = |names: &[&str]| names.iter().find_map(|name| tree.get(name));
    if let Some(name) = member(&NAMES).and_then(Tree::text) {
        return Some(Call { id, name: name.to_owned(), arguments: arguments(member(&ARGUMENTS))? });
    }
    // `{"get_weather": {"city": "Paris"}}`
    match tree {
        Tree::Object(members) if members.len() == 1 && place.tool(&members[0].0).is_some() => {
            Some(Call { id: None, name: members[0].0.clone(), arguments: arguments(Some(&members[0].1))? })
        }
        _ => None,
    }
}
