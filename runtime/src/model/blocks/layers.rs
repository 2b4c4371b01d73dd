//! Which layers have a sliding window.

use super::Blocks;
use crate::model::ModelError;

impl Blocks<'_, '_> {
    /// Which layers attend within a window, by `attention.sliding_window_pattern`: one flag per layer, or the period of the
    /// pattern, whose last layer (the first if `full_first`) has full attention. `period` is the default.
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
