//! The tools of a request as what its answer must follow.

use super::Session;
use crate::chat::output::Spelled;
use crate::chat::tools::{ToolChoice, Tools};
use crate::grammar::{Calls, Format};

impl Session {
    /// What calls of these tools must follow. Arguments of a tool that is not `strict` are enforced as far as that is possible.
    ///
    /// # Errors
    /// The index of a tool whose schema cannot be enforced, if it is one tool's fault, and a line about it.
    pub fn calls(&self, tools: &Tools) -> Result<Calls, (Option<usize>, String)> {
        let required = matches!(tools.choice, ToolChoice::Required | ToolChoice::Named(_));
        let spell = |mark: &str| self.spell(mark);
        let mut relaxed = Vec::new();
        loop {
            let (index, line) = match self.output.call_rules(tools, &relaxed, &spell) {
                Err((index, line)) => (index, line),
                Ok(rules) => match self.grammars.calls(rules, required, tools.parallel) {
                    Ok(calls) => return Ok(calls),
                    Err(error) => self.at_fault(tools, &relaxed).ok_or((None, error.to_string()))?,
                },
            };
            if tools.list[index].strict || relaxed.contains(&index) {
                return Err((Some(index), line));
            }
            relaxed.push(index);
        }
    }

    /// The first tool whose schema alone cannot be compiled, and why.
    fn at_fault(&self, tools: &Tools, relaxed: &[usize]) -> Option<(usize, String)> {
        let mut others =
            tools.list.iter().enumerate().filter(|(index, tool)| tools.may_call(tool) && !relaxed.contains(index));
        others.find_map(|(index, tool)| {
            let refused = self.grammars.compile(&Format::Schema(tool.parameters.clone())).err()?;
            Some((index, refused.to_string()))
        })
    }

    /// A mark in parts: its control tokens, and the text between them.
    fn spell(&self, mark: &str) -> Vec<Spelled> {
        let mut parts = Vec::new();
        let (mut text, mut rest) = (String::new(), mark);
        while let Some(letter) = rest.chars().next() {
            let token = self.marks.iter().find(|&&id| rest.starts_with(self.tokenizer.token_text(id)));
            let Some(&id) = token else {
                text.push(letter);
                rest = &rest[letter.len_utf8()..];
                continue;
            };
            if !text.is_empty() {
                parts.push(Spelled::Text(std::mem::take(&mut text)));
            }
            parts.push(Spelled::Token(id));
            rest = &rest[self.tokenizer.token_text(id).len()..];
        }
        if !text.is_empty() {
            parts.push(Spelled::Text(text));
        }
        parts
    }
}
