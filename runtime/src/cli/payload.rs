//! `satchel payload`: the hash of a packed file's payload, which is the same for every platform.

use std::path::PathBuf;

use satchel_packer::verify::PackedFile;

use super::Failure;
use super::out::outln;
use super::pack::own_program;

/// Arguments of `payload`.
#[derive(clap::Args, Debug, Default)]
pub struct Args {
    /// The packed file [default: this one]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Runs the command. The hash is of the manifest, which lists the entries' hashes; `verify` checks those.
pub fn run(args: Args) -> Result<(), Failure> {
    let path = args.file.map_or_else(own_program, Ok)?;
    outln!("{}", PackedFile::open(&path)?.bundle.payload_sha256)
}
