//! `satchel perplexity`

use super::Failure;

/// Arguments of `perplexity`.
#[derive(clap::Args, Debug, Default)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: Args) -> Result<(), Failure> {
    Err(Failure::new("perplexity: not part of this build yet"))
}
