//! Predicts a model's memory from its plan: the resident set once every weight has been read, the context is full and a step of
//! full size has run.
//!
//! Buffer sizes come from the modules that allocate them; vocabulary and program are estimates. Weights are pages of the mapped
//! file, which the system can reclaim and read again; the rest is private memory.

use super::open::plan_of;
use super::source::ModelSource;
use crate::device::cpu;
use crate::engine::{EngineOptions, MOST_GUESSED, Speculate};
use crate::kernels::Kernels;
use crate::plan::{CacheTypes, Plan, StateGroup, StateLayout};
use crate::state::{KeptLimit, StateCache};

/// Why a size is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown(pub String);

/// Pages of the program and the system's libraries that a server touches, and small allocations: measured as 7 MiB for a
/// release and 9 MiB for a development build.
const PROGRAM_BYTES: u64 = 8 << 20;

/// The load that a model is to run.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    /// Concurrent sequences.
    sequences: usize,
    /// Positions per sequence.
    positions: usize,
    /// Whether prefixes are kept for later prompts.
    keeps: bool,
    /// Rows of the largest step.
    step_tokens: usize,
    /// How many of these rows need logits.
    outputs: usize,
    /// Number of compute threads.
    threads: usize,
    /// How keys and values are stored.
    cache: CacheTypes,
    /// What computes on the CPU, if it does.
    kernels: Option<&'static Kernels>,
}

impl Demand {
    /// An engine whose sequences have all filled their context.
    pub fn of_engine(options: &EngineOptions, threads: usize, cache: CacheTypes) -> Self {
        let EngineOptions { context: positions, parallel: sequences, batch_tokens: step_tokens, speculate, .. } =
            *options;
        let outputs = sequences + if speculate == Speculate::Off { 0 } else { MOST_GUESSED };
        Self { sequences, positions, keeps: true, step_tokens, outputs, threads, cache, kernels: None }
    }

    /// One sequence of `context` positions, in steps of at most `step_tokens`.
    pub fn of_one(context: u64, step_tokens: usize, threads: usize, cache: CacheTypes) -> Self {
        let positions = usize::try_from(context).unwrap_or(usize::MAX);
        Self { sequences: 1, positions, keeps: false, step_tokens, outputs: 1, threads, cache, kernels: None }
    }

    fn load(&self) -> cpu::Load {
        let Self { step_tokens: tokens, outputs, threads, cache, kernels, .. } = *self;
        cpu::Load { tokens, outputs, threads, cache, kernels }
    }

    /// The same on these kernels.
    #[must_use]
    pub fn on(self, kernels: &'static Kernels) -> Self {
        Self { kernels: Some(kernels), ..self }
    }

    /// Rows of the largest step, and how many of these need logits.
    pub fn rows(&self) -> (usize, usize) {
        (self.step_tokens, self.outputs)
    }

    /// Pages of each group of state.
    pub fn pages(&self, layout: &StateLayout) -> Vec<usize> {
        let Self { sequences, positions, step_tokens, .. } = *self;
        match self.keeps {
            true => StateCache::pages(layout, sequences, positions, step_tokens),
            false => layout.groups.iter().map(|group| group.pages(positions, step_tokens)).collect(),
        }
    }

    /// Bytes of KV cache and recurrent states.
    ///
    /// # Errors
    /// The head size does not fit the cache types, or the total exceeds any machine's memory.
    fn state_bytes(&self, plan: &Plan) -> Result<u64, Unknown> {
        let pages = self.pages(&plan.state);
        let mut total = 0u64;
        for (group, pages) in plan.state.groups.iter().zip(pages) {
            let bytes = group.page_bytes(self.cache).map_err(Unknown)?.checked_mul(pages as u64);
            total = bytes
                .and_then(|bytes| total.checked_add(bytes))
                .filter(|bytes| *bytes < 1 << 62)
                .ok_or_else(|| Unknown("the context needs more memory than any machine has".into()))?;
        }
        Ok(total)
    }
}

