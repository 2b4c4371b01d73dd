//! `satchel pack`

use super::Failure;

/// Arguments of `pack`.
#[derive(clap::Args, Debug, Default)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: Args) -> Result<(), Failure> {
    Err(Failure::new("pack: not part of this build yet"))
}
