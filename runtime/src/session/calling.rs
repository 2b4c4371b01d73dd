//! The tools of a request as what its answer must follow.

use std::sync::Arc;

use super::Session;
use crate::TokenId;
use crate::chat::output::{CallRule, OutputFormat, Spelled};
use crate::chat::tools::{ToolChoice, Tools};
use crate::grammar::{Calls, Format, Grammar, GrammarError, Grammars, Wanted};
use crate::tokenizer::Tokenizer;

/// The index of the tool at fault, if it is one tool's, and a line about it.
type Refused = (Option<usize>, String);

impl From<GrammarError> for Refused {
    fn from(error: GrammarError) -> Self {
        (None, error.to_string())
    }
}

impl Session {
    /// What calls of these tools must follow. Arguments of a tool that is not `strict` are enforced as far as that is possible.
    ///
    /// # Errors
    /// The index of a tool whose schema cannot be enforced, if it is one tool's fault, and a line about it.
    pub fn calls(&self, tools: &Tools) -> Result<Calls, Refused> {
        let required = matches!(tools.choice, ToolChoice::Required | ToolChoice::Named(_));
        let mut writer = Writer {
            output: self.output.clone(),
            marks: Arc::clone(&self.marks),
            tokenizer: Arc::clone(&self.tokenizer),
            grammars: Arc::clone(&self.grammars),
            relaxed: Vec::new(),
        };
        let rules = writer.rules(tools)?;
        // What must be told before the answer, or is needed at its beginning, is compiled now.
        let waits =
            required || tools.callable().any(|tool| tool.strict) || rules.iter().any(|rule| rule.mark.is_none());
        let wanted = Wanted { rules, strict: tools.list.iter().map(|tool| tool.strict).collect() };
        if waits {
            return self.grammars.calls(wanted, required, tools.parallel, |rules| writer.compile(tools, rules));
        }
        let (parallel, tools) = (tools.parallel, tools.clone());
        let compile = move |rules: &[CallRule]| writer.compile(&tools, rules).map_err(|(_, line)| line);
        Ok(self.grammars.calls_beside(wanted, parallel, compile)?)
    }
}

/// Writes and compiles the rules of calls.
struct Writer {
    output: OutputFormat,
    marks: Arc<[TokenId]>,
    tokenizer: Arc<Tokenizer>,
    grammars: Arc<Grammars>,
    /// Tools whose arguments are any object, since their schema cannot be enforced.
    relaxed: Vec<usize>,
}

impl Writer {
    fn rules(&mut self, tools: &Tools) -> Result<Vec<CallRule>, Refused> {
        loop {
            let spell = |mark: &str| self.spell(mark);
            match self.output.call_rules(tools, &self.relaxed, &spell) {
                Ok(rules) => return Ok(rules),
                Err((index, line)) => self.relax(tools, index, line)?,
            }
        }
    }

    /// The grammars of these rules, or of more relaxed ones.
    fn compile(&mut self, tools: &Tools, rules: &[CallRule]) -> Result<Vec<Grammar>, Refused> {
        let mut compiled = self.grammars.compile_rules(rules);
        loop {
            let error = match compiled {
                Ok(grammars) => return Ok(grammars),
                Err(error) => error,
            };
            let (index, line) = self.at_fault(tools).ok_or((None, error.to_string()))?;
            self.relax(tools, index, line)?;
            let relaxed = self.rules(tools)?;
            compiled = self.grammars.compile_rules(&relaxed);
        }
    }

    fn relax(&mut self, tools: &Tools, index: usize, line: String) -> Result<(), Refused> {
        if tools.list[index].strict || self.relaxed.contains(&index) {
            return Err((Some(index), line));
        }
        self.relaxed.push(index);
        Ok(())
    }

    /// The first tool whose schema alone cannot be compiled, and why.
    fn at_fault(&self, tools: &Tools) -> Option<(usize, String)> {
        let mut others =
            tools.list.iter().enumerate().filter(|(index, tool)| tools.may_call(tool) && !self.relaxed.contains(index));
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
