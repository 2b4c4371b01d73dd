//! Rotary position embeddings: a model's default, and those of layers with a window.

use super::Blocks;
use crate::model::ModelError;
use crate::plan::{Rope, RopePairs, RopeScaling};

impl Blocks<'_, '_> {
    /// The rotation that the `rope.*` keys describe, with the file's frequency divisors: longrope's for the context length, or
    /// those of Llama 3.1.
    pub fn rope(&mut self, pairs: RopePairs) -> Result<Rope, ModelError> {
        let count = self.hyper.rope_dimensions(self.keys)? / 2;
        let (long, short) = ("rope_factors_long.weight", "rope_factors_short.weight");
        let name = if self.hyper.is_longrope(self.keys)? || self.tensors.has(long) {
            let is_long = self.hyper.exceeds_original_context(self.keys)?;
            let [name, other] = if is_long { [long, short] } else { [short, long] };
            self.tensors.ignore(other);
            Some(name)
        } else {
            self.tensors.has("rope_freqs.weight").then_some("rope_freqs.weight")
        };
        let factors = match name {
            Some(name) => Some(self.tensors.vector(name, &[count])?),
            None => None,
        };
        let factors = factors.map(|factors| self.plan.weight(factors));
        self.hyper.rope(self.keys, pairs, factors)
    }

    /// The rotation that the `rope.*` keys describe, without frequency divisors.
    pub fn rope_without_factors(&mut self, pairs: RopePairs) -> Result<Rope, ModelError> {
        self.hyper.rope(self.keys, pairs, None)
    }

    /// The rotation of layers with a window: unscaled, with their own base (`rope.freq_base_swa`, by default `base`).
    pub fn windowed_rope(&self, rope: &Rope, base: f32) -> Result<Rope, ModelError> {
        let base = self.keys.positive("rope.freq_base_swa", base)?;
        Ok(Rope { base, scaling: RopeScaling::None, ..rope.clone() })
    }

    /// Layout of the pairs: halves if `rope.dimension_sections` divides them between time, height and width, else `without`.
    /// For text, positions are the same in all three sections, so that the layout is all that matters; a fourth section would
    /// not be rotated.
    pub fn sectioned_pairs(&self, without: RopePairs) -> Result<RopePairs, ModelError> {
        let name = "rope.dimension_sections";
        let Some(sections) = self.keys.sections(name)? else { return Ok(without) };
        if sections[0] == 0 || sections[1] == 0 {
            return Ok(without);
        }
        let pairs = self.hyper.rope_dimensions(self.keys)? / 2;
        let turning: usize = sections[..3].iter().sum();
        if sections[3] > 0 && pairs > turning {
            return Err(
                self.unsupported(format!("{name} excludes pairs from the rotation, which this build does not support"))
            );
        }
        Ok(RopePairs::Halves)
    }
}
