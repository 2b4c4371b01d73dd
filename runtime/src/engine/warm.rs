//! A prefix that was computed when its file was packed: the system prompt's keys, values and recurrent states.
//!
//! It stays mapped and unread until the first prompt begins with it; then its blocks go into the tree of what all callers share,
//! as if a first conversation had left them there. What cannot be read is said in one line and computed anew.

use super::{EngineOptions, EvaluateError, Loaded};
use crate::TokenId;
use crate::device::{DeviceError, MappedPart, Program};
use crate::mapping;
use crate::plan::{AdapterSet, BLOCK_TOKENS, Step};
use crate::state::{EVERYONE, Identity, StateCache};

/// A computed prefix of a bundle.
pub struct Warm {
    /// The mapped file, and where the states are in it.
    pub part: MappedPart,
    /// What they are bound to.
    pub identity: Identity,
    /// The prefix.
    pub tokens: Vec<TokenId>,
    /// Told in one line that they cannot be used.
    pub tell: Box<dyn Fn(&str) + Send>,
}

impl std::fmt::Debug for Warm {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Warm").field("tokens", &self.tokens.len()).finish_non_exhaustive()
    }
}

impl Warm {
    /// Whether a prompt has a block in common with it, or all of it: for less it need not be read.
    pub(super) fn is_wanted(&self, prompt: &[TokenId]) -> bool {
        prompt.starts_with(&self.tokens[..self.tokens.len().min(BLOCK_TOKENS)])
    }

    /// Reads it into the cache.
    pub(super) fn load(self, state: &mut StateCache, program: &mut dyn Program) {
        if let Err(error) = state.load_shared(program, &self.identity, &self.tokens, self.part.bytes()) {
            let path = self.part.file.path().display();
            (self.tell)(&format!("{path}: the computed system prompt cannot be used ({error}): it is computed anew"));
        }
    }
}

/// Computes a prefix, for [`Warm`].
///
/// # Errors
/// If memory runs out, or the device does not give its states.
pub fn computed(loaded: Loaded, tokens: &[TokenId], identity: &Identity) -> Result<Vec<u8>, EvaluateError> {
    let Loaded { plan, mut program } = loaded;
    let rows = EngineOptions::default().batch_tokens;
    let mut state = StateCache::new(&plan.state, 1, tokens.len(), rows);
    let mut sequence = state.begin(&mut *program, EVERYONE, &[]);
    for piece in tokens.chunks(rows) {
        let mut step = Step::default();
        state.trim(&mut *program, &mut sequence);
        for &token in piece {
            step.push(token, sequence.len(), 0);
            state.push(&mut *program, &mut sequence, token)?;
        }
        step.states.push(sequence.pages().to_vec());
        step.adapters.push(AdapterSet::default());
        program.run(&step)?;
        state.commit(&mut *program, &mut sequence);
    }
    state.end(&mut *program, sequence);
    let failed = |line: String| EvaluateError::Device(DeviceError::Failed(line));
    if let Some(path) = mapping::damaged() {
        return Err(failed(format!("{}: the file was changed while it was in use", path.display())));
    }
    let mut bytes = Vec::new();
    state.save(&*program, identity, &[EVERYONE], &mut bytes).map_err(|error| failed(error.to_string()))?;
    Ok(bytes)
}
