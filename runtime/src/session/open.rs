//! Opening a model: from a file and options to a plan loaded on a device.

use std::path::PathBuf;
use std::sync::Arc;

use crate::device::cpu::Cpu;
use crate::device::{Device, DeviceError};
use crate::engine::{EngineOptions, Loaded, Speculate};
use crate::kernels::{self, Kernels};
use crate::model::{DEFAULT_CONTEXT_MOST, ModelError, PoolingKind, Purpose, TensorTable, arch};
use crate::plan::{CacheType, CacheTypes, Head, Plan};

use super::adapters::AdapterOption;
use super::gpu::{GpuChoice, GpuStatus};
use super::hardware::{Cpus, default_threads};
use super::memory::Demand;
use super::source::{ModelSource, SourceError};

/// What to open, and how. `None` means a default that depends on the model and the machine.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// A GGUF, one part of a split GGUF, or a packed file; `None`: the running executable's own.
    pub model: Option<PathBuf>,
    /// Adapters to load in addition to those of the model's bundle.
    pub adapters: Vec<AdapterOption>,
    /// Context length of a sequence, in tokens.
    pub context: Option<usize>,
    /// Number of compute threads.
    pub threads: Option<usize>,
    /// Processors to pin the threads to.
    pub cpus: Option<Cpus>,
    /// Name of the kernel table.
    pub isa: Option<String>,
    /// Maximum number of concurrent sequences.
    pub parallel: Option<usize>,
    /// How keys of the KV cache are stored.
    pub cache_type_k: Option<CacheType>,
    /// How values of the KV cache are stored.
    pub cache_type_v: Option<CacheType>,
    /// Whether tokens are guessed and several checked in one step.
    pub speculation: Speculation,
    /// Memory for conversations beyond the running ones.
    pub kept: Kept,
    /// A file in which conversations outlive the process.
    pub cache_file: Option<CacheFile>,
    /// A smaller model with the same vocabulary, which guesses.
    pub draft: Option<PathBuf>,
    /// Which GPU to use.
    pub gpu: GpuChoice,
    /// Layers that it takes; `None`: as many as fit.
    pub gpu_layers: Option<usize>,
    /// Load beside the caller, who waits with the first step.
    pub gpu_beside: bool,
    /// Told in one line that a device was lost.
    pub tell: Option<fn(&str)>,
}

/// A file in which conversations outlive the process.
#[derive(Clone, Debug)]
pub struct CacheFile {
    /// The file; it need not exist.
    pub path: PathBuf,
    /// The callers that are the same after a restart.
    pub callers: Vec<u64>,
    /// Told in one line what did not work.
    pub tell: fn(&str),
}

/// Memory in which the state of conversations is kept that are not running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kept {
    /// What running ones leave of theirs.
    #[default]
    Left,
    /// This many bytes at most, wherever they lie.
    Bytes(u64),
    /// What running ones leave of theirs, and what the machine can spare.
    Spare,
}

/// Whether tokens are guessed and several checked in one step, which changes no answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speculation {
    /// Where it is faster, as measured.
    #[default]
    Auto,
    /// Never.
    Off,
}

impl From<Speculation> for Speculate {
    fn from(speculation: Speculation) -> Self {
        match speculation {
            Speculation::Auto => Self::Measured,
            Speculation::Off => Self::Off,
        }
    }
}

impl std::str::FromStr for Speculation {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            _ => Err("it must be auto or off".to_owned()),
        }
    }
}

/// Why a model could not be opened. Each message is one line for the user.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum OpenError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("{0}")]
    Adapter(String),
    #[error("{path}: {error}")]
    Model { path: PathBuf, error: ModelError },
    #[error("{path}: {error}")]
    Device { path: PathBuf, error: DeviceError },
    #[error("{path}: {error}")]
    Tokenizer { path: PathBuf, error: crate::tokenizer::TokenizerError },
    #[error(
        "{path}: this is an embedding model (architecture `{architecture}`), which generates no text; `satchel embed` prints embeddings, `satchel serve` serves them at /v1/embeddings"
    )]
    EmbeddingModel { path: PathBuf, architecture: String },
    #[error("--draft {path}: {line}")]
    Draft { path: PathBuf, line: String },
    #[error("--warm: {0}")]
    Warm(String),
    #[error("{0}")]
    Isa(String),
    #[error("{0}")]
    Gpu(String),
    #[error("{0}")]
    Cpus(String),
    #[error("--threads must be between 1 and {most}; {asked} were asked for")]
    Threads { asked: usize, most: usize },
    #[error("--parallel must be between 1 and {most}; {asked} were asked for")]
    Parallel { asked: usize, most: usize },
    #[error(
        "--context {asked}: the model was trained on {trained} tokens and produces nonsense beyond them; use {trained} or fewer"
    )]
    ContextTooLong { asked: usize, trained: usize },
    #[error("--context must be at least 2: one token of prompt and one of answer")]
    ContextTooShort,
    #[error("cannot start the engine thread: {0}")]
    Thread(std::io::Error),
}

/// More threads than this are taken for a typing error.
const MOST_THREADS: usize = 1024;
const MOST_PARALLEL: usize = 1024;

/// The kernel table, the number of threads and the types of the KV cache to use.
#[derive(Clone, Copy)]
pub struct Compute {
    /// The kernel table.
    pub kernels: &'static Kernels,
    /// At least 1.
    pub threads: usize,
    /// How keys and values are stored.
    pub cache: CacheTypes,
}

/// The context length if none is given: the trained length, up to [`DEFAULT_CONTEXT_MOST`].
pub(super) fn default_context(trained: usize) -> usize {
    trained.clamp(2, DEFAULT_CONTEXT_MOST)
}

