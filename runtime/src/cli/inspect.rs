//! `satchel inspect`

use super::Failure;

/// Arguments of `inspect`.
#[derive(clap::Args, Debug, Default)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: Args) -> Result<(), Failure> {
    Err(Failure::new("inspect: not part of this build yet"))
}
