//! A model's hyperparameters, read from GGUF metadata and checked before any allocation depends on them.

use super::ModelError;
use super::keys::Keys;
use crate::plan::{Rope, RopePairs, RopeScaling, Weight};

/// Limits on what a file may claim: well above any existing model, and too low to exhaust memory by themselves.
const MOST_LAYERS: u64 = 1024;
pub(super) const MOST_COLUMNS: u64 = 1 << 20;
const MOST_HEADS: u64 = 1024;
const MOST_HEAD_DIM: u64 = 1024;
const MOST_CONTEXT: u64 = 1 << 26;

/// Limit for the default context length; `--context` allows more, up to the trained length.
pub const DEFAULT_CONTEXT_MOST: usize = 32_768;

/// Hyperparameters common to all architectures. Those that vary by layer have a number for each.
#[derive(Clone, Debug, PartialEq)]
pub struct Hyperparameters {
    /// Positions the model was trained on.
    pub context: usize,
    /// Width of the residual stream.
    pub embedding: usize,
    /// Number of layers.
    pub layers: usize,
    /// Hidden width of the feed-forward block; 0 in layers without one.
    pub feed_forward: Vec<usize>,
    /// Query heads; 0 in layers without attention.
    pub heads: Vec<usize>,
    /// Key and value heads; divides `heads`.
    pub kv_heads: Vec<usize>,
    /// Width of a query or key head.
    pub key_dim: usize,
    /// Width of a value head.
    pub value_dim: usize,
    /// Added to the mean square in RMS norms.
    pub rms_epsilon: f32,
    /// Added to the variance in layer norms.
    pub layer_epsilon: f32,
    /// Factor for attention scores before the softmax.
    pub attention_scale: f32,
}

impl Hyperparameters {
    /// Reads and checks the keys that every architecture has.
    pub fn read(keys: &Keys<'_>) -> Result<Self, ModelError> {
        let embedding = keys.required_count("embedding_length", MOST_COLUMNS)?;
        let layers = keys.required_count("block_count", MOST_LAYERS)?;
        let heads = keys.per_layer("attention.head_count", layers, MOST_HEADS)?.unwrap_or_else(|| vec![0; layers]);
        let kv_heads = keys.per_layer("attention.head_count_kv", layers, MOST_HEADS)?.unwrap_or_else(|| heads.clone());
        if let Some((&heads, &kv_heads)) = heads
            .iter()
            .zip(&kv_heads)
            .find(|&(&heads, &kv_heads)| heads > 0 && (kv_heads == 0 || heads % kv_heads != 0))
        {
            return Err(keys.wrong("attention.head_count_kv", kv_heads, format!("it must divide the {heads} heads")));
        }
        let key_length = keys.count("attention.key_length", MOST_HEAD_DIM)?;
        let key_dim = match (key_length, heads.iter().copied().find(|&heads| heads > 0)) {
            (Some(length), _) => length,
            (None, None) => 0,
            (None, Some(heads)) if embedding % heads == 0 => embedding / heads,
            (None, Some(heads)) => {
                return Err(keys.wrong("attention.head_count", heads, format!("it must divide {embedding}")));
            }
        };
        let scale = if key_dim == 0 { 1.0 } else { 1.0 / (key_dim as f32).sqrt() };
        Ok(Self {
            context: keys.required_count("context_length", MOST_CONTEXT)?,
            embedding,
            layers,
            feed_forward: keys
                .per_layer("feed_forward_length", layers, MOST_COLUMNS)?
                .unwrap_or_else(|| vec![0; layers]),
            heads,
            kv_heads,
            key_dim,
            value_dim: keys.count("attention.value_length", MOST_HEAD_DIM)?.unwrap_or(key_dim),
            attention_scale: keys.positive("attention.scale", scale)?,
            rms_epsilon: keys.positive("attention.layer_norm_rms_epsilon", 1e-5)?,
            layer_epsilon: keys.positive("attention.layer_norm_epsilon", 1e-5)?,
        })
    }

    /// The rotation that the `rope.*` keys describe. `factors` divide the frequencies, one per pair.
    pub fn rope(&self, keys: &Keys<'_>, pairs: RopePairs, factors: Option<Weight>) -> Result<Rope, ModelError> {
        let scaling = self.rope_scaling(keys)?;
        Ok(Rope {
            pairs,
            dimensions: self.rope_dimensions(keys)?,
            base: keys.positive("rope.freq_base", 10_000.0)?,
            scaling,
            factors,
            magnitude: self.rope_magnitude(keys, scaling)?,
        })
    }

