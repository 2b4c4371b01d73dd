//! How much memory a model takes, foretold from its headers: what stays resident once every weight has been read, the context
//! is full and a whole batch has run.
//!
//! Sizes of buffers are asked of those who make them; vocabulary and program are estimates. Weights are pages of the
//! mapped file, which the system may take back and read again; the rest is the process's own.

mod kv;

use satchel_gguf::{Gguf, TensorInfo};

pub use self::kv::{Unknown, kv_bytes_per_token};
use super::source::ModelSource;
use crate::backend::CacheTypes;
use crate::engine::{EngineOptions, kv_blocks};
use crate::kernels::attention::{self, AttentionShape};
use crate::kernels::matmul::{self, Activations};
use crate::kv::BLOCK_TOKENS;
use crate::model::SlotColumns;

/// Pages of the program and the system's libraries that a server touches, and small allocations: measured, 7 MiB of a release,
/// 9 MiB of a build for development.
const PROGRAM_BYTES: u64 = 8 << 20;

/// What a model is to run for.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    /// KV blocks at the most.
    kv_blocks: u64,
    /// Rows of the largest forward pass.
    batch_tokens: usize,
    /// Rows of it whose logits are wanted.
    outputs: usize,
    /// Threads that compute.
    threads: usize,
    /// How keys and values are stored.
    cache: CacheTypes,
}

impl Demand {
    /// An engine with all its sequences at the end of their context.
    pub fn of_engine(options: &EngineOptions, threads: usize, cache: CacheTypes) -> Self {
        let EngineOptions { context, parallel, batch_tokens } = *options;
        Self { kv_blocks: kv_blocks(context, parallel) as u64, batch_tokens, outputs: parallel, threads, cache }
    }

    /// One sequence of `context` positions, in batches of at most `batch_tokens`.
    pub fn of_one(context: u64, batch_tokens: usize, threads: usize, cache: CacheTypes) -> Self {
        Self { kv_blocks: context.div_ceil(BLOCK_TOKENS as u64), batch_tokens, outputs: 1, threads, cache }
    }
}

/// Bytes, by what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The model's files, as mapped.
    pub file_bytes: u64,
    /// Keys and values of a full context.
    pub kv_bytes: u64,
    /// Activations of a full batch, and logits.
    pub activation_bytes: u64,
    /// What every thread keeps to itself, all of them together.
    pub scratch_bytes: u64,
    /// Tokens and merges, and the tables over them: an estimate.
    pub vocabulary_bytes: u64,
    /// The program and the system's libraries, as far as they are used: an estimate.
    pub program_bytes: u64,
}

impl Memory {
    /// What the model in `source` takes.
    ///
    /// # Errors
    /// Where the headers do not say what it depends on, or claim more than a machine can have.
    pub fn predict(source: &ModelSource, demand: Demand) -> Result<Self, Unknown> {
        let gguf = &source.gguf;
        let widths = Widths::read(gguf)?;
        let file_bytes = source.model_bytes();
        let kv_bytes = kv_bytes_per_token(&gguf.metadata, demand.cache)?
            .checked_mul(BLOCK_TOKENS as u64)
            .and_then(|block| block.checked_mul(demand.kv_blocks))
            .filter(|bytes| *bytes < 1 << 62)
            .ok_or_else(|| Unknown("the context takes more than any machine has".into()))?;
        let Demand { batch_tokens, outputs, threads, .. } = demand;
        // The vocabulary is held once as the file has it, and once more as tables to look texts and merges up in.
        let header_bytes = file_bytes.saturating_sub(gguf.tensor_bytes());
        Ok(Self {
            file_bytes,
            kv_bytes,
            activation_bytes: widths.activation_bytes(batch_tokens, outputs) as u64,
            scratch_bytes: (threads * widths.thread_bytes(batch_tokens)) as u64,
            vocabulary_bytes: 2 * header_bytes,
            program_bytes: PROGRAM_BYTES,
        })
    }

