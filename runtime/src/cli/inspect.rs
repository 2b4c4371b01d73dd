//! `satchel inspect`: the contents of a model file, as text or as JSON; nothing is computed with the weights.
//!
//! `report::Report` needs only the headers; the hashes read the whole file, so they come last.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use rayon::prelude::*;
use satchel_container::Digest;
use satchel_packer::parallel::on_threads;

use super::cache_args::CacheArgs;
use super::{Failure, out};
use crate::session::ModelSource;
use crate::session::open::plan_of;

mod json;
mod memory;
mod report;
mod text;

use report::Report;
pub(super) use text::short_count;

/// Arguments of `inspect`.
#[derive(clap::Args, Debug, Default)]
pub struct Args {
    /// A GGUF file, any part of a split one, or a packed file [default: the model this program carries]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// The same, as other commands take it
    #[arg(short, long, value_name = "FILE", conflicts_with = "file")]
    pub model: Option<PathBuf>,

    /// Print a JSON object with everything in it, arrays in full
    #[arg(long)]
    pub json: bool,

    /// Show the memory needed at these context lengths, in tokens [default: some up to the model's own]
    #[arg(short, long, value_name = "N,N,…", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..))]
    pub context: Vec<u64>,

    /// Cache types that the memory is shown for.
    #[command(flatten)]
    pub cache: CacheArgs,

    /// Print how the model is computed: its state, and every operation with the weights it reads
    #[arg(long, conflicts_with = "json")]
    pub plan: bool,

    /// Leave out the SHA-256 of each file, which reads all of it
    #[arg(long)]
    pub no_hash: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let path = args.file.as_deref().or(args.model.as_deref());
    let source = ModelSource::open(path)?;
    if args.plan {
        return print_plan(&source);
    }
    let report = Report::new(&source, &args.context, args.cache.types())?;
    out::outcome(print(&args, &source, &report))
}

fn print_plan(source: &ModelSource) -> Result<(), Failure> {
    let plan = plan_of(source, None)?;
    match write!(io::stdout().lock(), "{plan}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

fn print(args: &Args, source: &ModelSource, report: &Report<'_>) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    if args.json {
        let hashes = (!args.no_hash).then(|| hashes(source));
        serde_json::to_writer_pretty(&mut out, &json::value(report, hashes.as_deref()))?;
        writeln!(out)?;
    } else {
        text::write(&mut out, report)?;
        if !args.no_hash {
            // Show the rest before hashing, which reads the whole file.
            out.flush()?;
            text::write_hashes(&mut out, report, &hashes(source))?;
        }
    }
    out.flush()
}

/// SHA-256 of each GGUF file, in part order.
fn hashes(source: &ModelSource) -> Vec<Digest> {
    on_threads(|| source.parts.par_iter().map(|part| Digest::of(part.bytes())).collect())
}
