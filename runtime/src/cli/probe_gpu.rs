//! `satchel probe-gpu`, hidden: runs drivers' code in this process, so that the one that asks need not (`session/gpu/probe.rs`).

use super::Failure;
use super::out::outln;
use crate::session::gpu;

/// Arguments of `probe-gpu`.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Args {
    /// Measure the adapter of this number instead of listing all
    #[arg(long, value_name = "N")]
    measure: Option<usize>,
    /// Try the cooperative matrices of the adapter of this number
    #[arg(long, value_name = "N", conflicts_with = "measure")]
    try_matrices: Option<usize>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let printed = match (args.measure, args.try_matrices) {
        (Some(index), _) => gpu::print_measured(index),
        (None, Some(index)) => gpu::print_matrices(index),
        (None, None) => gpu::print_adapters(),
    };
    outln!("{printed}")
}
