//! `satchel template`: renders a conversation to the text that is tokenised.
//!
//! Prints exactly the rendering, without a trailing newline, so that it can be compared byte for byte.

use std::path::PathBuf;

use serde_json::Value;

use super::model_args::ModelArgs;
use super::out::notice;
use super::template_args::{built_in_notice, read_template};
use super::text_input::read_text;
use super::{Failure, out};
use crate::chat::{ChatTemplate, RenderRequest};
use crate::server::json::parse_text;
use crate::session::chat_template;
use crate::session::source::{ModelSource, SourceError};
use crate::tokenizer::Tokenizer;

/// Arguments of `template`.
#[derive(clap::Args, Debug, Default)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// A JSON object with `messages`, and optionally `tools` and `add_generation_prompt` (false unless given); its other
    /// keys are variables of the template; - reads stdin
    #[arg(long, value_name = "FILE.json")]
    messages: PathBuf,
    /// A Jinja file to render in place of the model's template; with it, no model is needed
    #[arg(long, value_name = "FILE.jinja")]
    template: Option<PathBuf>,
    /// The time that the template sees, for a reproducible rendering [default: now]
    #[arg(long, value_name = "YYYY-MM-DD HH:MM:SS")]
    now: Option<String>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let request = read_request(&args.messages)?;
    let now = args.now.as_deref().map(parse_time).transpose()?;
    let text = find_template(&args)?.render_at(&request, now)?;
    out::bytes(text.as_bytes())
}

fn find_template(args: &Args) -> Result<ChatTemplate, Failure> {
    let source = match ModelSource::open(args.model.model.as_deref()) {
        Err(SourceError::NoModel) if args.template.is_some() => None,
        other => Some(other?),
    };
    let tokenizer = source.as_ref().map(|source| Tokenizer::from_gguf(&source.gguf.metadata)).transpose()?;
    match (&args.template, source) {
        (Some(path), _) => read_template(path, tokenizer.as_ref()),
        (None, Some(source)) => {
            let failed = |line: &str| Failure::new(format!("{}: {line}", source.path.display()));
            let tokenizer = tokenizer.as_ref().ok_or_else(|| failed("there is no tokenizer"))?;
            let (template, built_in) = chat_template(&source.gguf.metadata, tokenizer);
            if let Some(name) = built_in {
                notice!("satchel: {}", built_in_notice(name));
            }
            match template {
                Err(_) if !source.gguf.metadata.contains("tokenizer.chat_template") => {
                    Err(failed("the model has no chat template; name one with --template FILE.jinja"))
                }
                other => other.map_err(|line| failed(&line)),
            }
        }
        (None, None) => Err(SourceError::NoModel.into()),
    }
}

/// Reads the object; keys without a meaning of their own are variables.
fn read_request(path: &std::path::Path) -> Result<RenderRequest, Failure> {
    let text = read_text(path)?;
    let name = if path == std::path::Path::new("-") { "stdin".to_owned() } else { path.display().to_string() };
    let failed = |message: String| Failure::new(format!("{name}: {message}"));
    let mut object = match parse_text(&text) {
        Ok(Value::Object(object)) => object,
        Ok(_) => return Err(failed("it must be a JSON object with \"messages\"".into())),
        Err(error) => return Err(failed(format!("this is not JSON: {error}"))),
    };
    let messages = match object.remove("messages") {
        Some(Value::Array(messages)) => messages,
        Some(_) => return Err(failed("\"messages\" must be an array".into())),
        None => return Err(failed("\"messages\" is missing".into())),
    };
    if let Some(i) = messages.iter().position(|message| !message.is_object()) {
        return Err(failed(format!("\"messages\"[{i}] must be an object with \"role\" and \"content\"")));
    }
    let tools = match object.remove("tools") {
        None | Some(Value::Null) => None,
        Some(tools @ Value::Array(_)) => Some(tools),
        Some(_) => return Err(failed("\"tools\" must be an array".into())),
    };
    let add_generation_prompt = match object.remove("add_generation_prompt") {
        None => false,
        Some(Value::Bool(add)) => add,
        Some(_) => return Err(failed("\"add_generation_prompt\" must be true or false".into())),
    };
    Ok(RenderRequest { messages, tools, add_generation_prompt, extra: object })
}

fn parse_time(text: &str) -> Result<jiff::civil::DateTime, Failure> {
    text.parse().map_err(|_| Failure::usage(format!("--now {text:?} must be a time such as \"2026-03-14 15:09:26\"")))
}
