//! Architectures: each maps a family's GGUF names to hyperparameters and blocks. A table, so that adding one is a file
//! and a row.

use satchel_gguf::Metadata;

use super::forward::Model;
use super::hyperparameters::Keys;
use super::{ModelError, TensorSource};
use crate::backend::Backend;

mod llama;

type Build = fn(&Keys<'_>, &mut TensorSource<'_>, &mut dyn Backend) -> Result<Model, ModelError>;

/// `general.architecture`, and who builds it.
const ARCHITECTURES: &[(&str, Build)] = &[("llama", llama::build)];

/// Builds the model that the metadata describes, its weights taken in by `backend`, for sequences of `context` positions. Every tensor's shape is checked;
/// a tensor that the architecture does not use is an error.
pub fn build(
    metadata: &Metadata,
    context: Option<usize>,
    tensors: &mut TensorSource<'_>,
    backend: &mut dyn Backend,
) -> Result<Model, ModelError> {
    let keys = Keys::new(metadata, context)?;
    let Some((name, build)) = ARCHITECTURES.iter().find(|(name, _)| *name == keys.architecture) else {
        let known: Vec<&str> = ARCHITECTURES.iter().map(|(name, _)| *name).collect();
        return Err(ModelError::UnknownArchitecture { name: keys.architecture.to_owned(), known: known.join(", ") });
    };
    let model = build(&keys, tensors, backend)?;
    tensors.all_used(name)?;
    Ok(model)
}
