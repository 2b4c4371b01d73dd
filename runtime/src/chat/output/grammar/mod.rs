//! The grammars of a format's calls, from the same description as the parser.
//!
//! Text is free until a mark begins a call; what follows the mark then obeys a grammar, in Lark's notation, in which each tool's
//! arguments satisfy its schema. Marks that are control tokens stand in it by their numbers.

mod arguments;
#[cfg(test)]
mod tests;
mod values;

use serde_json::Value;

use self::arguments::Writer;
use super::OutputFormat;
use super::channels;
use super::families::{Calls, Fields, Format, Id, Named, Objects};
use super::tree::Notation;
use crate::TokenId;
use crate::chat::tools::{Tool, Tools};

/// A part of a mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spelled {
    /// A control token.
    Token(TokenId),
    /// Text, which any tokens may spell.
    Text(String),
}

/// How a call begins, and what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallRule {
    /// The text that begins it. `None`: a call is an answer that begins with `first`.
    pub mark: Option<String>,
    /// The text to begin a call with that is required.
    pub forced: String,
    /// The first letter of a call without a mark.
    pub first: char,
    /// What follows the mark, in Lark's notation.
    pub lark: String,
    /// Nothing comes after it.
    pub last: bool,
}

/// What cannot be enforced: a tool's schema, or a part of it.
pub(super) type Refused = String;

/// Parts of an answer that all grammars have.
const TERMINALS: &str = "WS: / |\\r?\\n{1,2}[ \\t]{0,20}/\n";

impl OutputFormat {
    /// The rules of calls of these tools; the first is for calls that are required. `spell` takes a mark apart. Of tools whose
    /// index is in `relaxed`, arguments are any object.
    ///
    /// # Errors
    /// One line, if arguments of a tool cannot be enforced in this format; with the tool's index.
    pub fn call_rules(
        &self,
        tools: &Tools,
        relaxed: &[usize],
        spell: &dyn Fn(&str) -> Vec<Spelled>,
    ) -> Result<Vec<CallRule>, (usize, String)> {
        let callable: Vec<(usize, &Tool)> =
            tools.list.iter().enumerate().filter(|(_, tool)| tools.may_call(tool)).collect();
        let rules = Rules { format: &self.format, callable, relaxed, parallel: tools.parallel, spell };
        if self.format.channels {
            return Ok(vec![rules.of_channels()?]);
        }
        if self.format.calls.is_bare() {
            return Ok(vec![rules.bare()?]);
        }
        let alone = CallRule { lark: rules.alone()?, ..rules.rule(self.format.calls.open()) };
        let Some(section) = &self.format.section else { return Ok(vec![alone]) };
        Ok(vec![CallRule { lark: rules.section(&section.close)?, ..rules.rule(&section.open) }, alone])
    }
}

struct Rules<'a> {
    format: &'a Format,
    callable: Vec<(usize, &'a Tool)>,
    relaxed: &'a [usize],
    parallel: bool,
    spell: &'a dyn Fn(&str) -> Vec<Spelled>,
}

/// A tool's name and the rule of its arguments.
struct Callable<'a> {
    name: &'a str,
    arguments: String,
}

type Written<T> = Result<T, (usize, Refused)>;

