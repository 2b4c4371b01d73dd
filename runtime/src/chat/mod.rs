//! Chat templates: a conversation to the text that the model was trained on.
//!
//! A template is a Jinja program out of the model file. It is run as Hugging Face's `apply_chat_template` runs it in
//! Python (same whitespace rules, functions, filters and variables), but it is not trusted: it has no I/O and cannot
//! include other files, and steps, nesting, time and the size of every value are limited.
//!
//! The one idea to know: Jinja is Python seen through a template, so "right" means "what Python would print"; `python`
//! and `json` hold what `minijinja` does not do that way by itself.

mod environment;
mod generation;
mod json;
mod limits;
mod operators;
mod python;
mod rewrite;

use minijinja::{Error, ErrorKind};
use serde_json::{Map, Value};

/// A template's source is refused beyond this; the largest known is 17 KB.
const MAX_SOURCE_BYTES: usize = 1 << 20;

/// A model's chat template, checked for syntax.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    source: String,
    bos: String,
    eos: String,
}

/// What a template is rendered with.
#[derive(Clone, Debug, Default)]
pub struct RenderRequest {
    /// The conversation, in OpenAI's form.
    pub messages: Vec<Value>,
    /// Tool definitions in OpenAI's form; `None` gives the template Python's `None`.
    pub tools: Option<Value>,
    /// End with what makes the model answer next.
    pub add_generation_prompt: bool,
    /// More variables for the template, such as `enable_thinking`; these win over the ones above.
    pub extra: Map<String, Value>,
}

/// Why a template gave no text. Each is one line that says where and, if the person can do something, what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The template is no Jinja that can be run.
    #[error("the chat template cannot be used{}: {message}", at(*.line))]
    Syntax {
        /// 1-based; `None` where it is not one line's fault.
        line: Option<usize>,
        /// What is wrong.
        message: String,
    },
    /// The template itself refused the conversation, by `raise_exception`.
    #[error("the chat template refuses this conversation: {0}")]
    Raised(String),
    /// The template failed while it ran.
    #[error("the chat template failed{}: {message}", at(*.line))]
    Failed {
        /// 1-based; `None` where it is not one line's fault.
        line: Option<usize>,
        /// What is wrong.
        message: String,
    },
    /// The template ran into a limit: it does not end, or makes something too large.
    #[error("the chat template was stopped: {0}")]
    Limit(String),
}

fn at(line: Option<usize>) -> String {
    line.map(|line| format!(" at line {line}")).unwrap_or_default()
}

impl ChatTemplate {
    /// Checks the template's syntax. `bos` and `eos` are the texts of the model's tokens, which templates write.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<ChatTemplate, TemplateError> {
        if source.len() > MAX_SOURCE_BYTES {
            let message = format!("it is {} bytes long, and {MAX_SOURCE_BYTES} is the most", source.len());
            return Err(TemplateError::Syntax { line: None, message });
        }
        let source = generation::without_generation_tags(source);
        environment::check(&source)
            .map_err(|error| TemplateError::Syntax { line: error.line(), message: one_line(&error) })?;
        Ok(ChatTemplate { source, bos: bos.to_string(), eos: eos.to_string() })
    }

    /// Renders a conversation. `strftime_now` gives the machine's local time.
    pub fn render(&self, request: &RenderRequest) -> Result<String, TemplateError> {
        self.render_at(request, None)
    }

    /// `render` at a given time, so that a template that writes the date gives the same text again.
    pub fn render_at(
        &self,
        request: &RenderRequest,
        now: Option<jiff::civil::DateTime>,
    ) -> Result<String, TemplateError> {
        environment::render(&self.source, self.variables(request), now).map_err(|error| explain(&error))
    }

    /// The variables as `apply_chat_template` sets them: `tools` and `documents` are there even when they are None.
    fn variables(&self, request: &RenderRequest) -> Map<String, Value> {
        let mut variables = Map::new();
        variables.insert("messages".into(), Value::Array(request.messages.clone()));
        variables.insert("tools".into(), request.tools.clone().unwrap_or(Value::Null));
        variables.insert("documents".into(), Value::Null);
        variables.insert("add_generation_prompt".into(), Value::Bool(request.add_generation_prompt));
        variables.insert("bos_token".into(), Value::String(self.bos.clone()));
        variables.insert("eos_token".into(), Value::String(self.eos.clone()));
        variables.extend(request.extra.clone());
        variables
    }
}

/// The error's own words without position, name or line breaks.
fn one_line(error: &Error) -> String {
    let text = match error.detail() {
        Some(detail) => detail.to_string(),
        None => error.kind().to_string(),
    };
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn explain(error: &Error) -> TemplateError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(known) = current.downcast_ref::<TemplateError>() {
            return known.clone();
        }
        cause = current.source();
    }
    match error.kind() {
        ErrorKind::OutOfFuel => TemplateError::Limit("it does not come to an end".into()),
        _ if error.detail() == Some("recursion limit exceeded") => {
            TemplateError::Limit("it calls itself without end".into())
        }
        _ => TemplateError::Failed { line: error.line(), message: one_line(error) },
    }
}

#[cfg(test)]
mod tests;