    /// Number of rotated elements of a head.
    pub fn rope_dimensions(&self, keys: &Keys<'_>) -> Result<usize, ModelError> {
        let dimensions = keys.count("rope.dimension_count", MOST_HEAD_DIM)?.unwrap_or(self.key_dim);
        if dimensions % 2 != 0 || dimensions > self.key_dim {
            let why = format!("it must be even and at most the head's {}", self.key_dim);
            return Err(keys.wrong("rope.dimension_count", dimensions, why));
        }
        Ok(dimensions)
    }

    /// The context length: the requested one, or the default for this model.
    fn context_in_force(&self, keys: &Keys<'_>) -> usize {
        keys.context().unwrap_or(self.context.clamp(2, DEFAULT_CONTEXT_MOST))
    }

    /// Whether the file uses longrope: separate frequency divisors for contexts beyond the original one.
    pub fn is_longrope(&self, keys: &Keys<'_>) -> Result<bool, ModelError> {
        Ok(keys.text("rope.scaling.type")? == Some("longrope"))
    }

    /// Whether the context exceeds the one before extension, which selects one of longrope's two divisor tensors. As in
    /// llama.cpp, the context length decides, not the length of the sequence, so that the rotation does not change in
    /// mid-conversation.
    pub fn exceeds_original_context(&self, keys: &Keys<'_>) -> Result<bool, ModelError> {
        Ok(self.context_in_force(keys) > self.original_context(keys)?)
    }

    /// Context length before it was extended.
    pub fn original_context(&self, keys: &Keys<'_>) -> Result<usize, ModelError> {
        Ok(keys.count("rope.scaling.original_context_length", MOST_CONTEXT)?.unwrap_or(self.context))
    }

    /// Factor for cosines and sines, in addition to YaRN's own `1 + 0.1 ln factor`.
    fn rope_magnitude(&self, keys: &Keys<'_>, scaling: RopeScaling) -> Result<f32, ModelError> {
        let asked = keys.positive("rope.scaling.attn_factor", 1.0)?;
        let RopeScaling::Yarn { factor, .. } = scaling else {
            return Ok(asked * keys.positive("rope.scaling.yarn_attn_factor", 1.0)?);
        };
        let warmth = |share: f32| if factor <= 1.0 { 1.0 } else { 1.0 + 0.1 * share * factor.ln() };
        let multiplier = keys.positive("rope.scaling.yarn_log_multiplier", 0.0)?;
        let wanted = if multiplier == 0.0 { warmth(1.0) } else { warmth(1.0) / warmth(multiplier) };
        Ok(asked * (wanted / (1.0 + 0.1 * factor.ln())))
    }

    fn rope_scaling(&self, keys: &Keys<'_>) -> Result<RopeScaling, ModelError> {
        // `rope.scale_linear` is the key in files of 2023.
        let legacy = keys.positive("rope.scale_linear", 1.0)?;
        let factor = keys.positive("rope.scaling.factor", legacy)?;
        let kind = keys.text("rope.scaling.type")?.unwrap_or("linear");
        if !["none", "linear", "longrope", "yarn"].contains(&kind) {
            return Err(keys.wrong("rope.scaling.type", kind, "this build supports none, linear, yarn and longrope"));
        }
        let factor = if kind == "none" { 1.0 } else { factor };
        // Negative means not set.
        let extrapolation = keys.number("rope.scaling.yarn_ext_factor")?.filter(|&share| share >= 0.0);
        let extrapolation = extrapolation.unwrap_or(if kind == "yarn" { 1.0 } else { 0.0 });
        if extrapolation > 0.0 {
            return Ok(RopeScaling::Yarn {
                factor,
                original_context: self.original_context(keys)?,
                extrapolation,
                beta_fast: keys.positive("rope.scaling.yarn_beta_fast", 32.0)?,
                beta_slow: keys.positive("rope.scaling.yarn_beta_slow", 1.0)?,
            });
        }
        // Longrope needs no scaling here: it is in the divisors.
        Ok(if factor == 1.0 { RopeScaling::None } else { RopeScaling::Linear { factor } })
    }
}
