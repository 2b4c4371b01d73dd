//! `satchel quantize`: converts a model's weights to another type, with the types and names of llama.cpp's
//! `llama-quantize`.
//!
//! The layout is planned first (`quantize/assign.rs` chooses each tensor's type), then tensors are written one by one
//! (`quantize/convert.rs`), so only the metadata and a batch of rows are in memory. The output is renamed into place when
//! complete.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use satchel_gguf::{Gguf, GgufWriter, Layout, Metadata, TensorInfo, TensorType, Value};
use satchel_packer::parallel::on_some_threads;
use satchel_packer::{Error, Observer, Output, same_file, shown_bytes};

use super::Failure;
use super::out::outln;
use super::progress::Progress;
use crate::model::file_type::FileType;
use crate::quant::supports;
use crate::session::{ModelSource, OpenOptions};

mod assign;
mod convert;

use assign::{Assigned, assign};
use convert::Refused;

/// Arguments of `quantize`.
#[derive(clap::Args, Debug)]
#[command(after_help = FileType::help())]
pub struct Args {
    /// A GGUF file, any part of a split one, or a packed file
    #[arg(value_name = "IN.gguf")]
    input: PathBuf,
    /// The file to write
    #[arg(value_name = "OUT.gguf")]
    output: PathBuf,
    /// The type to convert the weights to
    #[arg(value_name = "TYPE", value_parser = FileType::parse)]
    ty: FileType,
    /// Quantise weights that are quantised already, which loses more than quantising once
    #[arg(long)]
    allow_requantize: bool,
    /// The same type for every matrix
    #[arg(long)]
    pure: bool,
    /// Threads that compute [default: the physical cores]
    #[arg(short, long, value_name = "N")]
    threads: Option<usize>,
    /// Replace OUT.gguf if it exists
    #[arg(long)]
    force: bool,
    /// Show no progress and no summary
    #[arg(short, long)]
    quiet: bool,
}

/// Value of `general.quantization_version` for the blocks written here (GGML's `GGML_QNT_VERSION`).
const QUANTIZATION_VERSION: u32 = 2;

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let threads = OpenOptions { threads: args.threads, ..OpenOptions::default() }.compute()?.threads;
    let source = ModelSource::open(Some(&args.input))?;
    let in_input = |line: String| Failure::new(format!("{}: {line}", args.input.display()));
    let assigned = assign(&source.gguf, args.ty, args.pure).map_err(|error| in_input(error.to_string()))?;
    check(&source.gguf, &assigned, args.allow_requantize).map_err(in_input)?;
    let layout = plan(&source.gguf, &assigned, args.ty)?;
    if let Some(part) = source.parts.iter().find(|part| same_file(part.file.path(), &args.output)) {
        return Err(Error::OutputIsInput { output: args.output, input: part.file.path().to_owned() }.into());
    }
    let begun = Instant::now();
    let output = Output::create_or_stream(&args.output, args.force)?;
    output.check_room(layout.file_bytes)?;
    let progress = Progress::new("quantising", args.quiet)?;
    let written = on_some_threads(threads, || write(&source, &layout, &output, &progress));
    let written = written.and_then(|()| {
        progress.flushing();
        output.commit().map_err(Stopped::Output)
    });
    progress.finish(written.map(Ok).or_else(|stopped| stopped.told(&args)))??;
    if !args.quiet {
        print_summary(&args, &source.gguf, &assigned, &layout, begun)?;
    }
    Ok(())
}

/// Checks that each tensor can be converted to its assigned type.
fn check(gguf: &Gguf, assigned: &[Assigned], allow_requantize: bool) -> Result<(), String> {
    let changed =
        || gguf.tensors.iter().zip(assigned).filter(|(tensor, to)| tensor.ty != to.ty).map(|(tensor, _)| tensor);
    if let Some(tensor) = changed().find(|tensor| !supports(tensor.ty)) {
        return Err(format!("{} is {}, which cannot be read as weights", tensor.name, tensor.ty));
    }
    let quantised: Vec<&TensorInfo> = changed().filter(|tensor| tensor.ty.block_elements() > 1).collect();
    match quantised.as_slice() {
        [first, ..] if !allow_requantize => Err(format!(
            "{} of {} tensors are quantised already ({} is {}), and quantising them again loses more; take an F32, F16 or BF16 \
             file, or pass --allow-requantize",
            quantised.len(),
            gguf.tensors.len(),
            first.name,
            first.ty
        )),
        _ => Ok(()),
    }
}

