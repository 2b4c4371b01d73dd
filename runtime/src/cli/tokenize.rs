//! `satchel tokenize`: the token ids of a text, as the model will see it.
//!
//! Reads only the vocabulary, so it is fast for a model of any size. `detokenize` and `logits --tokens` read its output.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Failure;
use super::model_args::ModelArgs;
use super::out::{notice, outln};
use super::text_input::read_exact_text;
use crate::TokenId;
use crate::session::source::ModelSource;
use crate::tokenizer::Tokenizer;

/// Arguments of `tokenize`.
#[derive(clap::Args, Debug, Default)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The text; - or no FILE reads stdin. Taken as it is, with a line break at the end and a byte-order mark
    #[arg(value_name = "FILE")]
    input: Option<PathBuf>,
    /// The text's file, as other commands take it
    #[arg(short, long, value_name = "FILE", conflicts_with = "input")]
    file: Option<PathBuf>,
    /// The text itself
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["input", "file"])]
    text: Option<String>,
    /// Leave out the tokens that begin and end a sequence, where the model adds them
    #[arg(long)]
    no_bos: bool,
    /// Tokenise <|im_start|> and the like as plain text, not as control tokens
    #[arg(long)]
    no_special: bool,
    /// Print a JSON object: `count`, and `tokens` with the `id` and `piece` of each. A piece is a text, or an array of
    /// bytes where it is part of a character
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let tokenizer = open_tokenizer(args.model.model.as_deref())?;
    let text = match &args.text {
        Some(text) => text.clone(),
        None => read_exact_text(args.input.as_deref().or(args.file.as_deref()).unwrap_or(Path::new("-")))?,
    };
    let tokens = tokenizer.encode(&text, !args.no_bos, !args.no_special)?;
    let line = if args.json { as_json(&tokenizer, &tokens).to_string() } else { as_ids(&tokens) };
    outln!("{line}")
}

/// The tokenizer of a model; its warning, if any, goes to stderr.
///
/// # Errors
/// The file cannot be opened, or the model cannot tokenise text.
pub(super) fn open_tokenizer(model: Option<&Path>) -> Result<Tokenizer, Failure> {
    let source = ModelSource::open(model)?;
    let tokenizer = Tokenizer::from_gguf(&source.gguf.metadata);
    let usable = tokenizer.and_then(|tokenizer| tokenizer.require_text().map(|()| tokenizer));
    let tokenizer = usable.map_err(|error| Failure::new(format!("{}: {error}", source.path.display())))?;
    if let Some(warning) = tokenizer.warning() {
        notice!("satchel: {}: {warning}", source.path.display());
    }
    Ok(tokenizer)
}

fn as_ids(tokens: &[TokenId]) -> String {
    let ids: Vec<String> = tokens.iter().map(TokenId::to_string).collect();
    ids.join(" ")
}

fn as_json(tokenizer: &Tokenizer, tokens: &[TokenId]) -> Value {
    let token = |&id: &TokenId| {
        let bytes = tokenizer.token_bytes(id, true);
        let piece = match str::from_utf8(&bytes) {
            Ok(text) => json!(text),
            Err(_) => json!(bytes),
        };
        json!({ "id": id, "piece": piece })
    };
    json!({ "count": tokens.len(), "tokens": tokens.iter().map(token).collect::<Vec<_>>() })
}
