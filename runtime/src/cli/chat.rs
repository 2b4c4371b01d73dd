//! `satchel chat`

use super::Failure;

/// Arguments of `chat`.
#[derive(clap::Args, Debug, Default)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: Args) -> Result<(), Failure> {
    Err(Failure::new("chat: not part of this build yet"))
}
