//! `satchel verify`

use super::Failure;

/// Arguments of `verify`.
#[derive(clap::Args, Debug, Default)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: Args) -> Result<(), Failure> {
    Err(Failure::new("verify: not part of this build yet"))
}
