//! A model's rotary position embedding, as data. The rotation itself is an operation of a plan.
//!
//! Names and defaults follow GGUF's `<arch>.rope.*` keys; YaRN is described in arXiv:2309.00071.

use super::Weight;

/// Which elements of a head form a rotated pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairs {
    /// `(2i, 2i + 1)`: the layout that GGUF conversion gives `llama`.
    Adjacent,
    /// `(i, i + dimensions / 2)`
    Halves,
}

/// How frequencies change to extend the trained context.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Unchanged.
    None,
    /// Positions are divided by `factor`.
    Linear {
        /// > 0
        factor: f32,
    },
    /// Keeps high frequencies, divides low ones by `factor`, interpolates between.
    Yarn {
        /// > 0
        factor: f32,
        /// The context length before scaling.
        original_context: usize,
        /// Weight of the extrapolated frequencies, 0 to 1.
        extrapolation: f32,
        /// Rotations within the original context above which a frequency is kept.
        beta_fast: f32,
        /// Rotations below which it is divided.
        beta_slow: f32,
    },
}

/// The rotation of a model's query and key heads.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Which elements form pairs.
    pub pairs: RopePairs,
    /// Rotated elements per head, from the first on; even.
    pub dimensions: usize,
    /// Base of the frequencies, `base^(-2i / dimensions)`.
    pub base: f32,
    /// Context extension.
    pub scaling: RopeScaling,
    /// Divisors of the frequencies, one per pair (`rope_freqs.weight`).
    pub factors: Option<Weight>,
    /// Scales cosine and sine in addition to YaRN's own `1 + 0.1 ln factor`; 1 by default.
    pub magnitude: f32,
}
