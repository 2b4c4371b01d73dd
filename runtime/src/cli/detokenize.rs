//! `satchel detokenize`: the text of token ids.
//!
//! Prints exactly the text's bytes, without a trailing newline, so that it inverts `tokenize`.

use std::path::{Path, PathBuf};

use super::model_args::ModelArgs;
use super::text_input::{parse_tokens, read_text};
use super::tokenize::open_tokenizer;
use super::{Failure, out};

/// Arguments of `detokenize`.
#[derive(clap::Args, Debug, Default)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Token ids, or a file of them separated by white space; - reads stdin, as does leaving it out
    #[arg(value_name = "ID|FILE")]
    input: Vec<String>,
    /// A file of token ids, also one whose name is a number
    #[arg(short, long, value_name = "FILE", conflicts_with = "input")]
    file: Option<PathBuf>,
    /// Leave control tokens, such as <|im_start|>, out of the text
    #[arg(long)]
    no_special: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let tokenizer = open_tokenizer(args.model.model.as_deref())?;
    let text = match (&*args.input, &args.file) {
        ([], file) => read_text(file.as_deref().unwrap_or(Path::new("-")))?,
        ([name], _) if !is_number(name) => read_text(Path::new(name))?,
        (ids, _) => ids.join(" "),
    };
    // No token ids: the text is empty, too.
    if text.trim().is_empty() {
        return Ok(());
    }
    let tokens = parse_tokens(&text, tokenizer.vocab_size())?;
    out::bytes(&tokenizer.decode_bytes(&tokens, !args.no_special))
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}
