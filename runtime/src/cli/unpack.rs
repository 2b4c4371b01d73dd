//! `satchel unpack`

use super::Failure;

/// Arguments of `unpack`.
#[derive(clap::Args, Debug, Default)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: Args) -> Result<(), Failure> {
    Err(Failure::new("unpack: not part of this build yet"))
}
