//! The format of a template that no family has: found by rendering it in pairs and comparing.
//!
//! One call of a function without arguments, two calls with two arguments each: what is around the known words is what
//! the format has. It is taken only if what it then reads is what was rendered.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::families::{self, Calls, Fields, Format, Id, Mark, Named, Objects, Section};
use super::probe::{Habits, rendered, user};
use super::tree::{self, Notation, Tree};
use crate::chat::ChatTemplate;

const NAMES: [&str; 2] = ["zqalpha", "zqbeta"];
const KEYS: [&str; 2] = ["zqone", "zqtwo"];
const VALUES: [&str; 4] = ["zqa", "zqb", "zqc", "zqd"];

/// The format of a template that writes calls.
pub(super) fn infer(template: &ChatTemplate, habits: &Habits) -> Option<Format> {
    let text = calls_of(template, habits)?;
    let calls = objects(&text).or_else(|| named(&text)).or_else(|| fields(&text))?;
    let (calls, section) = calls;
    Some(Format { section, ..families::inferred(template.source(), calls) })
}

/// What a template writes for a message with two calls, the conversation before it left out.
fn calls_of(template: &ChatTemplate, habits: &Habits) -> Option<String> {
    let call = |index: usize| {
        let arguments = json!({KEYS[0]: VALUES[2 * index], KEYS[1]: VALUES[2 * index + 1]});
        let arguments = if habits.text_arguments { Value::from(arguments.to_string()) } else { arguments };
        let id = format!("zq123456{index}");
        json!({"id": id, "type": "function", "function": {"name": NAMES[index], "arguments": arguments}})
    };
    let message = json!({"role": "assistant", "content": "", "tool_calls": [call(0), call(1)]});
    let text = rendered(template, vec![user(), message.clone()])?;
    // A mark that belongs to the turn is before every answer.
    let plain = rendered(template, vec![user(), json!({"role": "assistant", "content": "zqplain"})])?;
    let begin = common_prefix(&text, plain.split("zqplain").next()?);
    let end = common_suffix(&text[begin..], plain.rsplit("zqplain").next()?);
    Some(text[begin..text.len() - end].to_owned())
}

fn common_prefix(a: &str, b: &str) -> usize {
    a.char_indices().zip(b.chars()).take_while(|((_, a), b)| a == b).last().map_or(0, |((at, a), _)| at + a.len_utf8())
}

fn common_suffix(a: &str, b: &str) -> usize {
    a.chars().rev().zip(b.chars().rev()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum()
}

fn mark(text: &str) -> Mark {
    Cow::Owned(text.trim().to_owned())
}

/// Around calls: before the first, between two, after the last.
struct Around<'a> {
    before: &'a str,
    between: &'a str,
    after: &'a str,
}

impl Around<'_> {
    /// What begins and ends a call, and what is around all of them.
    fn parted(&self) -> (String, String, Option<Section>) {
        let (before, between, after) = (self.before.trim(), self.between.trim(), self.after.trim());
        let open = common_suffix(before, between);
        let close = common_prefix(&between[..between.len() - open], after);
        let (outer_open, outer_close) = (before[..before.len() - open].trim(), after[close..].trim());
        let own_open = before[before.len() - open..].trim().to_owned();
        let own_close = between[..close].trim().to_owned();
        if own_open.is_empty() {
            return (outer_open.to_owned(), outer_close.to_owned(), None);
        }
        let section = (!outer_open.is_empty() && !outer_close.is_empty()).then(|| Section {
            open: mark(outer_open),
            close: mark(outer_close),
            sure: false,
        });
        (own_open, own_close, section)
    }
}

/// Places of a value in a text that begins at `from` at the earliest.
fn object_from(text: &str, from: usize, word: &str) -> Option<(usize, usize, Tree)> {
    text[from..].match_indices('{').map(|(at, _)| from + at).find_map(|at| {
        let (tree, length) = tree::read(&text[at..], Notation::Json).ok()?;
        text[at..at + length].contains(word).then_some((at, at + length, tree))
    })
}

fn objects(text: &str) -> Option<(Calls, Option<Section>)> {
    let (begin, end, tree) = object_from(text, 0, NAMES[0])?;
    let (next, last, _) = object_from(text, end, NAMES[1])?;
    let inner = tree.get("function").filter(|inner| matches!(inner, Tree::Object(_))).unwrap_or(&tree);
    let name = ["name", "tool_name", "function"].into_iter().find(|key| inner.get(key).is_some())?;
    let arguments = ["arguments", "parameters", "args", "input"].into_iter().find(|key| inner.get(key).is_some())?;
    let around = Around { before: &text[..begin], between: &text[end..next], after: &text[last..] };
    let list = around.between.trim() == ",";
    let (open, close, section) = if list {
        let open = around.before.trim().trim_end_matches('[').trim().to_owned();
        (open, around.after.trim().trim_start_matches(']').trim().to_owned(), None)
    } else {
        around.parted()
    };
    Some((Calls::Objects(Objects { open: mark(&open), close: mark(&close), keys: (name, arguments), list }), section))
}

fn named(text: &str) -> Option<(Calls, Option<Section>)> {
    let first = text.find(NAMES[0])?;
    let (begin, end, _) = object_from(text, first, KEYS[0])?;
    let second = end + text[end..].find(NAMES[1])?;
    let (_, last, _) = object_from(text, second, KEYS[0])?;
    let around = Around { before: &text[..first], between: &text[end..second], after: &text[last..] };
    let (open, close, section) = around.parted();
    let between = text[first + NAMES[0].len()..begin].trim();
    let between = if between.is_empty() { Vec::new() } else { vec![mark(between)] };
    let calls = Named {
        open: mark(&open),
        between,
        close: mark(&close),
        notation: Notation::Json,
        id: Id::None,
        or_list: false,
    };
    (!calls.open.is_empty()).then_some((Calls::Named(calls), section))
}

fn fields(text: &str) -> Option<(Calls, Option<Section>)> {
    let mut at = 0;
    let mut gaps = Vec::new();
    let words = [NAMES[0], KEYS[0], VALUES[0], KEYS[1], VALUES[1], NAMES[1], KEYS[0], VALUES[2], KEYS[1], VALUES[3]];
    for word in words {
        let next = at + text[at..].find(word)?;
        gaps.push(&text[at..next]);
        at = next + word.len();
    }
    let (to_key, to_value, to_next_key) = (gaps[1], gaps[2], gaps[3]);
    let key = common_suffix(to_key, to_next_key);
    // What ends a tag is not part of the next one, even where all tags end with it.
    let key_mark = to_key[to_key.len() - key..].trim_start_matches(['>', ']', '"', ' ', '\n']);
    let name_end = &to_key[..to_key.len() - key_mark.len()];
    let value_end = to_next_key[..to_next_key.len() - key_mark.len()].trim();
    let (between, after) = (gaps[5].trim_start(), text[at..].trim_start());
    let around =
        Around { before: gaps[0], between: between.strip_prefix(value_end)?, after: after.strip_prefix(value_end)? };
    let (open, close, section) = around.parted();
    let calls = Fields {
        open: mark(&open),
        name_end: mark(name_end),
        body: mark(""),
        close: mark(&close),
        key: mark(key_mark),
        key_end: mark(to_value),
        value: mark(""),
        value_end: mark(value_end),
        lines: to_value.ends_with('\n'),
        escaped: false,
    };
    let whole = [&calls.open, &calls.close, &calls.key, &calls.value_end].iter().all(|mark| !mark.is_empty());
    (whole && !calls.key_end.is_empty()).then_some((Calls::Fields(calls), section))
}
