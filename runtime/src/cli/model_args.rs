//! Flags shared by every command that opens a model.

use std::path::PathBuf;

use super::Failure;
use super::out::notice;
use crate::environment;
use crate::session::check::check_now;
use crate::session::gpu::GpuChoice;
use crate::session::{AdapterOption, Cpus, ModelSource, OpenOptions, Session, Speculation};

/// Which model, and how it runs.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct ModelArgs {
    /// A GGUF file, any part of a split one, or a packed file [default: the model this program carries]
    #[arg(short, long, value_name = "FILE", help_heading = "Model")]
    pub model: Option<PathBuf>,
    /// An adapter (LoRA) to load, a GGUF as llama.cpp writes it, and what to multiply it with [default: 1]; may be given again.
    /// Commands of the terminal use all of them together, requests to the server choose one by the model's name
    #[arg(long = "lora", value_name = "FILE[=SCALE]", help_heading = "Model")]
    pub adapters: Vec<AdapterOption>,
    /// Threads that compute [default: the physical cores]
    #[arg(short, long, value_name = "N", help_heading = "Model")]
    pub threads: Option<usize>,
    /// Processors to compute on, such as 0-3,8 (Linux) [default: all that the process may use]
    #[arg(long, value_name = "LIST", help_heading = "Model")]
    pub cpus: Option<Cpus>,
    /// Kernel table: scalar, avx2, avx2vnni, avx512, avx512vnni, avx512bf16, amx; on ARM scalar, neon, neon-dotprod, neon-i8mm
    /// [default: the last of these that this processor has, the last two if they are faster there]
    #[arg(long, value_name = "NAME", help_heading = "Model")]
    pub isa: Option<String>,
    /// GPU to compute on: none, auto (the fastest, if it is faster than this CPU and predicts alike), its number or a part of its
    /// name, as `satchel doctor` prints them [default: $SATCHEL_GPU, else auto]
    #[arg(long, value_name = "GPU", help_heading = "Model")]
    pub gpu: Option<GpuChoice>,
    /// Layers that the GPU takes; the CPU keeps the others [default: as many as fit]
    #[arg(long, value_name = "N", help_heading = "Model")]
    pub gpu_layers: Option<usize>,
}

/// Whether the weights' hash is checked first, and whether tokens are guessed; for commands that generate answers.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct CheckArgs {
    /// Compare the model with its SHA-256 before it is used (packed files) [default: after the first answer]
    #[arg(long, help_heading = "Model")]
    pub check: bool,
    /// Guess tokens from what is there already and check several in one step: `auto` where that is faster, as measured, `off`
    /// never; it changes no answer [default: auto]
    #[arg(long, value_name = "WHEN", help_heading = "Model")]
    pub speculate: Option<Speculation>,
    /// A smaller model with the same vocabulary that guesses tokens, which are then checked; it changes no answer
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    pub draft: Option<PathBuf>,
}

impl CheckArgs {
    /// Opens the model, with `--check` after verifying its hash.
    pub fn open(&self, source: ModelSource, options: &OpenOptions) -> Result<Session, Failure> {
        if self.check {
            check_now(&source).map_err(Failure::new)?;
        }
        let speculation = self.speculate.unwrap_or_default();
        if speculation == Speculation::Off && self.draft.is_some() {
            let line = "a draft model guesses tokens, which --speculate off forbids: leave one of the two out";
            return Err(Failure::usage(line));
        }
        let options = OpenOptions { speculation, draft: self.draft.clone(), ..options.clone() };
        let session = Session::from_source(source, &options)?;
        if self.check {
            session.check.checked_before();
        }
        Ok(session)
    }
}

impl ModelArgs {
    /// The GPU that was chosen by the flag, else by the environment.
    fn gpu(&self) -> GpuChoice {
        let of_environment = || environment::text(environment::GPU)?.parse().ok();
        // Asking for layers on a GPU is asking for a GPU.
        let unset = if self.gpu_layers.is_some() { GpuChoice::Auto } else { GpuChoice::InSight };
        self.gpu.clone().or_else(of_environment).unwrap_or(unset)
    }

    /// Options to open the model with; context, parallel sequences and KV cache stay at their defaults.
    pub fn options(&self) -> OpenOptions {
        OpenOptions {
            model: self.model.clone(),
            adapters: self.adapters.clone(),
            threads: self.threads,
            cpus: self.cpus.clone(),
            isa: self.isa.clone(),
            gpu: self.gpu(),
            gpu_layers: self.gpu_layers,
            tell: Some(|line| notice!("satchel: {line}")),
            ..OpenOptions::default()
        }
    }
}
