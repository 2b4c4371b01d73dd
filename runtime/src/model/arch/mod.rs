//! Architectures: each maps a family's GGUF names to blocks. Adding one takes a file and a row in the table.

#![allow(clippy::needless_range_loop, reason = "a layer is a number to every block, not only to the list")]

use satchel_gguf::Metadata;

use super::blocks::Blocks;
use super::error::shown;
use super::keys::Keys;
use super::{ModelError, Purpose, TensorTable};
use crate::plan::Plan;

mod bailingmoe2;
mod bert;
mod bloom;
mod command_r;
mod deepseek;
mod deepseek2;
mod dots1;
mod ernie4_5_moe;
mod exaone4;
mod falcon;
mod falcon_h1;
mod gemma;
mod gemma2;
mod gemma3;
mod glm4;
mod glm4moe;
mod gpt2;
mod gpt_oss;
mod gptneox;
mod granite;
mod hunyuan;
mod jamba;
mod lfm2;
mod llama;
mod llama4;
mod mamba;
mod mamba2;
mod minimax_m2;
mod mistral3;
mod mpt;
mod nemotron_h;
mod olmo2;
mod olmoe;
mod phi2;
mod phimoe;
mod qwen2moe;
mod qwen3;
mod qwen3moe;
mod qwen3next;
mod smallthinker;
mod smollm3;
mod stablelm;
mod starcoder2;
#[cfg(test)]
mod tests;
mod trunk;

type MakePlan = fn(Blocks<'_, '_>) -> Result<Plan, ModelError>;

/// `general.architecture`, and the function that makes its plan.
const ARCHITECTURES: &[(&str, MakePlan)] = &[
    ("bailingmoe2", bailingmoe2::plan),
    ("bert", bert::plan),
    ("bloom", bloom::plan),
    ("cohere2", command_r::cohere2),
    ("command-r", command_r::plan),
    ("deepseek", deepseek::plan),
    ("deepseek2", deepseek2::plan),
    ("dots1", dots1::plan),
    ("ernie4_5-moe", ernie4_5_moe::plan),
    ("exaone4", exaone4::plan),
    ("falcon", falcon::plan),
    ("falcon-h1", falcon_h1::plan),
    ("gemma", gemma::plan),
    ("gemma2", gemma2::plan),
    ("gemma3", gemma3::plan),
    ("glm4", glm4::plan),
    ("glm4moe", glm4moe::plan),
    ("gpt-oss", gpt_oss::plan),
    ("gpt2", gpt2::plan),
    ("gptneox", gptneox::plan),
    ("granite", granite::plan),
    ("granitehybrid", granite::plan),
    ("granitemoe", granite::granitemoe),
    ("hunyuan-dense", hunyuan::plan),
    ("internlm2", trunk::internlm2),
    ("jamba", jamba::plan),
    ("lfm2", lfm2::plan),
    ("lfm2moe", lfm2::plan),
    ("llama", llama::plan),
    ("llama4", llama4::plan),
    ("mamba", mamba::plan),
    ("mamba2", mamba2::plan),
    ("minicpm", granite::minicpm),
    ("minimax-m2", minimax_m2::plan),
    ("mistral3", mistral3::plan),
    ("mpt", mpt::plan),
    ("nemotron", starcoder2::nemotron),
    ("nemotron_h", nemotron_h::plan),
    ("nemotron_h_moe", nemotron_h::plan),
    ("nomic-bert", bert::nomic),
    ("nomic-bert-moe", bert::nomic),
    ("olmo2", olmo2::plan),
    ("olmoe", olmoe::plan),
    ("phi2", phi2::plan),
    ("phi3", trunk::phi3),
    ("phimoe", phimoe::plan),
    ("qwen2", trunk::qwen2),
    ("qwen2moe", qwen2moe::plan),
    ("qwen3", qwen3::plan),
    ("qwen35", qwen3next::plan_qwen35),
    ("qwen35moe", qwen3next::plan_qwen35),
    ("qwen3moe", qwen3moe::plan),
    ("qwen3next", qwen3next::plan),
    ("seed_oss", trunk::seed_oss),
    ("smallthinker", smallthinker::plan),
    ("smollm3", smollm3::plan),
    ("stablelm", stablelm::plan),
    ("starcoder2", starcoder2::plan),
];

/// The plan of the model that the metadata describes, for sequences of `context` positions and this purpose. Every tensor's
/// shape is checked; a tensor that the architecture does not use is an error. Reads no weight.
pub fn plan(
    metadata: &Metadata,
    context: Option<usize>,
    purpose: Purpose,
    tensors: &mut TensorTable<'_>,
) -> Result<Plan, ModelError> {
    let keys = Keys::new(metadata, context)?;
    let Some((_, make)) = ARCHITECTURES.iter().find(|(name, _)| *name == keys.architecture) else {
        let known: Vec<&str> = ARCHITECTURES.iter().map(|(name, _)| *name).collect();
        return Err(ModelError::UnknownArchitecture { name: shown(keys.architecture), known: known.join(", ") });
    };
    make(Blocks::new(&keys, purpose, tensors)?)
}
