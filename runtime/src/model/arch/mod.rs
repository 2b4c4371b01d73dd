//! Architectures: each maps a family's GGUF names to blocks. A table, so that adding one is a file and a row.

use satchel_gguf::Metadata;

use super::blocks::Blocks;
use super::keys::Keys;
use super::{ModelError, TensorTable};
use crate::plan::Plan;

mod llama;

type MakePlan = fn(Blocks<'_, '_>) -> Result<Plan, ModelError>;

/// `general.architecture`, and who makes its plan.
const ARCHITECTURES: &[(&str, MakePlan)] = &[("llama", llama::plan)];

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
