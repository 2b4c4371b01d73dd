//! `satchel bench`: a model's size, memory, prefill and decode speed, and perplexity, as a table to share.
//!
//! Speed is measured as llama.cpp's `llama-bench` does (`pp512` prefills 512 tokens, `tg128` decodes 128), perplexity as its
//! `llama-perplexity` does, so that figures compare. Models run one after the other, each alone in memory.

use std::path::PathBuf;

use clap::ValueEnum;

use super::Failure;
use super::cache_args::CacheArgs;
use super::model_args::ModelArgs;
use super::out::{self, outln};
use super::perplexity::{check_context, measure, read_text_to};
use crate::engine::Evaluator;
use crate::session::open::{Compute, load_model_on};
use crate::session::{Demand, Memory, ModelSource, OpenOptions};
use crate::tokenizer::Tokenizer;

mod report;
mod speed;

use report::{Report, Table};
use speed::Speed;

/// Arguments of `bench`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Models to measure, each a GGUF file or a packed file [default: the model this program carries]
    #[arg(value_name = "FILE", conflicts_with = "model")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    cache: CacheArgs,
    /// Prefill this many tokens (0: leave the test out)
    #[arg(short = 'p', long, value_name = "N", default_value_t = 512)]
    prompt: usize,
    /// Decode this many tokens, one at a time (0: leave the test out)
    #[arg(short = 'n', long, value_name = "N", default_value_t = 128)]
    generate: usize,
    /// Measure after this many tokens of context
    #[arg(short = 'd', long, value_name = "N", default_value_t = 0)]
    depth: usize,
    /// Timed runs, after one warm-up run
    #[arg(short = 'r', long, value_name = "N", default_value_t = 5)]
    repetitions: usize,
    /// Measure the perplexity of this text, too; `-` reads it from stdin
    #[arg(short = 'f', long = "file", value_name = "TEXT")]
    text: Option<PathBuf>,
    /// Tokens in a window of the text
    #[arg(short, long, value_name = "N", default_value_t = 512, requires = "text")]
    context: usize,
    /// Use only the first N bytes of the text (cut at a character)
    #[arg(long, value_name = "N", requires = "text")]
    bytes: Option<usize>,
    /// How to print
    #[arg(short = 'o', long, value_enum, default_value_t = Format::Table)]
    output: Format,
    /// The same as --output json
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Markdown, a row a model
    Table,
    /// One array, an object a model
    Json,
    /// An object a line for each test of speed
    Jsonl,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    if args.repetitions == 0 {
        return Err(Failure::usage("--repetitions must be at least 1"));
    }
    if args.prompt == 0 && args.generate == 0 && args.text.is_none() {
        return Err(Failure::usage("nothing to measure: --prompt and --generate are both 0, and there is no --file"));
    }
    check_context(args.context)?;
    let format = if args.json { Format::Json } else { args.output };
    let options = args.cache.apply(args.model.options());
    let compute = options.compute()?;
    let text = args.text.as_deref().map(|file| read_text_to(file, args.bytes)).transpose()?;
    // Open every file first: an unreadable one fails before any is measured.
    let files =
        if args.files.is_empty() { vec![options.model] } else { args.files.iter().cloned().map(Some).collect() };
    let sources: Vec<ModelSource> = files
        .iter()
        .map(|file| ModelSource::open(file.as_deref())?.with_adapters(&options.adapters))
        .collect::<Result<_, _>>()?;
    let table = Table::new(&sources);
    let mut reports: Vec<Report> = Vec::new();
    for source in &sources {
        let report = measured(&args, source, compute, text.as_deref())?;
        match format {
            Format::Table => table.print(&report, reports.is_empty())?,
            Format::Jsonl => report.print_tests()?,
            Format::Json => {}
        }
        reports.push(report);
        if out::is_gone() {
            return Ok(());
        }
    }
    match format {
        Format::Table => table.print_note(&reports)?,
        Format::Json => outln!("{}", serde_json::to_string_pretty(&reports)?)?,
        Format::Jsonl => {}
    }
    Ok(())
}

/// Runs every measurement on one model.
fn measured(args: &Args, source: &ModelSource, compute: Compute, text: Option<&str>) -> Result<Report, Failure> {
    let options = args.model.options();
    let (loaded, gpu) = load_model_on(source, compute, None, &options)?;
    super::chat::tell_gpu(&options.gpu, &gpu);
    if text.is_some() {
        let options = OpenOptions { context: Some(args.context), ..OpenOptions::default() };
        options.context_for(loaded.plan.trained_context)?;
    }
    let positions = args.depth + args.prompt.max(args.generate);
    let evaluator = Evaluator::new(loaded, positions.max(args.context)).with_adapters(source.all_adapters());
    let mut speed = Speed::new(evaluator, args.depth, args.repetitions);
    let tests = speed.tests(args.prompt, args.generate)?;
    let memory = speed.memory();
    let tokens = [args.depth, args.prompt, args.generate.min(1)].into_iter().max().unwrap_or(0);
    let demand = Demand::of_one(positions as u64, tokens.min(speed::BATCH_TOKENS), compute.threads, compute.cache);
    let demand = demand.on(compute.kernels);
    // Perplexity alone uses other batch sizes and keeps all logits, so the prediction would not apply.
    let predicted = Memory::predict(source, demand).ok().filter(|_| !tests.is_empty());
    let Some(text) = text else { return Ok(Report::new(source, compute, (memory, predicted), tests, None)) };
    let tokenizer = Tokenizer::from_gguf(&source.gguf.metadata)?;
    let mut evaluator = speed.into_evaluator();
    let perplexity = measure(&mut evaluator, &tokenizer, text, args.context, |_, _| {})?;
    // Logits of every position are not part of a chat's memory; report them only if nothing else was measured.
    let memory = if tests.is_empty() { evaluator.memory() } else { memory };
    Ok(Report::new(source, compute, (memory, predicted), tests, Some(perplexity)))
}
