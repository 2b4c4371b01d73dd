//! `satchel bench`

use super::Failure;

/// Arguments of `bench`.
#[derive(clap::Args, Debug, Default)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: Args) -> Result<(), Failure> {
    Err(Failure::new("bench: not part of this build yet"))
}
