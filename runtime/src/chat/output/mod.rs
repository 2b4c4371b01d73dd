//! How a model writes its reasoning and its tool calls: one description of a format, from which come the parser of the stream and
//! the grammar that constrains decoding.
//!
//! The description is data (`families`). `parser` parts a stream with the readers of `reader` (or `channels`, for gpt-oss), `tree`
//! reads values in every notation, `types` gives bare text the types of a tool's schema. A call is reported when it is complete.

mod channels;
mod families;
mod grammar;
mod history;
mod infer;
mod parser;
mod probe;
mod reader;
mod tree;
mod types;

use std::sync::Arc;

use serde_json::Value;

pub use self::channels::ChannelMarks;
use self::families::Format;
pub use self::grammar::{CallRule, Spelled};
pub use self::parser::OutputParser;
use self::probe::Habits;
use super::ChatTemplate;
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

/// How a model writes its reasoning and its tool calls, and what its template wants of earlier messages.
#[derive(Clone, Debug)]
pub struct OutputFormat {
    format: Arc<Format>,
    habits: Habits,
}

impl OutputFormat {
    /// The format of the model that a chat template is for: a family's that the template shows, else what comparing renderings
    /// shows, else the one in which a model is told of tools whose template knows none. `has_token` says whether a text is one of its
    /// control tokens.
    pub fn of(template_source: &str, has_token: &dyn Fn(&str) -> bool) -> Self {
        let template = ChatTemplate::new(template_source, "<s>", "</s>").ok().map(ChatTemplate::with_growing_lists);
        let habits = template.as_ref().map_or(Habits::PLAIN, Habits::of);
        let family = families::of_template(template_source);
        let inferred = || infer::infer(template.as_ref().filter(|_| habits.tools && habits.calls)?, &habits);
        let mut format =
            family.filter(|_| habits.tools).or_else(inferred).unwrap_or_else(|| families::fallback(template_source));
        if format.reasoning.is_empty() && !format.channels && has_token("<think>") && has_token("</think>") {
            format.reasoning = families::think();
        }
        Self { format: Arc::new(format), habits }
    }

    /// The format of a family by its name; [`Self::name`] has those.
    pub fn named(name: &str) -> Option<Self> {
        let habits = Habits { tools: true, calls: true, results: true, ..Habits::PLAIN };
        families::named(name).map(|format| Self { format: Arc::new(format), habits })
    }

    /// The family's name.
    pub fn name(&self) -> &'static str {
        self.format.name
    }

    /// Whether the model's template tells of tools. Where it does not, [`Self::describe_tools`] does.
    pub fn takes_tools(&self) -> bool {
        self.habits.tools
    }

    /// A parser for one answer. `prompt_tail` is the end of the prompt, which may have begun the reasoning already.
    pub fn parser(&self, tools: &Tools, prompt_tail: &str) -> OutputParser {
        OutputParser::new(Arc::clone(&self.format), tools, prompt_tail)
    }

    /// Whether a control token means something in an answer, so that its name is part of what is read.
    pub fn reads(&self, token: &str) -> bool {
        let format = &self.format;
        (format.channels && channels::MARKS.contains(&token)) || format.marks().any(|mark| mark.contains(token))
    }

    /// How reasoning ends in an answer to a prompt that ends so; `None` if none can come.
    pub fn reasoning(&self, prompt_tail: &str) -> Option<ReasoningMarks> {
        if self.format.channels {
            let end = channels::FINAL.to_owned();
            return Some(ReasoningMarks { open: None, forced: format!("{}{end}", channels::NEXT), end });
        }
        let (tail, forms) = (prompt_tail.trim_end(), &self.format.reasoning);
        if forms.iter().any(|(_, close)| tail.ends_with(close.trim_end())) {
            return None; // the template has answered for the model that it does not reason
        }
        let begun = forms.iter().find(|(open, _)| tail.ends_with(open.trim_end()));
        let (open, close) = begun.or(forms.first())?;
        let open = begun.is_none().then(|| open.to_string());
        Some(ReasoningMarks { open, end: close.to_string(), forced: format!("\n{close}\n\n") })
    }

    /// Adapts messages in OpenAI's form to what the template wants: where reasoning is, what arguments are; calls and results as
    /// text where it knows none.
    pub fn history(&self, messages: &mut Vec<Value>) {
        history::adapt(&self.format, &self.habits, messages);
    }

    /// Adds to tools in OpenAI's form what the template wants: gpt-oss's fails without a description, which callers may leave out.
    pub fn complete_tools(&self, tools: &mut Value) {
        for tool in tools.as_array_mut().into_iter().flatten().filter(|_| self.format.channels) {
            if let Some(function) = tool["function"].as_object_mut() {
                function.entry("description").or_insert_with(|| "".into());
            }
        }
    }

    /// Tells the model something in the system message, or before the first turn where a template has none.
    pub fn instruct(&self, text: &str, messages: &mut Vec<Value>) {
        history::instruct(&self.habits, text.to_owned(), messages);
    }

    /// The marks of answers that come in channels, of which one is for calls and another for the final answer.
    pub fn channels(&self) -> Option<ChannelMarks> {
        self.format.channels.then_some(channels::CHANNEL_MARKS)
    }

    /// Tells of tools in the system message, for a template that does not. It is then not given them: some fail with them.
    pub fn describe_tools(&self, tools: &Tools, messages: &mut Vec<Value>) {
        if !self.habits.tools && tools.are_offered() {
            history::introduce(&self.habits, tools, messages);
        }
    }
}

#[cfg(test)]
mod tests;
