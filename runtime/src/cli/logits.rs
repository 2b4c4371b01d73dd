//! `satchel logits`

use super::Failure;

/// Arguments of `logits`.
#[derive(clap::Args, Debug, Default)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: Args) -> Result<(), Failure> {
    Err(Failure::new("logits: not part of this build yet"))
}
