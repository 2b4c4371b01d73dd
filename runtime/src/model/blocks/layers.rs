//! What differs from layer to layer: which have a window, which rotate, which are no part of the model's own pass.

use super::Blocks;
use crate::model::ModelError;

impl Blocks<'_, '_> {
    /// Which layers look back over a window only: `attention.sliding_window_pattern`, one flag for each layer or the period of
    /// the pattern, in which the last layer (or the first, where `full_first`) looks back over everything.
    pub fn windowed_layers(&self, period: usize, full_first: bool) -> Result<Vec<bool>, ModelError> {
        let layers = self.hyper.layers;
        let key = "attention.sliding_window_pattern";
        if let Some(flags) = self.keys.layer_flags(key, layers)? {
            return Ok(flags);
        }
        let period = self.keys.count(key, 1 << 16)?.unwrap_or(period);
        let full = if full_first { 0 } else { period - 1 };
        Ok((0..layers).map(|layer| layer % period != full).collect())
    }
}
