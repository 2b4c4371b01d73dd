//! `satchel targets`: the platforms that this program can pack for.

use std::path::PathBuf;

use satchel_packer::Platform;
use satchel_packer::runtimes::Runtimes;

use super::Failure;
use super::out::outln;
use super::pack::own_program;

/// Arguments of `targets`.
#[derive(clap::Args, Debug, Default)]
pub struct Args {
    /// Another satchel, or a packed file [default: this one]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let path = args.file.map_or_else(own_program, Ok)?;
    let has = Runtimes::open(&path)?.platforms();
    for platform in Platform::ALL {
        outln!("{:20}  {}", platform.name(), if has.contains(&platform) { "yes" } else { "no" })?;
    }
    let all = Platform::ALL.iter().all(|platform| has.contains(platform));
    outln!("{:20}  {}", "universal", if all { "yes" } else { "no" })?;
    if !all {
        outln!("\nA release of satchel carries the programs of all platforms; a development build has only its own.")?;
    }
    Ok(())
}
