//! What a file of kept conversations is bound to.
//!
//! A state is of use to the same arithmetic over the same weights only. So its identity is a hash of the weights' hash and of all
//! that decides about bits: kernels, cache types, layout, context (some rotary embeddings depend on it), and this version.

use satchel_container::Digest;
use sha2::{Digest as _, Sha256};

use super::open::{CacheFile, Compute, OpenError};
use super::source::ModelSource;
use crate::engine::Store;
use crate::plan::Plan;
use crate::state::{EVERYONE, Identity};

/// The store of a session's engine.
///
/// # Errors
/// If adapters are in use.
pub(super) fn open(
    file: &CacheFile,
    source: &ModelSource,
    plan: &Plan,
    compute: Compute,
    context: usize,
) -> Result<Store, OpenError> {
    if !source.adapters.is_empty() {
        let line = "--cache-file does not work with adapters: leave it out, or --lora";
        return Err(OpenError::Adapter(line.to_owned()));
    }
    let tell = file.tell;
    Ok(Store {
        path: file.path.clone(),
        identity: identity(source, plan, compute, context),
        // What no caller wrote is everyone's after a restart, too.
        owners: file.callers.iter().copied().chain([EVERYONE]).collect(),
        tell: Box::new(tell),
    })
}

fn identity(source: &ModelSource, plan: &Plan, compute: Compute, context: usize) -> Identity {
    let mut hash = Sha256::new();
    let bound =
        format!("{} {} {} {context} {:?}", env!("CARGO_PKG_VERSION"), compute.kernels.name, compute.cache, plan.state);
    hash.update(bound);
    weights(source).iter().for_each(|digest| hash.update(digest));
    hash.finalize().into()
}

/// A hash for each part of the model: the manifest's, or that of all bytes, which takes a second or two for each few gigabytes.
pub(super) fn weights(source: &ModelSource) -> Vec<[u8; 32]> {
    let recorded = source.packed.iter().flat_map(|packed| packed.bundle.model_entries());
    let recorded: Vec<[u8; 32]> = recorded.map(|entry| bytes_of(&entry.sha256)).collect();
    if !recorded.is_empty() {
        return recorded;
    }
    source.parts.iter().map(|part| Sha256::digest(part.bytes()).into()).collect()
}

fn bytes_of(digest: &Digest) -> [u8; 32] {
    digest.0
}
