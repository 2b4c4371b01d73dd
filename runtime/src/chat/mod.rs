//! Chat templates: a conversation to the text that the model was trained on.
//!
//! A template is a Jinja program out of the model file. It is run as Hugging Face's `apply_chat_template` runs it in
//! Python (same whitespace rules, functions, filters and variables), but it is not trusted: it has no I/O and cannot
//! include other files, and steps, nesting, time, memory and the size of every value are limited.
//!
//! The one idea to know: the result tells the template's own words from those of the messages. Only the former may become
//! control tokens, so nobody can forge a turn by writing `<|im_end|>`.

pub mod builtin;
mod jinja;
pub mod message;
mod source;

use serde_json::{Map, Value};

/// A template's source is refused beyond this; the largest known is 17 KB.
const MAX_SOURCE_BYTES: usize = 1 << 20;
/// Errors of a template are cut beyond this.
const MAX_MESSAGE: usize = 400;

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

/// A rendered conversation, cut where it goes from the template's own words to those it was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// In order; neighbours have different sources.
    pub pieces: Vec<Piece>,
}

/// A part of a rendering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The text.
    pub text: String,
    /// It came from a message, a tool or a variable: what it spells is text, and no control token.
    pub given: bool,
}

impl Rendered {
    /// The whole text.
    pub fn text(&self) -> String {
        self.pieces.iter().map(|piece| piece.text.as_str()).collect()
    }
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
        let source = source::prepared(source);
        jinja::check(&source).map_err(TemplateError::on_one_line)?;
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
        Ok(self.render_pieces(request, now, &mut || false)?.text())
    }

    /// Renders a conversation so that its sources can be told apart. `cancelled` is asked a few times a second, and ends
    /// the rendering.
    pub fn render_pieces(
        &self,
        request: &RenderRequest,
        now: Option<jiff::civil::DateTime>,
        cancelled: &mut dyn FnMut() -> bool,
    ) -> Result<Rendered, TemplateError> {
        let mut runs = jinja::render(&self.source, self.variables(request), now, cancelled);
        // Some templates loop over `tools` without asking whether there are any, and Python's None cannot be looped
        // over. They were made for a caller who leaves `tools` out.
        if matches!(runs, Err(TemplateError::Failed { .. })) && request.tools.is_none() {
            let mut variables = self.variables(request);
            variables.retain(|variable| variable.name != "tools" || request.extra.contains_key("tools"));
            runs = jinja::render(&self.source, variables, now, cancelled).or(runs);
        }
        let runs = runs.map_err(TemplateError::on_one_line)?;
        Ok(Rendered { pieces: runs.into_iter().map(|run| Piece { text: run.text, given: run.written }).collect() })
    }

    /// The variables as `apply_chat_template` sets them: `tools` and `documents` are there even when they are None.
    fn variables(&self, request: &RenderRequest) -> Vec<jinja::Variable> {
        let mut variables: Map<String, Value> = Map::new();
        variables.insert("messages".into(), Value::Array(request.messages.clone()));
        variables.insert("tools".into(), request.tools.clone().unwrap_or(Value::Null));
        variables.insert("documents".into(), Value::Null);
        variables.insert("add_generation_prompt".into(), Value::Bool(request.add_generation_prompt));
        variables.extend(request.extra.clone());
        let mut all: Vec<jinja::Variable> =
            variables.into_iter().map(|(name, value)| jinja::Variable { name, value, written: true }).collect();
        for (name, token) in [("bos_token", &self.bos), ("eos_token", &self.eos)] {
            if !request.extra.contains_key(name) {
                let value = Value::String(token.clone());
                all.push(jinja::Variable { name: name.into(), value, written: false });
            }
        }
        all
    }
}

impl TemplateError {
    /// A message may quote the template: it is made one line that a terminal can show.
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
