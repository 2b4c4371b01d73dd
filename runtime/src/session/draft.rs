//! A draft model: what it must have in common with the model that it guesses for.
//!
//! Ids are all that the two exchange, so their vocabularies must be the same, token by token. A state that cannot be cut back
//! to any length, recurrent or behind a window, cannot take guesses back.

use std::path::Path;

use super::memory::{Demand, Memory};
use super::open::{Compute, OpenError, load_plan, plan_of};
use super::source::ModelSource;
use crate::engine::{EngineOptions, Loaded};
use crate::plan::{Plan, StateGroup};

/// A loaded draft model.
pub(super) struct Draft {
    pub(super) loaded: Loaded,
    /// Its context length.
    pub(super) context: usize,
    /// What it takes beside the model.
    pub(super) memory: Option<Memory>,
}

/// Opens the draft for a model.
///
/// # Errors
/// It cannot be opened, or cannot guess for this model.
pub(super) fn open(
    path: &Path,
    (model, model_plan): (&ModelSource, &Plan),
    compute: Compute,
    engine: &EngineOptions,
) -> Result<Draft, OpenError> {
    let fail = |line: &str| OpenError::Draft { path: path.to_owned(), line: line.to_owned() };
    let source = ModelSource::open(Some(path))?;
    const VOCABULARY: &str = "tokenizer.ggml.tokens";
    if source.gguf.metadata.get(VOCABULARY) != model.gguf.metadata.get(VOCABULARY) {
        return Err(fail(
            "its vocabulary is not the model's, so it cannot guess for it; a draft is a smaller model of the same family",
        ));
    }
    if model_plan.state.has_recurrent() {
        return Err(fail("the model has recurrent states, which cannot take guesses back: leave --draft out"));
    }
    let context = engine.context.min(plan_of(&source, None)?.trained_context);
    let plan = plan_of(&source, Some(context))?;
    let is_plain = |group: &StateGroup| matches!(group, StateGroup::Paged { window: None, .. });
    if !plan.state.groups.iter().all(is_plain) {
        return Err(fail("a draft cannot have recurrent states or a sliding window"));
    }
    let demand =
        Demand::of_engine(&EngineOptions { context, ..*engine }, compute.threads, compute.cache).on(compute.kernels);
    let memory = Memory::of_plan(&source, &plan, demand).ok();
    Ok(Draft { loaded: load_plan(&source, compute, plan)?, context, memory })
}