/// Layout of the new file: the input's metadata, except for the keys about quantisation and splitting.
fn plan(gguf: &Gguf, assigned: &[Assigned], ty: FileType) -> Result<Layout, Failure> {
    let entries = gguf.metadata.iter().filter(|(key, _)| !key.starts_with("split."));
    let metadata = Metadata::new(entries.map(|(key, value)| (key.to_owned(), value.clone())).collect())?;
    let mut writer = GgufWriter::with_metadata(&metadata);
    writer.set("general.quantization_version", Value::U32(QUANTIZATION_VERSION));
    writer.set("general.file_type", Value::U32(ty as u32));
    for (tensor, to) in gguf.tensors.iter().zip(assigned) {
        writer.tensor(&tensor.name, &tensor.dimensions, to.ty)?;
    }
    Ok(writer.layout()?)
}

/// Why the conversion ended early.
enum Stopped {
    Weights(Refused),
    Output(Error),
}

impl Stopped {
    /// In the shape [`Progress::finish`] takes; refused weights are not a file error, so they pass through it as `Ok`.
    fn told(self, args: &Args) -> Result<Result<(), Failure>, Error> {
        match self {
            Self::Weights(Refused::Interrupted) => Err(Error::Interrupted),
            Self::Weights(refused) => Ok(Err(Failure::new(format!("{}: {refused}", args.input.display())))),
            Self::Output(error) => Err(error),
        }
    }
}

fn write(source: &ModelSource, layout: &Layout, output: &Output, observer: &dyn Observer) -> Result<(), Stopped> {
    observer.begin(source.gguf.tensors.iter().map(|tensor| tensor.bytes).sum());
    let mut file = BufWriter::with_capacity(1 << 20, output.file());
    let written = layout.write(&mut file, |at, out| {
        let tensor = &source.gguf.tensors[at];
        observer.at(&tensor.name);
        let part = &source.parts[tensor.part];
        let mut input = open_at(part.file.path(), part.start as u64 + tensor.offset).map_err(|error| {
            let tensor = tensor.name.clone();
            io::Error::other(Refused::Unreadable { tensor, error })
        })?;
        convert::write_tensor(tensor, &mut input, layout.tensors[at].ty, out, observer)
    });
    written.and_then(|()| file.flush()).map_err(|error| stopped(error, output, layout))
}

/// Opens a file, positioned at `offset`.
fn open_at(path: &Path, offset: u64) -> io::Result<File> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    Ok(file)
}

fn stopped(error: io::Error, output: &Output, layout: &Layout) -> Stopped {
    match error.downcast::<Refused>() {
        Ok(refused) => Stopped::Weights(refused),
        Err(error) => Stopped::Output(output.write_failed(error, layout.file_bytes)),
    }
}

fn print_summary(
    args: &Args,
    gguf: &Gguf,
    assigned: &[Assigned],
    layout: &Layout,
    begun: Instant,
) -> Result<(), Failure> {
    let data: u64 = layout.tensors.iter().map(|tensor| tensor.bytes).sum();
    let weights: u64 = layout.tensors.iter().map(TensorInfo::elements).sum();
    outln!(
        "{}: {} in {:.1} s, {}, {:.2} bits a weight ({})",
        args.output.display(),
        shown_bytes(layout.file_bytes),
        begun.elapsed().as_secs_f64(),
        if args.pure { format!("pure {}", args.ty.base()) } else { args.ty.name().to_owned() },
        8.0 * data as f64 / weights.max(1) as f64,
        count(layout.tensors.iter().map(|tensor| tensor.ty)),
    )?;
    let instead: Vec<&Assigned> = assigned.iter().filter(|to| to.ty != to.wanted).collect();
    if !instead.is_empty() {
        outln!(
            "Note: {} of {} tensors have rows whose length is not a multiple of 256, so they are {} in place of {}",
            instead.len(),
            gguf.tensors.len(),
            count(instead.iter().map(|to| to.ty)),
            count(instead.iter().map(|to| to.wanted)),
        )?;
    }
    Ok(())
}

/// Counts by type: `61 F32, 211 Q8_0`.
fn count(types: impl Iterator<Item = TensorType>) -> String {
    let mut counts = std::collections::BTreeMap::new();
    types.for_each(|ty| *counts.entry(ty).or_insert(0u32) += 1);
    let texts: Vec<String> = counts.iter().map(|(ty, count)| format!("{count} {ty}")).collect();
    texts.join(", ")
}