/// Bytes of keys and values per position, in layers without a sliding window.
pub fn kv_bytes_per_token(plan: &Plan, cache: CacheTypes) -> Result<u64, Unknown> {
    let unbounded = |group: &&StateGroup| matches!(group, StateGroup::Paged { window: None, .. });
    let groups = plan.state.groups.iter().filter(unbounded);
    let bytes = groups.map(|group| Ok(group.page_bytes(cache).map_err(Unknown)? / crate::plan::BLOCK_TOKENS as u64));
    bytes.sum()
}

/// Positions of ended sequences that `bytes` keep.
pub fn kept_positions(plan: &Plan, bytes: u64, options: &EngineOptions, cache: CacheTypes) -> usize {
    let one = Demand::of_engine(&EngineOptions { parallel: 1, ..*options }, 1, cache).state_bytes(plan);
    let positions = u128::from(bytes) * options.context as u128 / u128::from(one.unwrap_or(u64::MAX).max(1));
    usize::try_from(positions).unwrap_or(usize::MAX)
}

/// A limit of `bytes` for what is kept of sequences that have ended.
pub fn kept_limit(plan: &Plan, bytes: u64, cache: CacheTypes) -> Option<KeptLimit> {
    let page_bytes = plan.state.groups.iter().map(|group| group.page_bytes(cache).ok()).collect::<Option<_>>()?;
    Some(KeptLimit { bytes, page_bytes })
}

/// Bytes of KV cache and recurrent states for one sequence of `context` positions.
pub fn state_bytes(plan: &Plan, context: u64, cache: CacheTypes) -> Result<u64, Unknown> {
    Demand::of_one(context, EngineOptions::default().batch_tokens, 1, cache).state_bytes(plan)
}

/// Predicted memory by purpose, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The mapped files.
    pub file_bytes: u64,
    /// Keys and values of a full context.
    pub kv_bytes: u64,
    /// Activations of a full batch, and logits.
    pub activation_bytes: u64,
    /// Per-thread scratch memory, all threads together.
    pub scratch_bytes: u64,
    /// Tokens and merges, and their lookup tables: an estimate.
    pub vocabulary_bytes: u64,
    /// The touched pages of the program and the system's libraries: an estimate.
    pub program_bytes: u64,
}

impl Memory {
    /// Memory of the model in `source`.
    ///
    /// # Errors
    /// The model cannot be planned, or needs more memory than any machine has.
    pub fn predict(source: &ModelSource, demand: Demand) -> Result<Self, Unknown> {
        let plan = plan_of(source, None).map_err(|error| Unknown(error.to_string()))?;
        Self::of_plan(source, &plan, demand)
    }

    /// The same for an existing plan.
    ///
    /// # Errors
    /// As [`Memory::predict`].
    pub fn of_plan(source: &ModelSource, plan: &Plan, demand: Demand) -> Result<Self, Unknown> {
        let file_bytes = source.mapped_bytes();
        let working = cpu::working(plan, demand.load());
        // The engine has a copy of the logits.
        let logits = (plan.output_columns() * demand.outputs * size_of::<f32>()) as u64;
        // The vocabulary is held twice: as in the file, and as tables for looking up texts and merges.
        let header_bytes = source.model_bytes().saturating_sub(source.gguf.tensor_bytes());
        Ok(Self {
            file_bytes,
            kv_bytes: demand.state_bytes(plan)?,
            activation_bytes: working.activation_bytes + logits,
            scratch_bytes: working.thread_bytes,
            vocabulary_bytes: 2 * header_bytes,
            program_bytes: PROGRAM_BYTES,
        })
    }

    /// With another model in the same process.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            file_bytes: self.file_bytes + other.file_bytes,
            kv_bytes: self.kv_bytes + other.kv_bytes,
            activation_bytes: self.activation_bytes + other.activation_bytes,
            scratch_bytes: self.scratch_bytes + other.scratch_bytes,
            // Of the other, only the header is read.
            vocabulary_bytes: self.vocabulary_bytes,
            program_bytes: self.program_bytes,
        }
    }

    /// All but the mapped files and the KV cache.
    pub fn working_bytes(&self) -> u64 {
        self.activation_bytes + self.scratch_bytes + self.vocabulary_bytes + self.program_bytes
    }

    /// Peak resident set size.
    pub fn total_bytes(&self) -> u64 {
        self.file_bytes + self.kv_bytes + self.working_bytes()
    }
}
