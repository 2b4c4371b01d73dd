//! Architectures: each maps a family's GGUF names to blocks. A table, so that adding one is a file and a row.

use satchel_gguf::Metadata;

use super::blocks::Blocks;
use super::keys::Keys;
use super::{ModelError, TensorTable};
use crate::plan::Plan;

mod bailingmoe2;
mod deepseek;
mod deepseek2;
mod dots1;
mod ernie4_5_moe;
mod falcon_h1;
mod glm4moe;
mod gpt_oss;
mod jamba;
mod lfm2;
mod llama;
mod llama4;
mod mamba;
mod mamba2;
mod minimax_m2;
mod nemotron_h;
mod olmoe;
mod phimoe;
mod qwen2moe;
mod qwen3moe;
mod qwen3next;
mod smallthinker;

type MakePlan = fn(Blocks<'_, '_>) -> Result<Plan, ModelError>;

/// `general.architecture`, and who makes its plan.
const ARCHITECTURES: &[(&str, MakePlan)] = &[
    ("bailingmoe2", bailingmoe2::plan),
    ("deepseek", deepseek::plan),
    ("deepseek2", deepseek2::plan),
    ("dots1", dots1::plan),
    ("ernie4_5-moe", ernie4_5_moe::plan),
    ("falcon-h1", falcon_h1::plan),
    ("glm4moe", glm4moe::plan),
    ("gpt-oss", gpt_oss::plan),
    ("jamba", jamba::plan),
    ("lfm2", lfm2::plan),
    ("lfm2moe", lfm2::plan),
    ("llama", llama::plan),
    ("llama4", llama4::plan),
    ("mamba", mamba::plan),
    ("mamba2", mamba2::plan),
    ("minimax-m2", minimax_m2::plan),
    ("nemotron_h", nemotron_h::plan),
    ("nemotron_h_moe", nemotron_h::plan),
    ("olmoe", olmoe::plan),
    ("phimoe", phimoe::plan),
    ("qwen2moe", qwen2moe::plan),
    ("qwen35", qwen3next::plan_qwen35),
    ("qwen35moe", qwen3next::plan_qwen35),
    ("qwen3moe", qwen3moe::plan),
    ("qwen3next", qwen3next::plan),
    ("smallthinker", smallthinker::plan),
];

/// The plan of the model that the metadata describes, for sequences of `context` positions. Every tensor's shape is checked;
/// a tensor that the architecture does not use is an error. Reads no weight.
pub fn plan(metadata: &Metadata, context: Option<usize>, tensors: &mut TensorTable<'_>) -> Result<Plan, ModelError> {
    let keys = Keys::new(metadata, context)?;
    let Some((_, make)) = ARCHITECTURES.iter().find(|(name, _)| *name == keys.architecture) else {
        let known: Vec<&str> = ARCHITECTURES.iter().map(|(name, _)| *name).collect();
        return Err(ModelError::UnknownArchitecture { name: keys.architecture.to_owned(), known: known.join(", ") });
    };
    make(Blocks::new(&keys, tensors)?)
}
