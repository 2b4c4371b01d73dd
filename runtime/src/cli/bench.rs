//! `satchel bench`: prefill and decode speed, measured as llama.cpp's `llama-bench` does, so that figures compare.

use std::path::PathBuf;
use std::time::Instant;

use clap::ValueEnum;
use serde::Serialize;

use super::Failure;
use super::model_args::ModelArgs;
use crate::TokenId;
use crate::engine::{Evaluator, Wanted};
use crate::session::ModelSource;
use crate::session::open::build_model;

/// Arguments of `bench`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Prefill this many tokens (0: leave the test out)
    #[arg(short = 'p', long, value_name = "N", default_value_t = 512)]
    prompt: usize,
    /// Decode this many tokens, one at a time (0: leave the test out)
    #[arg(short = 'n', long, value_name = "N", default_value_t = 128)]
    generate: usize,
    /// Measure after this many tokens of context
    #[arg(short = 'd', long, value_name = "N", default_value_t = 0)]
    depth: usize,
    /// Runs that count, after one that warms up
    #[arg(short = 'r', long, value_name = "N", default_value_t = 5)]
    repetitions: usize,
    /// How to print
    #[arg(short = 'o', long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// One array
    Json,
    /// One object a line
    Jsonl,
}

#[derive(Serialize)]
struct Row {
    test: String,
    threads: usize,
    isa: &'static str,
    model: PathBuf,
    model_bytes: u64,
    avg_ts: f64,
    stddev_ts: f64,
    samples_ts: Vec<f64>,
}

/// Largest prefill batch, as the engine takes them.
const BATCH_TOKENS: usize = 512;

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    if args.repetitions == 0 {
        return Err(Failure::usage("--repetitions must be at least 1"));
    }
    if args.prompt == 0 && args.generate == 0 {
        return Err(Failure::usage("nothing to measure: --prompt and --generate are both 0"));
    }
    let options = args.model.options();
    let compute = options.compute()?;
    let source = ModelSource::open(options.model.as_deref())?;
    let (model, backend) = build_model(&source, compute, None)?;
    let mut bench = Bench {
        state: 12_345,
        vocabulary: model.vocabulary as u64,
        evaluator: Evaluator::new(model, backend, args.depth + args.prompt.max(args.generate)),
        depth: args.depth,
    };
    let suffix = if args.depth > 0 { format!("@d{}", args.depth) } else { String::new() };
    let mut rows = Vec::new();
    let tests: [(&str, usize, Work); 2] = [("pp", args.prompt, Bench::prefill), ("tg", args.generate, Bench::decode)];
    for (name, tokens, work) in tests {
        if tokens == 0 {
            continue;
        }
        let samples_ts = bench.samples(tokens, args.repetitions, work);
        let avg_ts = samples_ts.iter().sum::<f64>() / samples_ts.len() as f64;
        let variance = samples_ts.iter().map(|sample| (sample - avg_ts).powi(2)).sum::<f64>()
            / (samples_ts.len().max(2) - 1) as f64;
        let row = Row {
            test: format!("{name}{tokens}{suffix}"),
            threads: compute.threads,
            isa: compute.kernels.name,
            model: source.path.clone(),
            model_bytes: source.model_bytes(),
            avg_ts,
            stddev_ts: variance.sqrt(),
            samples_ts,
        };
        print_row(&row, args.output, rows.is_empty())?;
        rows.push(row);
    }
    if matches!(args.output, Format::Json) {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    }
    Ok(())
}

fn print_row(row: &Row, format: Format, first: bool) -> Result<(), Failure> {
    match format {
        Format::Json => {}
        Format::Jsonl => println!("{}", serde_json::to_string(row)?),
        Format::Table => {
            if first {
                println!("{:<16} {:>8} {:>8} {:>20}", "test", "threads", "isa", "tokens/s");
            }
            let speed = format!("{:.2} ± {:.2}", row.avg_ts, row.stddev_ts);
            println!("{:<16} {:>8} {:>8} {speed:>20}", row.test, row.threads, row.isa);
        }
    }
    Ok(())
}

/// What a test does: so many tokens.
type Work = fn(&mut Bench, usize);

struct Bench {
    evaluator: Evaluator,
    vocabulary: u64,
    depth: usize,
    state: u64,
}

impl Bench {
    /// Any tokens will do, as long as they differ: a linear congruential sequence.
    fn tokens(&mut self, count: usize) -> Vec<TokenId> {
        let mut next = || {
            self.state = (self.state * 1_103_515_245 + 12_345) & 0x7fff_ffff;
            (self.state % self.vocabulary) as TokenId
        };
        (0..count).map(|_| next()).collect()
    }

    fn prefill(&mut self, count: usize) {
        for chunk in self.tokens(count).chunks(BATCH_TOKENS) {
            self.evaluator.append(chunk, Wanted::Last).expect("the context was made for this test");
        }
    }

    fn decode(&mut self, count: usize) {
        for token in self.tokens(count) {
            self.evaluator.append(&[token], Wanted::Last).expect("the context was made for this test");
        }
    }

    /// Tokens a second of each run but the first, which warms up.
    fn samples(&mut self, tokens: usize, repetitions: usize, work: Work) -> Vec<f64> {
        let mut samples = Vec::with_capacity(repetitions);
        for run in 0..=repetitions {
            self.evaluator.clear();
            self.prefill(self.depth);
            let start = Instant::now();
            work(self, tokens);
            let speed = tokens as f64 / start.elapsed().as_secs_f64();
            if run > 0 {
                samples.push(speed);
            }
        }
        samples
    }
}
