//! How a model writes its reasoning and its tool calls: one description of a format, from which come the parser of the stream and
//! the grammar that constrains decoding.
//!
//! The description is data (`families`). `parser` parts a stream with the readers of `reader` (or `channels`, for gpt-oss), `tree`
//! reads values in every notation, `types` gives bare text the types of a tool's schema. A call is reported when it is complete.

mod channels;
mod families;
mod parser;
mod reader;
mod tree;
mod types;

use std::sync::Arc;

use self::families::{Calls, Format};
pub use self::parser::OutputParser;
use super::tools::Tools;

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text of the answer.
    Text(String),
    /// Text of the reasoning before it.
    Reasoning(String),
    /// A call begins.
    ToolCall {
        /// Its number within the answer, from 0.
        call: usize,
        /// Its id, where the format has one.
        id: Option<String>,
        /// The function's name.
        name: String,
    },
    /// Arguments of a call; those of one call together are a JSON object.
    Arguments {
        /// The call's number.
        call: usize,
        /// JSON text.
        json: String,
    },
}

/// How a model writes its reasoning and its tool calls.
#[derive(Clone, Debug)]
pub struct OutputFormat {
    format: Arc<Format>,
}

impl OutputFormat {
    /// The format of the model that a chat template is for. `has_token` says whether a text is one of its control tokens.
    pub fn of(template_source: &str, _has_token: &dyn Fn(&str) -> bool) -> Self {
        let format = families::of_template(template_source).unwrap_or_else(|| families::plain(template_source));
        Self { format: Arc::new(format) }
    }

    /// The format of a family by its name; `name` has those.
    pub fn named(name: &str) -> Option<Self> {
        families::named(name).map(|format| Self { format: Arc::new(format) })
    }

    /// The family's name.
    pub fn name(&self) -> &'static str {
        self.format.name
    }

    /// Whether the model's template knows tools.
    pub fn takes_tools(&self) -> bool {
        self.format.channels || self.format.calls != Calls::None
    }

    /// A parser for one answer. `prompt_tail` is the end of the prompt, which may have begun the reasoning already.
    pub fn parser(&self, tools: &Tools, prompt_tail: &str) -> OutputParser {
        OutputParser::new(Arc::clone(&self.format), tools, prompt_tail)
    }
}
