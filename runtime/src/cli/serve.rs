//! `satchel serve`

use super::Failure;

/// Arguments of `serve`.
#[derive(clap::Args, Debug, Default)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: Args) -> Result<(), Failure> {
    Err(Failure::new("serve: not part of this build yet"))
}
