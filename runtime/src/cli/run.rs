//! `satchel run`

use super::Failure;

/// Arguments of `run`.
#[derive(clap::Args, Debug, Default)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: Args) -> Result<(), Failure> {
    Err(Failure::new("run: not part of this build yet"))
}
