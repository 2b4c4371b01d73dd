//! `satchel logits`: the logits at every position of a token sequence, for comparison with other programs.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use satchel_packer::Output;

use super::Failure;
use super::cache_args::CacheArgs;
use super::model_args::ModelArgs;
use super::out::notice;
use super::text_input::{parse_tokens, read_text};
use crate::engine::{Evaluator, Wanted};
use crate::session::ModelSource;
use crate::session::open::load_model_on;

/// Arguments of `logits`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    cache: CacheArgs,
    /// Token ids separated by white space; `-` reads them from stdin
    #[arg(long, value_name = "FILE")]
    tokens: PathBuf,
    /// The file to write: little-endian f32, shape (tokens, vocabulary)
    #[arg(short, long, value_name = "OUT.f32")]
    output: PathBuf,
    /// Prefill this many tokens at a time; does not change the logits
    #[arg(long, value_name = "N", default_value_t = 512)]
    chunk: usize,
    /// Replace OUT.f32 if it exists
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    if args.chunk == 0 {
        return Err(Failure::usage("--chunk must be at least 1"));
    }
    let options = args.cache.apply(args.model.options());
    let source = ModelSource::of(&options)?;
    let (loaded, gpu) = load_model_on(&source, options.compute()?, options.context, &options)?;
    super::chat::tell_gpu(&options.gpu, &gpu);
    let tokens = parse_tokens(&read_text(&args.tokens)?, loaded.plan.vocabulary)?;
    let vocabulary = loaded.plan.vocabulary;
    let trained = loaded.plan.trained_context;
    if tokens.len() > trained {
        return Err(Failure::new(format!(
            "{} tokens are more than the {trained} that the model was trained on, and its answers beyond them are nonsense",
            tokens.len()
        )));
    }
    let mut evaluator = Evaluator::new(loaded, tokens.len()).with_adapters(source.all_adapters());

    let output = Output::create_or_stream(&args.output, args.force)?;
    let bytes = 4 * tokens.len() as u64 * vocabulary as u64;
    output.check_room(bytes)?;
    let mut writer = BufWriter::new(output.file());
    for chunk in tokens.chunks(args.chunk) {
        let logits = evaluator.append(chunk, Wanted::All)?;
        write_f32(&mut writer, logits).map_err(|error| output.write_failed(error, bytes))?;
    }
    writer.flush().map_err(|error| output.write_failed(error, bytes))?;
    drop(writer);
    output.commit()?;
    notice!("{} x {vocabulary} logits in {}", tokens.len(), args.output.display());
    Ok(())
}

fn write_f32(writer: &mut BufWriter<&File>, values: &[f32]) -> std::io::Result<()> {
    values.iter().try_for_each(|value| writer.write_all(&value.to_le_bytes()))
}
