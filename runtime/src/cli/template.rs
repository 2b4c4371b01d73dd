//! `satchel template`

use super::Failure;

/// Arguments of `template`.
#[derive(clap::Args, Debug, Default)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: Args) -> Result<(), Failure> {
    Err(Failure::new("template: not part of this build yet"))
}
