//! `satchel detokenize`

use super::Failure;

/// Arguments of `detokenize`.
#[derive(clap::Args, Debug, Default)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: Args) -> Result<(), Failure> {
    Err(Failure::new("detokenize: not part of this build yet"))
}