impl Rules<'_> {
    fn rule(&self, mark: &str) -> CallRule {
        CallRule { mark: Some(mark.to_owned()), forced: mark.to_owned(), first: ' ', lark: String::new(), last: false }
    }

    /// A call, then what stands alone after it.
    fn alone(&self) -> Written<String> {
        let mut writer = Writer::new(self.spell);
        let call = self.call(&mut writer)?;
        Ok(writer.finish(&call))
    }

    fn section(&self, close: &str) -> Written<String> {
        let mut writer = Writer::new(self.spell);
        let call = self.call(&mut writer)?;
        let call = writer.rule(&format!("{} {call}", writer.mark(self.format.calls.open())));
        let more = if self.parallel { format!("(WS? {call})*") } else { String::new() };
        let start = format!("WS? {call} {more} WS? {}", writer.mark(close));
        Ok(writer.finish(&start))
    }

    fn bare(&self) -> Written<CallRule> {
        let mut writer = Writer::new(self.spell);
        let call = self.call(&mut writer)?;
        let first = if matches!(self.format.calls, Calls::Python(_)) { '[' } else { '{' };
        Ok(CallRule { mark: None, forced: String::new(), first, lark: writer.finish(&call), last: true })
    }

    fn of_channels(&self) -> Written<CallRule> {
        let mut writer = Writer::new(self.spell);
        let tools = self.tools(&mut writer, Notation::Json)?;
        let [channel, constrain, message] =
            ["<|channel|>", "<|constrain|>", "<|message|>"].map(|mark| writer.mark(mark));
        // A name ends with white space or a mark.
        let kind = format!("(\" \"? {constrain} \"json\" | \" json\")?");
        let header = format!("({channel} \"commentary\")? {kind} {message}");
        let header = writer.rule(&header);
        let start = either(tools.iter().map(|tool| format!("{} {header} {}", quoted(tool.name), tool.arguments)));
        let lark = writer.finish(&start);
        let forced = channels::CHANNEL_MARKS.call.to_owned();
        Ok(CallRule { mark: Some(channels::RECIPIENT.to_owned()), forced, first: ' ', lark, last: true })
    }

    fn tools(&self, writer: &mut Writer<'_>, notation: Notation) -> Written<Vec<Callable<'_>>> {
        let written = |(index, tool): &(usize, &'_ Tool)| {
            let arguments = match self.relaxed.contains(index) {
                true => writer.any_object(notation),
                false => writer.object(&tool.parameters, notation).map_err(|line| (*index, line))?,
            };
            Ok((*index, arguments))
        };
        let all = self.callable.iter().map(written).collect::<Written<Vec<_>>>()?;
        let name =
            |index: usize| self.callable.iter().find(|(own, _)| *own == index).map_or("", |(_, tool)| &tool.name);
        Ok(all.into_iter().map(|(index, arguments)| Callable { name: name(index), arguments }).collect())
    }

    /// What follows the mark of a call, its end included.
    fn call(&self, writer: &mut Writer<'_>) -> Written<String> {
        match &self.format.calls {
            Calls::None => Ok("\"\"".to_owned()),
            Calls::Objects(format) => self.objects(writer, format),
            Calls::Named(format) => self.named(writer, format),
            Calls::Fields(format) => self.fields(writer, format),
            Calls::Python(format) => self.python(writer, &format.close),
        }
    }

    fn objects(&self, writer: &mut Writer<'_>, format: &Objects) -> Written<String> {
        let tools = self.tools(writer, Notation::Json)?;
        let object = writer.rule(&objects_of(&tools, format.keys));
        let close = writer.mark(&format.close);
        let body = match (format.list, self.parallel) {
            (false, _) => object,
            (true, false) => format!("\"[\" WS? {object} WS? \"]\""),
            (true, true) => format!("\"[\" WS? {object} (WS? \",\" WS? {object})* WS? \"]\""),
        };
        Ok(writer.rule(&if close.is_empty() { body } else { format!("WS? {body} WS? {close}") }))
    }

    fn named(&self, writer: &mut Writer<'_>, format: &Named) -> Written<String> {
        let tools = self.tools(writer, format.notation)?;
        let close = writer.mark(&format.close);
        let marks: Vec<String> = format.between.iter().map(|mark| writer.mark(mark)).collect();
        let each = |tool: &Callable<'_>| {
            let (name, arguments) = (quoted(tool.name), &tool.arguments);
            match (format.id, &marks[..]) {
                (Id::None, [sep, fence]) => format!(
                    "({name} {sep} {arguments} | \"function\" {sep} {name} \"\\n\" {fence} \"\\n\" {arguments} \"\\n```\")"
                ),
                (Id::None, [sep]) => format!("{name} {sep} {arguments}"),
                (Id::After, [sep, id]) => format!("{name} ({id} /[a-zA-Z0-9]{{9}}/)? {sep} {arguments}"),
                (Id::Before, [name_mark, sep]) => {
                    format!("/[a-zA-Z0-9_-]{{1,40}}/ {name_mark} {name} {sep} {arguments}")
                }
                (Id::Kimi, [sep]) => {
                    format!("{} /[0-9]{{1,3}}/ {sep} {arguments}", quoted(&format!("functions.{}:", tool.name)))
                }
                _ => format!("{name} {arguments}"),
            }
        };
        let mut calls: Vec<String> = tools.iter().map(each).collect();
        if format.or_list {
            let object = writer.rule(&objects_of(&tools, ("name", "arguments")));
            calls.push(format!("WS? \"[\" WS? {object} WS? \"]\""));
        }
        let call = writer.rule(&either(calls.into_iter()));
        Ok(if close.is_empty() { call } else { writer.rule(&format!("WS? {call} WS? {close}")) })
    }

    fn python(&self, writer: &mut Writer<'_>, close: &str) -> Written<String> {
        let mut calls = Vec::new();
        for (index, tool) in &self.callable {
            let relaxed = self.relaxed.contains(index);
            let arguments = writer.keywords(&tool.parameters, relaxed).map_err(|line| (*index, line))?;
            calls.push(format!("{} {arguments}", quoted(&format!("{}(", tool.name))));
        }
        let call = writer.rule(&either(calls.into_iter()));
        let more = if self.parallel { format!("(\", \" {call})*") } else { String::new() };
        let close = writer.mark(close);
        Ok(writer.rule(&format!("\"[\" {call} {more} \"]\" {close}")))
    }

    fn fields(&self, writer: &mut Writer<'_>, format: &Fields) -> Written<String> {
        let mut calls = Vec::new();
        let dsml = self.format.name.starts_with("deepseek");
        for (index, tool) in &self.callable {
            let relaxed = self.relaxed.contains(index);
            let fields = writer.fields(format, &tool.parameters, relaxed, dsml).map_err(|line| (*index, line))?;
            let (name_end, body) = (writer.mark(&format.name_end), writer.mark(&format.body));
            // Kimi K3 numbers its calls.
            let number = if self.format.name == "kimi-k3" { "/( index=\"[0-9]{1,3}\")?/" } else { "" };
            calls.push(format!("{} {name_end} {number} {body} WS? {fields}", quoted(&tool.name)));
        }
        Ok(writer.rule(&either(calls.into_iter())))
    }
}

/// An object with a tool's name and arguments; of one member that has the name, where keys have none.
fn objects_of(tools: &[Callable<'_>], (name_key, arguments_key): (&str, &str)) -> String {
    let key = |key: &str| quoted(&Value::from(key).to_string());
    if name_key.is_empty() {
        return either(
            tools
                .iter()
                .map(|tool| format!("\"{{\" WS? {} WS? \":\" WS? {} WS? \"}}\"", key(tool.name), tool.arguments)),
        );
    }
    // Cohere's calls are numbered.
    let number =
        if name_key == "tool_name" { "(\"\\\"tool_call_id\\\": \\\"\" /[0-9]{1,3}/ \"\\\",\" WS?)?" } else { "" };
    let call = either(tools.iter().map(|tool| {
        format!("{} WS? \",\" WS? {} WS? \":\" WS? {}", key(tool.name), key(arguments_key), tool.arguments)
    }));
    format!("\"{{\" WS? {number} {} WS? \":\" WS? ({call}) WS? \"}}\"", key(name_key))
}

fn either(alternatives: impl Iterator<Item = String>) -> String {
    alternatives.collect::<Vec<_>>().join(" | ")
}

/// A text as Lark writes it.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