impl OpenOptions {
    /// Checks the options against the machine, and pins this thread and those it starts to the chosen processors.
    pub fn compute(&self) -> Result<Compute, OpenError> {
        if let Some(cpus) = &self.cpus {
            cpus.stay().map_err(OpenError::Cpus)?;
        }
        let kernels = match &self.isa {
            None => kernels::best(),
            Some(name) => kernels::by_name(name).map_err(OpenError::Isa)?,
        };
        let threads = match self.threads {
            None => default_threads(),
            Some(asked @ 1..=MOST_THREADS) => asked,
            Some(asked) => return Err(OpenError::Threads { asked, most: MOST_THREADS }),
        };
        Ok(Compute { kernels, threads, cache: self.cache() })
    }

    /// How keys and values are stored; F16 by default.
    pub fn cache(&self) -> CacheTypes {
        let (keys, values) = (self.cache_type_k, self.cache_type_v);
        CacheTypes { keys: keys.unwrap_or_default(), values: values.unwrap_or_default() }
    }

    /// Maximum number of concurrent sequences.
    pub(super) fn parallel(&self) -> Result<usize, OpenError> {
        match self.parallel {
            None => Ok(4),
            Some(asked @ 1..=MOST_PARALLEL) => Ok(asked),
            Some(asked) => Err(OpenError::Parallel { asked, most: MOST_PARALLEL }),
        }
    }

    /// The context length for a model trained on `trained` positions, in tokens.
    pub fn context_for(&self, trained: usize) -> Result<usize, OpenError> {
        match self.context {
            None => Ok(default_context(trained)),
            Some(0 | 1) => Err(OpenError::ContextTooShort),
            Some(asked) if asked > trained => Err(OpenError::ContextTooLong { asked, trained }),
            Some(asked) => Ok(asked),
        }
    }
}

/// The plan of the source's model, for sequences of `context` positions if given.
///
/// # Errors
/// The file is not a model that can be run.
pub fn plan_of(source: &ModelSource, context: Option<usize>) -> Result<Plan, OpenError> {
    plan_for(source, context, Purpose::Generate)
}

/// The same for any purpose.
///
/// # Errors
/// As [`plan_of`].
pub fn plan_for(source: &ModelSource, context: Option<usize>, purpose: Purpose) -> Result<Plan, OpenError> {
    let mut tensors = TensorTable::new(&source.gguf.tensors);
    let plan = arch::plan(&source.gguf.metadata, context, purpose, &mut tensors)
        .map_err(|error| OpenError::Model { path: source.path.clone(), error })?;
    if source.adapters.is_empty() {
        return Ok(plan);
    }
    let files = source.adapters.iter().enumerate();
    let adapters = files.map(|(at, file)| file.adapter(&plan.architecture, source.parts.len() + at));
    let adapters = adapters.collect::<Result<Vec<_>, _>>().map_err(OpenError::Adapter)?;
    plan.with_adapters(&adapters).map_err(OpenError::Adapter)
}

/// Loads the source's model on the CPU for generation, for sequences of `context` positions if given.
///
/// # Errors
/// The file is not a model that can be run, or is an embedding model, or the device cannot run it.
pub fn load_model(source: &ModelSource, compute: Compute, context: Option<usize>) -> Result<Loaded, OpenError> {
    load_plan(source, compute, plan_of(source, context)?)
}

/// Loads a plan of the source's model on the CPU for generation.
///
/// # Errors
/// The model is an embedding model, or the device cannot run it.
pub(super) fn load_plan(source: &ModelSource, compute: Compute, plan: Plan) -> Result<Loaded, OpenError> {
    check_generates(source, &plan)?;
    load(source, plan, compute)
}

/// An error if the plan's model generates no text.
pub(super) fn check_generates(source: &ModelSource, plan: &Plan) -> Result<(), OpenError> {
    if !matches!(plan.head, Head::Logits(_)) || !plan.is_causal() {
        let architecture = plan.architecture.clone();
        return Err(OpenError::EmbeddingModel { path: source.path.clone(), architecture });
    }
    Ok(())
}

/// Loads the source's model for generation, for one sequence of `context` positions if given, on the GPU of the options as far as it
/// can be used; the second value says which it is, or why none.
///
/// # Errors
/// As [`load_model`], or the GPU was asked for and cannot be used.
pub fn load_model_on(
    source: &ModelSource,
    compute: Compute,
    context: Option<usize>,
    options: &OpenOptions,
) -> Result<(Loaded, Arc<GpuStatus>), OpenError> {
    let plan = plan_of(source, context)?;
    check_generates(source, &plan)?;
    let positions = context.unwrap_or_else(|| default_context(plan.trained_context)) as u64;
    let demand = Demand::of_one(positions, EngineOptions::default().batch_tokens, compute.threads, compute.cache)
        .on(compute.kernels);
    super::gpu::load(source, compute, plan, demand, options)
}

/// Loads the source's model for embeddings: one vector per sequence. `pooling` overrides the file's.
///
/// # Errors
/// As [`load_model`].
pub fn load_to_embed(
    source: &ModelSource,
    compute: Compute,
    context: Option<usize>,
    pooling: Option<PoolingKind>,
) -> Result<Loaded, OpenError> {
    load(source, plan_for(source, context, Purpose::Embed(pooling))?, compute)
}

pub(super) fn load(source: &ModelSource, plan: Plan, compute: Compute) -> Result<Loaded, OpenError> {
    let device = Cpu::new(compute.kernels, compute.threads, compute.cache);
    let program = device
        .load(&plan, 0..plan.ops.len(), &source.mapped_parts())
        .map_err(|error| OpenError::Device { path: source.path.clone(), error })?;
    Ok(Loaded { plan, program })
}
