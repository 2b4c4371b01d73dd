//! Architectures: each maps a family's GGUF names to blocks. A table, so that adding one is a file and a row.

use satchel_gguf::Metadata;

use super::blocks::Blocks;
use super::keys::Keys;
use super::{ModelError, TensorTable};
use crate::plan::Plan;

mod bloom;
mod command_r;
mod exaone4;
mod falcon;
mod gemma;
mod gemma2;
mod gemma3;
mod glm4;
mod gpt2;
mod gptneox;
mod granite;
mod hunyuan;
mod llama;
mod mistral3;
mod mpt;
mod olmo2;
mod phi2;
mod qwen3;
mod smollm3;
mod stablelm;
mod starcoder2;
#[cfg(test)]
mod tests;
mod trunk;

type MakePlan = fn(Blocks<'_, '_>) -> Result<Plan, ModelError>;

/// `general.architecture`, and who makes its plan.
const ARCHITECTURES: &[(&str, MakePlan)] = &[
    ("bloom", bloom::plan),
    ("cohere2", command_r::cohere2),
    ("command-r", command_r::plan),
    ("exaone4", exaone4::plan),
    ("falcon", falcon::plan),
    ("gemma", gemma::plan),
    ("gemma2", gemma2::plan),
    ("gemma3", gemma3::plan),
    ("glm4", glm4::plan),
    ("gpt2", gpt2::plan),
    ("gptneox", gptneox::plan),
    ("granite", granite::plan),
    ("hunyuan-dense", hunyuan::plan),
    ("internlm2", trunk::internlm2),
    ("llama", llama::plan),
    ("minicpm", granite::minicpm),
    ("mistral3", mistral3::plan),
    ("mpt", mpt::plan),
    ("nemotron", starcoder2::nemotron),
    ("olmo2", olmo2::plan),
    ("phi2", phi2::plan),
    ("phi3", trunk::phi3),
    ("qwen2", trunk::qwen2),
    ("qwen3", qwen3::plan),
    ("seed_oss", trunk::seed_oss),
    ("smollm3", smollm3::plan),
    ("stablelm", stablelm::plan),
    ("starcoder2", starcoder2::plan),
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
