//! Chat templates: render a conversation in the format that the model was trained on.
//!
//! A template is a Jinja program from the model file. It runs as under Hugging Face's `apply_chat_template` in Python
//! (same whitespace rules, functions, filters and variables), but it is not trusted: it has no I/O and cannot include
//! other files, and steps, nesting, time, memory and the size of every value are limited.
//!
//! The one idea to know: the result distinguishes the template's own text from that of the messages. Only the former may
//! become control tokens, so a message cannot forge a turn by containing `<|im_end|>`.

pub mod builtin;
mod calls;
mod jinja;
pub mod message;
pub mod output;
mod source;
pub mod thinking;
pub mod tools;
pub mod verbosity;

use serde_json::{Map, Value};

/// Longest template source; the largest known is 17 KB.
const MAX_SOURCE_BYTES: usize = 1 << 20;
/// Longest error message of a template, in characters; the rest is cut.
const MAX_MESSAGE: usize = 400;

/// A model's chat template, checked for syntax.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    source: String,
    bos: String,
    eos: String,
    grows: bool,
}

/// Input of a rendering.
#[derive(Clone, Debug, Default)]
pub struct RenderRequest {
    /// The conversation, in OpenAI's format.
    pub messages: Vec<Value>,
    /// Tool definitions in OpenAI's format; `None` is Python's `None` in the template.
    pub tools: Option<Value>,
    /// End with the prompt for the model's answer.
    pub add_generation_prompt: bool,
    /// More variables for the template, such as `enable_thinking`; these override the ones above.
    pub extra: Map<String, Value>,
}

/// A rendered conversation, split where it switches between the template's own text and its input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// In order; `given` alternates.
    pub pieces: Vec<Piece>,
}

/// A part of a rendering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The text.
    pub text: String,
    /// It comes from a message, a tool or a variable, so it must not be tokenised to control tokens.
    pub given: bool,
}

impl Rendered {
    /// The whole text.
    pub fn text(&self) -> String {
        self.pieces.iter().map(|piece| piece.text.as_str()).collect()
    }
}

/// Why rendering failed. Each message is one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The template is not valid Jinja, or uses unsupported features.
    #[error("the chat template cannot be used{}: {message}", at(*.line))]
    Syntax {
        /// 1-based; `None` if it is not about a single line.
        line: Option<usize>,
        /// What is wrong.
        message: String,
    },
    /// The template refused the conversation with `raise_exception`.
    #[error("the chat template refuses this conversation: {0}")]
    Raised(String),
    /// The template failed while it ran.
    #[error("the chat template failed{}: {message}", at(*.line))]
    Failed {
        /// 1-based; `None` if it is not about a single line.
        line: Option<usize>,
        /// What is wrong.
        message: String,
    },
    /// The template exceeded a limit, such as time or memory, or was cancelled.
    #[error("the chat template was stopped: {0}")]
    Limit(String),
}

fn at(line: Option<usize>) -> String {
    line.map(|line| format!(" at line {line}")).unwrap_or_default()
}

impl ChatTemplate {
    /// Checks the template's syntax. `bos` and `eos` are the texts of the model's begin and end tokens.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<ChatTemplate, TemplateError> {
        if source.len() > MAX_SOURCE_BYTES {
            let message = format!("it is {} bytes long, and {MAX_SOURCE_BYTES} is the most", source.len());
            return Err(TemplateError::Syntax { line: None, message });
        }
        let source = source::prepared(source);
        jinja::check(&source).map_err(TemplateError::on_one_line)?;
        Ok(ChatTemplate { source, bos: bos.to_string(), eos: eos.to_string(), grows: false })
    }

    /// The same with lists that grow. Templates that append to a list (Kimi K2's) fail in Hugging Face's sandbox as soon as a
    /// conversation has a call; a model that is asked with this one sees its calls as it wrote them.
    #[must_use]
    pub fn with_growing_lists(self) -> Self {
        Self { grows: true, ..self }
    }

    /// The template's source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders a conversation. `strftime_now` uses the machine's local time.
    pub fn render(&self, request: &RenderRequest) -> Result<String, TemplateError> {
        self.render_at(request, None)
    }

    /// `render` at a given time, for reproducible output from templates that write the date.
    pub fn render_at(
        &self,
        request: &RenderRequest,
        now: Option<jiff::civil::DateTime>,
    ) -> Result<String, TemplateError> {
        Ok(self.render_pieces(request, now, &mut || false)?.text())
    }

    /// Renders a conversation, keeping template text and input apart. `cancelled` is polled a few times a second, and ends
    /// the rendering.
    pub fn render_pieces(
        &self,
        request: &RenderRequest,
        now: Option<jiff::civil::DateTime>,
        cancelled: &mut dyn FnMut() -> bool,
    ) -> Result<Rendered, TemplateError> {
        let mut runs = jinja::render(&self.source, self.variables(request), now, self.grows, cancelled);
        // Some templates loop over `tools` unconditionally, which fails for Python's None. They expect callers to leave
        // `tools` undefined.
        if matches!(runs, Err(TemplateError::Failed { .. })) && request.tools.is_none() {
            let mut variables = self.variables(request);
            variables.retain(|variable| variable.name != "tools" || request.extra.contains_key("tools"));
            runs = jinja::render(&self.source, variables, now, self.grows, cancelled).or(runs);
        }
        let runs = runs.map_err(TemplateError::on_one_line)?;
        Ok(Rendered { pieces: runs.into_iter().map(|run| Piece { text: run.text, given: run.untrusted }).collect() })
    }

    /// The variables as `apply_chat_template` sets them: `tools` and `documents` are defined even if None.
    fn variables(&self, request: &RenderRequest) -> Vec<jinja::Variable> {
        let mut variables: Map<String, Value> = Map::new();
        variables.insert("messages".into(), Value::Array(request.messages.clone()));
        variables.insert("tools".into(), request.tools.clone().unwrap_or(Value::Null));
        variables.insert("documents".into(), Value::Null);
        variables.insert("add_generation_prompt".into(), Value::Bool(request.add_generation_prompt));
        variables.extend(request.extra.clone());
        let mut all: Vec<jinja::Variable> =
            variables.into_iter().map(|(name, value)| jinja::Variable { name, value, untrusted: true }).collect();
        for (name, token) in [("bos_token", &self.bos), ("eos_token", &self.eos)] {
            if !request.extra.contains_key(name) {
                let value = Value::String(token.clone());
                all.push(jinja::Variable { name: name.into(), value, untrusted: false });
            }
        }
        all
    }
}

impl TemplateError {
    /// Messages may quote the template, so this makes them a single line that is safe for a terminal.
    fn on_one_line(self) -> TemplateError {
        let tidy = |message: String| {
            let words = message.split_whitespace().collect::<Vec<_>>().join(" ");
            let shown: String =
                words.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
            match shown.char_indices().nth(MAX_MESSAGE) {
                Some((end, _)) => shown[..end].to_owned() + "…",
                None => shown,
            }
        };
        match self {
            TemplateError::Syntax { line, message } => TemplateError::Syntax { line, message: tidy(message) },
            TemplateError::Failed { line, message } => TemplateError::Failed { line, message: tidy(message) },
            TemplateError::Raised(message) => TemplateError::Raised(tidy(message)),
            TemplateError::Limit(message) => TemplateError::Limit(tidy(message)),
        }
    }
}

#[cfg(test)]
mod tests;
