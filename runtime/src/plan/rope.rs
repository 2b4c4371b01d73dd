//! Rotary position embedding as a model describes it: data only. The rotation itself is an operation of a plan.
//!
//! Names and defaults follow GGUF's `<arch>.rope.*` keys; YaRN is described in arXiv:2309.00071.

use super::Weight;

/// Which elements of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairs {
    /// `(2i, 2i + 1)`: the layout that GGUF conversion gives `llama`.
    Adjacent,
    /// `(i, i + dimensions / 2)`
    Halves,
}

/// How frequencies change beyond the context that a model was trained on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Positions are divided by `factor`.
    Linear {
        /// > 0
        factor: f32,
    },
    /// High frequencies are kept, low ones are divided by `factor`, those between are mixed.
    Yarn {
        /// > 0
        factor: f32,
        /// The context length before scaling.
        original_context: usize,
        /// Share of the extrapolated frequencies, 0 to 1.
        extrapolation: f32,
        /// Turns within the original context above which a frequency is kept.
        beta_fast: f32,
        /// Turns below which it is divided.
        beta_slow: f32,
    },
}

/// The rotation of a model's query and key heads.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Which elements turn together.
    pub pairs: RopePairs,
    /// How many elements of a head turn, from its first on; even.
    pub dimensions: usize,
    /// Base of the frequencies, `base^(-2i / dimensions)`.
    pub base: f32,
    /// Context extension.
    pub scaling: RopeScaling,
    /// Divisors of the frequencies, one a pair (`rope_freqs.weight`).
    pub factors: Option<Weight>,
    /// Multiplies cosine and sine beside YaRN's own `1 + 0.1 ln factor`; 1 where the file says nothing else.
    pub magnitude: f32,
}
