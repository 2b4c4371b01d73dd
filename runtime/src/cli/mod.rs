//! The command line: the commands, and how a failure reaches the user.
//!
//! One file per command, each with its `Args` (clap derive) and `run(args) -> Result<(), Failure>`. A failure is one
//! line on stderr that says what is wrong, where, and what to do, and a non-zero exit status.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod answer;
pub mod assemble;
pub mod bench;
mod browser;
pub mod cache_args;
pub mod chat;
mod console;
pub mod detokenize;
pub mod doctor;
pub mod embed;
pub mod format_args;
pub mod inspect;
pub mod launch;
pub mod logits;
pub mod model_args;
mod out;
pub mod pack;
pub mod payload;
pub mod perplexity;
pub mod probe_gpu;
mod progress;
pub mod quantize;
pub mod random_model;
pub mod repack;
pub mod run;
pub mod sampling_args;
pub mod serve;
pub mod shown;
mod signals;
pub mod targets;
pub mod template;
pub mod template_args;
pub mod text_input;
pub mod tokenize;
mod trial;
pub mod unpack;
pub mod verify;
mod writing;

/// Why a command failed: one line for the user, and the exit status.
#[derive(Debug)]
pub struct Failure {
    /// What is wrong, where, and what to do; without the program's name.
    pub message: String,
    /// Exit status. 1: the work failed; 2: the command line is invalid.
    pub code: u8,
}

impl Failure {
    /// A failure of the work itself (exit status 1).
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1 }
    }

    /// An invalid command line (exit status 2).
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 2 }
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(error.to_string())
    }
}

#[derive(Parser)]
#[command(
    name = "satchel",
    version,
    about = "One file that carries a model and runs it",
    after_help = "Without a command, the server and the chat page start, with the options above.",
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Args,
}

#[derive(Subcommand)]
enum Command {
    /// Start the server and the chat page (what a packed file does without arguments)
    Serve(serve::Args),
    /// Talk to the model in the terminal
    Chat(chat::Args),
    /// Start a coding agent or another client against the model, with everything set for it
    Launch(launch::Args),
    /// Answer one prompt on stdout
    Run(run::Args),
    /// Turn texts into vectors, or score documents against a query
    Embed(embed::Args),
    /// Make one executable of a model
    Pack(pack::Args),
    /// Take the model and the other entries out of a packed file
    Unpack(unpack::Args),
    /// Put a new engine in front of a packed file's payload
    Upgrade(repack::UpgradeArgs),
    /// Give a packed file another form, such as a platform's native one
    Extract(repack::ExtractArgs),
    /// Print the hash of a packed file's payload
    Payload(payload::Args),
    /// List the platforms that this program can pack for
    Targets(targets::Args),
    /// Make the executables of a release out of the runtimes of all platforms
    #[command(hide = true)]
    Assemble(assemble::Args),
    /// Check every hash of a packed file
    Verify(verify::Args),
    /// Show what a model file holds
    Inspect(inspect::Args),
    /// Write a model with its weights in another type, such as Q4_K_M
    Quantize(quantize::Args),
    /// Measure prefill and decode speed
    Bench(bench::Args),
    /// Text to token ids
    Tokenize(tokenize::Args),
    /// Token ids to text
    Detokenize(detokenize::Args),
    /// Render a chat template
    Template(template::Args),
    /// Write the logits of given tokens
    Logits(logits::Args),
    /// Perplexity of a text
    Perplexity(perplexity::Args),
    /// Say what this machine can compute on, and which GPUs can be used
    Doctor(doctor::Args),
    /// Look for GPUs, in a process of its own that a driver may take down
    #[command(hide = true)]
    ProbeGpu(probe_gpu::Args),
    /// Write a model with random weights, for benchmarks and tests
    #[command(hide = true)]
    RandomModel(random_model::Args),
}

/// Parses the command line, runs the command, and turns a failure into one line and an exit status.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os().collect();
    crate::own_file::take_flag(&mut arguments);
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout, errors to stderr.
            let printed = out::outcome(error.print());
            console::stay_readable();
            return match printed {
                Err(failure) if error.exit_code() == 0 => failed(&failure),
                _ => ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)),
            };
        }
    };
    // The user stopped it; don't hold the console open.
    let ended_by_hand = matches!(cli.command, None | Some(Command::Serve(_) | Command::Chat(_) | Command::Launch(_)));
    let result = match cli.command {
        None => serve::run(cli.serve),
        Some(Command::Serve(args)) => serve::run(args),
        Some(Command::Chat(args)) => chat::run(args),
        Some(Command::Launch(args)) => match launch::run(args) {
            Ok(code) => return code,
            Err(failure) => Err(failure),
        },
        Some(Command::Run(args)) => run::run(args),
        Some(Command::Embed(args)) => embed::run(args),
        Some(Command::Pack(args)) => pack::run(args),
        Some(Command::Unpack(args)) => unpack::run(args),
        Some(Command::Upgrade(args)) => repack::upgrade(args),
        Some(Command::Extract(args)) => repack::extract(args),
        Some(Command::Payload(args)) => payload::run(args),
        Some(Command::Targets(args)) => targets::run(args),
        Some(Command::Assemble(args)) => assemble::run(args),
        Some(Command::Verify(args)) => verify::run(args),
        Some(Command::Inspect(args)) => inspect::run(args),
        Some(Command::Quantize(args)) => quantize::run(args),
        Some(Command::Bench(args)) => bench::run(args),
        Some(Command::Tokenize(args)) => tokenize::run(args),
        Some(Command::Detokenize(args)) => detokenize::run(args),
        Some(Command::Template(args)) => template::run(args),
        Some(Command::Logits(args)) => logits::run(args),
        Some(Command::Perplexity(args)) => perplexity::run(args),
        Some(Command::Doctor(args)) => doctor::run(args),
        Some(Command::ProbeGpu(args)) => probe_gpu::run(args),
        Some(Command::RandomModel(args)) => random_model::run(args),
    };
    let code = match &result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failed(failure),
    };
    if result.is_err() || !ended_by_hand {
        console::stay_readable();
    }
    code
}

/// Reports the failure on stderr.
fn failed(failure: &Failure) -> ExitCode {
    out::notice!("satchel: {}", failure.message);
    ExitCode::from(failure.code)
}
