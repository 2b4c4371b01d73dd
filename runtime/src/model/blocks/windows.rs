//! Sliding windows, and which layers have one.

use super::Blocks;
use crate::model::ModelError;
use crate::plan::Window;

/// A window length in positions, and the layers that it applies to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    length: usize,
    layers: Vec<bool>,
}

impl Windows {
    /// A layer's window; `None`: full attention.
    pub fn of(&self, layer: usize) -> Option<Window> {
        self.layers[layer].then_some(Window::Sliding(self.length))
    }
}

impl Blocks<'_, '_> {
    /// The windows that `attention.sliding_window` and `attention.sliding_window_pattern` describe. Defaults: `length` (`None`:
    /// no windows), and full attention in the last of every `period` layers.
    pub fn windows(&self, length: Option<usize>, period: usize) -> Result<Option<Windows>, ModelError> {
        let Some(length) = self.keys.count("attention.sliding_window", 1 << 26)?.or(length) else { return Ok(None) };
        let name = "attention.sliding_window_pattern";
        // The array includes dropped prediction layers.
        let layers = self.hyper.heads.len();
        if let Some(layers) = self.keys.layer_flags(name, layers)? {
            return Ok(Some(Windows { length, layers }));
        }
        // A period of 0 means that no layer has full attention.
        let period = match self.keys.number(name)? {
            Some(0.0) => None,
            _ => Some(self.keys.count(name, 1 << 16)?.unwrap_or(period)),
        };
        let layers = (0..layers).map(|layer| period.is_none_or(|period| layer % period + 1 < period)).collect();
        Ok(Some(Windows { length, layers }))
    }
}