    /// All but weights and KV cache.
    pub fn working_bytes(&self) -> u64 {
        self.activation_bytes + self.scratch_bytes + self.vocabulary_bytes + self.program_bytes
    }

    /// The peak of the resident set.
    pub fn total_bytes(&self) -> u64 {
        self.file_bytes + self.kv_bytes + self.working_bytes()
    }
}

/// The widths of a model that its buffers depend on.
struct Widths {
    slots: SlotColumns,
    heads: AttentionShape,
    /// Columns of the widest matrix of a layer in a quantised type, 0 for none.
    quantised: usize,
    /// The same of those in F32, F16 or BF16.
    plain: usize,
}

impl Widths {
    /// Any more columns or heads than this, and the figures mean nothing.
    const MOST: u32 = 1 << 24;

    fn read(gguf: &Gguf) -> Result<Self, Unknown> {
        let metadata = &gguf.metadata;
        let architecture = metadata.require_str("general.architecture")?;
        let layers = metadata.require_u32(&format!("{architecture}.block_count"))?.min(4096) as usize;
        let widest = |name: &str| -> Result<Option<usize>, Unknown> {
            let key = format!("{architecture}.{name}");
            let largest = metadata.get_u32_per_layer(&key, layers)?.and_then(|widths| widths.into_iter().max());
            match largest {
                Some(width) if width > Self::MOST => Err(Unknown(format!("{key} is {width}"))),
                other => Ok(other.filter(|width| *width > 0).map(|width| width as usize)),
            }
        };
        let missing = |name: &str| Unknown(format!("{architecture}.{name} is missing"));
        let embedding = widest("embedding_length")?.ok_or_else(|| missing("embedding_length"))?;
        let feed_forward = widest("feed_forward_length")?.ok_or_else(|| missing("feed_forward_length"))?;
        let heads = widest("attention.head_count")?.ok_or_else(|| missing("attention.head_count"))?;
        let kv_heads = widest("attention.head_count_kv")?.unwrap_or(heads);
        let head_dim = widest("attention.key_length")?.unwrap_or(embedding / heads);
        let table = gguf.tensors.iter().find(|tensor| tensor.name == "token_embd.weight");
        let vocabulary = table.map_or(0, |table| table.elements() as usize / embedding.max(1));
        let columns = |quantised: bool| {
            let layers = gguf.tensors.iter().filter(|tensor| tensor.name.starts_with("blk.") && is_matrix(tensor));
            let wanted = layers.filter(|tensor| matmul::is_quantised(tensor.ty) == quantised);
            wanted.map(|tensor| tensor.dimensions[0].min(u64::from(Self::MOST)) as usize).max().unwrap_or(0)
        };
        Ok(Self {
            slots: SlotColumns {
                embedding,
                attended: heads * head_dim,
                cached: kv_heads * head_dim,
                feed_forward,
                vocabulary,
            },
            heads: AttentionShape {
                heads,
                kv_heads,
                key_dim: head_dim,
                value_dim: head_dim,
                scale: 1.0,
                softcap: None,
                alibi: None,
                // What threads need does not depend on it: pages are f32 where they are used.
                cache: CacheTypes::default(),
            },
            quantised: columns(true),
            plain: columns(false),
        })
    }

    fn activation_bytes(&self, tokens: usize, outputs: usize) -> usize {
        let rows = self.slots.of_a_token() * tokens + self.slots.of_an_output() * outputs;
        // The engine has a copy of the logits; cosines and sines are a head wide.
        let more = self.slots.vocabulary * outputs + self.heads.key_dim * tokens;
        (rows + more) * size_of::<f32>() + Activations::bytes_for(tokens, self.quantised, self.plain)
    }

    fn thread_bytes(&self, tokens: usize) -> usize {
        matmul::thread_bytes(self.quantised, tokens) + attention::thread_bytes(&self.heads)
    }
}

fn is_matrix(tensor: &TensorInfo) -> bool {
    tensor.dimensions.get(1).is_some_and(|&rows| rows > 1)
}
