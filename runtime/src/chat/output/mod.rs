//! How a model writes its reasoning and its tool calls.

use serde_json::Value;

use super::tools::Tools;
use crate::grammar::Format;

/// A model's format; a plain one has text alone.
#[derive(Clone, Debug, Default)]
pub struct OutputFormat;

/// A piece of what the model said.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the variants explain their fields
pub enum Part {
    /// The answer.
    Text(String),
    /// Reasoning before it.
    Reasoning(String),
    /// A call begins; calls are numbered from 0.
    ToolCall { call: usize, id: Option<String>, name: String },
    /// A fragment of a call's arguments, JSON text.
    Arguments { call: usize, json: String },
}

impl OutputFormat {
    /// The format of a template.
    pub fn of(_template: &str, _has_token: &dyn Fn(&str) -> bool) -> Self {
        Self
    }

    /// Whether tools can be offered.
    pub fn takes_tools(&self) -> bool {
        false
    }

    /// Texts that mean something in an answer; where they are control tokens, their names are part of what is read.
    pub fn marks(&self) -> Vec<String> {
        Vec::new()
    }

    /// How reasoning ends in an answer to a prompt that ends so; `None` if the model does not reason.
    pub fn reasoning(&self, _prompt_tail: &str) -> Option<ReasoningMarks> {
        None
    }

    /// Brings messages into the form that the template reads.
    pub fn history(&self, _messages: &mut Vec<Value>) {}

    /// A parser for an answer to a prompt that ends so.
    pub fn parser(&self, _tools: &Tools, _prompt_tail: &str) -> OutputParser {
        OutputParser
    }

    /// What constrains the answer.
    ///
    /// # Errors
    /// One line, if a tool's schema cannot be enforced.
    pub fn grammar(&self, _tools: &Tools, _prompt_tail: &str) -> Result<Option<Format>, String> {
        Ok(None)
    }
}

/// What is around reasoning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReasoningMarks {
    /// Begins it, where the prompt has not.
    pub open: Option<String>,
    /// Ends it; the answer begins behind this text.
    pub end: String,
    /// What is written to end it early.
    pub forced: String,
}

/// Takes an answer apart as it comes.
#[derive(Clone, Debug)]
pub struct OutputParser;

impl OutputParser {
    /// More of the answer.
    pub fn push(&mut self, text: &str) -> Vec<Part> {
        if text.is_empty() { Vec::new() } else { vec![Part::Text(text.to_owned())] }
    }

    /// The end of the answer; `whole` unless it was cut off.
    pub fn finish(&mut self, _whole: bool) -> Vec<Part> {
        Vec::new()
    }
}
