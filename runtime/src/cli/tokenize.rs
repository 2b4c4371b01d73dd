//! `satchel tokenize`

use super::Failure;

/// Arguments of `tokenize`.
#[derive(clap::Args, Debug, Default)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: Args) -> Result<(), Failure> {
    Err(Failure::new("tokenize: not part of this build yet"))
}
