//! What an answer must follow: a schema, an expression or a grammar.

use std::path::{Path, PathBuf};

use super::Failure;
use super::text_input::read_text;
use crate::grammar::{Format, Grammar};
use crate::session::Session;

/// At most one of them.
#[derive(clap::Args, Debug, Default)]
#[group(multiple = false)]
pub struct FormatArgs {
    /// Answer with JSON that this JSON schema allows
    #[arg(long, value_name = "FILE", help_heading = "Answer")]
    schema: Option<PathBuf>,
    /// Answer with a text that this regular expression matches as a whole
    #[arg(long, value_name = "TEXT", help_heading = "Answer")]
    regex: Option<String>,
    /// Answer with a text of this grammar, in Lark's notation
    #[arg(long, value_name = "FILE.lark", help_heading = "Answer")]
    grammar: Option<PathBuf>,
}

impl FormatArgs {
    /// The compiled form of what is given.
    ///
    /// # Errors
    /// Exit status 2 for what cannot be enforced, 1 for a file that cannot be read.
    pub fn compile(&self, session: &Session) -> Result<Option<Grammar>, Failure> {
        let (name, format) = match self {
            Self { schema: Some(path), .. } => (path.display().to_string(), schema(path)?),
            Self { regex: Some(regex), .. } => ("--regex".to_owned(), Format::Regex(regex.clone())),
            Self { grammar: Some(path), .. } => (path.display().to_string(), Format::Lark(read_text(path)?)),
            _ => return Ok(None),
        };
        let compiled = session.grammars.compile(&format);
        compiled.map(Some).map_err(|error| Failure::usage(format!("{name}: {error}")))
    }
}

fn schema(path: &Path) -> Result<Format, Failure> {
    let schema = serde_json::from_str(&read_text(path)?);
    schema.map(Format::Schema).map_err(|error| Failure::usage(format!("{}: not JSON: {error}", path.display())))
}
