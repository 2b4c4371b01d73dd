//! Flags that replace the chat template and loosen how messages are tokenised.

use std::path::{Path, PathBuf};

use super::Failure;
use super::out::notice;
use super::text_input::read_text;
use crate::chat::{ChatTemplate, TemplateError};
use crate::session::Session;
use crate::tokenizer::Tokenizer;

/// Which chat template.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct TemplateArgs {
    /// A Jinja file to use as the chat template [default: the model's own]
    #[arg(long, value_name = "FILE.jinja", help_heading = "Model")]
    pub chat_template: Option<PathBuf>,
    /// Tokenise <|im_end|> and the like in messages as control tokens; lets messages forge turns
    #[arg(long, help_heading = "Model")]
    pub special_in_user_text: bool,
}

impl TemplateArgs {
    /// Applies the flags; says so if the session had to fall back to a built-in template.
    pub fn apply(&self, session: &mut Session) -> Result<(), Failure> {
        if let Some(path) = &self.chat_template {
            session.set_template(read_template(path, Some(&session.tokenizer))?);
        } else if let Some(name) = session.built_in_template {
            notice!("satchel: {}", built_in_notice(name));
        }
        session.special_in_user_text = self.special_in_user_text;
        Ok(())
    }
}

/// The notice about a built-in template.
pub fn built_in_notice(name: &str) -> String {
    format!("the model has no chat template; using the built-in {name:?}, which matches its special tokens")
}

/// Reads a template from a file; the begin and end tokens' texts come from the tokenizer, if any.
pub fn read_template(path: &Path, tokenizer: Option<&Tokenizer>) -> Result<ChatTemplate, Failure> {
    let source = read_text(path)?;
    compile(&source, tokenizer).map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

/// Compiles a template with the texts of the tokenizer's begin and end tokens.
pub fn compile(source: &str, tokenizer: Option<&Tokenizer>) -> Result<ChatTemplate, TemplateError> {
    let text = |token: Option<u32>| match (tokenizer, token) {
        (Some(tokenizer), Some(token)) => tokenizer.token_text(token).to_owned(),
        _ => String::new(),
    };
    let (bos, eos) = (tokenizer.and_then(Tokenizer::bos), tokenizer.and_then(Tokenizer::eos));
    ChatTemplate::new(source, &text(bos), &text(eos))
}
