//! The numbers that describe a model, read from GGUF metadata and checked before anything is allocated by them.

use std::sync::Arc;

use satchel_gguf::{Metadata, Value};

use super::ModelError;
use super::rope::{Rope, RopePairs, RopeScaling};

/// Caps on what a file may claim: well above any model there is, well below what would exhaust memory by itself.
const MOST_LAYERS: u64 = 1024;
const MOST_COLUMNS: u64 = 1 << 20;
const MOST_HEADS: u64 = 1024;
const MOST_HEAD_DIM: u64 = 1024;
const MOST_CONTEXT: u64 = 1 << 26;

/// The longest context taken without being asked for: a model trained on more says so, and `--context` has it.
pub const DEFAULT_CONTEXT_MOST: usize = 32_768;

/// Hyperparameters common to transformer architectures.
#[derive(Clone, Debug, PartialEq)]
pub struct Hyperparameters {
    /// `general.architecture`
    pub architecture: String,
    /// Positions the model was trained on.
    pub context: usize,
    /// Columns of the residual stream.
    pub embedding: usize,
    /// Layers.
    pub layers: usize,
    /// Columns between the two projections of a feed-forward block.
    pub feed_forward: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Columns of a head.
    pub head_dim: usize,
    /// Added to the mean square in norms.
    pub norm_epsilon: f32,
    /// What attention scores are multiplied by before the softmax.
    pub attention_scale: f32,
}

/// Reads `<architecture>.<name>` keys with clear errors.
pub struct Keys<'a> {
    metadata: &'a Metadata,
    /// The architecture's name, the prefix of its keys.
    pub architecture: &'a str,
    /// Positions that a sequence may hold, where they were asked for.
    context: Option<usize>,
}

impl<'a> Keys<'a> {
    /// Keys of the architecture that the file names. `context` is what was asked for of the positions a sequence may hold.
    pub fn new(metadata: &'a Metadata, context: Option<usize>) -> Result<Self, ModelError> {
        match metadata.get("general.architecture") {
            Some(Value::String(architecture)) => Ok(Self { metadata, architecture, context }),
            Some(_) => Err(ModelError::Metadata("general.architecture is not a text".into())),
            None => Err(ModelError::Metadata(
                "the metadata key general.architecture is missing: this is no model file (an adapter or a vocabulary?)"
                    .into(),
            )),
        }
    }

    fn full(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    fn wrong(&self, name: &str, value: impl ToString, why: impl Into<String>) -> ModelError {
        ModelError::Hyperparameter { key: self.full(name), value: value.to_string(), why: why.into() }
    }

    /// A whole number within `1..=most`, or `None` where the key is missing or 0, which is how writers say "unset". An array whose elements are all equal
    /// counts as that number; one that differs from layer to layer is refused.
    pub fn count(&self, name: &str, most: u64) -> Result<Option<usize>, ModelError> {
        let Some(value) = self.metadata.get(&self.full(name)) else { return Ok(None) };
        let number = match value {
            Value::Array(array) => {
                let first = array.get(0).and_then(|value| value.as_i128());
                let all_equal = (0..array.len()).all(|at| array.get(at).and_then(|value| value.as_i128()) == first);
                if !all_equal {
                    return Err(self.wrong(
                        name,
                        "different from layer to layer",
                        "this build needs one value for all",
                    ));
                }
                first
            }
            value => value.as_i128(),
        };
        let Some(number) = number else {
            return Err(self.wrong(name, "not a whole number", "a count is expected"));
        };
        if number == 0 {
            return Ok(None);
        }
        if number < 0 || number > i128::from(most) {
            return Err(self.wrong(name, number, format!("it must lie between 1 and {most}")));
        }
        Ok(Some(number as usize))
    }

    /// Like [`Keys::count`], where the model cannot do without.
    pub fn required_count(&self, name: &str, most: u64) -> Result<usize, ModelError> {
        self.count(name, most)?
            .ok_or_else(|| ModelError::Metadata(format!("the metadata key {} is missing", self.full(name))))
    }

    /// A finite number, or `None` where the key is missing.
    pub fn number(&self, name: &str) -> Result<Option<f32>, ModelError> {
        let number = match self.metadata.get(&self.full(name)) {
            None => return Ok(None),
            Some(Value::F32(number)) => *number,
            Some(Value::F64(number)) => *number as f32,
            Some(value) => match value.as_i128() {
                Some(whole) => whole as f32,
                None => return Err(self.wrong(name, "not a number", "a number is expected")),
            },
        };
        if number.is_finite() { Ok(Some(number)) } else { Err(self.wrong(name, number, "a finite number is expected")) }
    }

    /// A number above zero, or `default` where the key is missing or 0.
    pub fn positive(&self, name: &str, default: f32) -> Result<f32, ModelError> {
        match self.number(name)? {
            None | Some(0.0) => Ok(default),
            Some(number) if number > 0.0 => Ok(number),
            Some(number) => Err(self.wrong(name, number, "it must be above 0")),
        }
    }

    /// A text, or `None` where the key is missing.
    pub fn text(&self, name: &str) -> Result<Option<&'a str>, ModelError> {
        match self.metadata.get(&self.full(name)) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "not a text", "a text is expected")),
        }
    }
}

impl Hyperparameters {
    /// Reads and checks the keys that every transformer architecture has.
    pub fn read(keys: &Keys<'_>) -> Result<Self, ModelError> {
        let embedding = keys.required_count("embedding_length", MOST_COLUMNS)?;
        let heads = keys.required_count("attention.head_count", MOST_HEADS)?;
        let kv_heads = keys.count("attention.head_count_kv", MOST_HEADS)?.unwrap_or(heads);
        if heads % kv_heads != 0 {
            return Err(keys.wrong("attention.head_count_kv", kv_heads, format!("it must divide the {heads} heads")));
        }
        let key_length = keys.count("attention.key_length", MOST_HEAD_DIM)?;
        let head_dim = match key_length {
            Some(length) => length,
            None if embedding % heads == 0 => embedding / heads,
            None => return Err(keys.wrong("attention.head_count", heads, format!("it must divide {embedding}"))),
        };
        if let Some(value_length) = keys.count("attention.value_length", MOST_HEAD_DIM)?
            && value_length != head_dim
        {
            return Err(keys.wrong(
                "attention.value_length",
                value_length,
                format!("this build needs values as wide as keys ({head_dim})"),
            ));
        }
        Ok(Self {
            architecture: keys.architecture.to_owned(),
            context: keys.required_count("context_length", MOST_CONTEXT)?,
            embedding,
            layers: keys.required_count("block_count", MOST_LAYERS)?,
            feed_forward: keys.required_count("feed_forward_length", MOST_COLUMNS)?,
            heads,
            kv_heads,
            head_dim,
            attention_scale: keys.positive("attention.scale", 1.0 / (head_dim as f32).sqrt())?,
            norm_epsilon: keys.positive("attention.layer_norm_rms_epsilon", 1e-5)?,
        })
    }

    /// The rotation that the `rope.*` keys describe. `factors` divide the frequencies, one a pair.
    pub fn rope(&self, keys: &Keys<'_>, pairs: RopePairs, factors: Option<Arc<[f32]>>) -> Result<Rope, ModelError> {
        let dimensions = keys.count("rope.dimension_count", MOST_HEAD_DIM)?.unwrap_or(self.head_dim);
        if dimensions % 2 != 0 || dimensions > self.head_dim {
            let why = format!("it must be even and at most the head's {}", self.head_dim);
            return Err(keys.wrong("rope.dimension_count", dimensions, why));
        }
        if let Some(factors) = &factors
            && (factors.len() != dimensions / 2 || factors.iter().any(|&factor| !factor.is_normal()))
        {
            return Err(ModelError::Metadata(format!(
                "the rope factors must be {} finite numbers other than 0, one a rotated pair",
                dimensions / 2
            )));
        }
        Ok(Rope {
            pairs,
            dimensions,
            base: keys.positive("rope.freq_base", 10_000.0)?,
            scaling: self.rope_scaling(keys)?,
            factors,
            magnitude: self.rope_magnitude(keys)?,
        })
    }

    /// Positions that a sequence may hold: what was asked for, or what the model was trained on and this build takes unasked.
    fn context_in_force(&self, keys: &Keys<'_>) -> usize {
        keys.context.unwrap_or(self.context.clamp(2, DEFAULT_CONTEXT_MOST))
    }

    /// Of the two tensors of frequency divisors that a `longrope` model has: the one for the context in force, and the other.
    /// `None` for every other kind of scaling. The choice is llama.cpp's: by the room there is, not by what fills it, so that
    /// a conversation does not change its rotation on the way.
    pub fn longrope_factors(&self, keys: &Keys<'_>) -> Result<Option<[&'static str; 2]>, ModelError> {
        if keys.text("rope.scaling.type")? != Some("longrope") {
            return Ok(None);
        }
        let original = keys.count("rope.scaling.original_context_length", MOST_CONTEXT)?.unwrap_or(self.context);
        let (long, short) = ("rope_factors_long.weight", "rope_factors_short.weight");
        Ok(Some(if self.context_in_force(keys) > original { [long, short] } else { [short, long] }))
    }

    /// What cosine and sine are multiplied by beside YaRN's factor.
    fn rope_magnitude(&self, keys: &Keys<'_>) -> Result<f32, ModelError> {
        match keys.text("rope.scaling.type")? {
            Some("longrope") => keys.positive("rope.scaling.attn_factor", 1.0),
            _ => Ok(1.0),
        }
    }

    fn rope_scaling(&self, keys: &Keys<'_>) -> Result<RopeScaling, ModelError> {
        // `rope.scale_linear` is the key that files of 2023 have.
        let legacy = keys.positive("rope.scale_linear", 1.0)?;
        let factor = keys.positive("rope.scaling.factor", legacy)?;
        let kind = keys.text("rope.scaling.type")?.unwrap_or(if factor == 1.0 { "none" } else { "linear" });
        match kind {
            "none" => Ok(RopeScaling::None),
            // What is long about longrope is in its factors.
            "linear" | "longrope" if factor == 1.0 => Ok(RopeScaling::None),
            "linear" | "longrope" => Ok(RopeScaling::Linear { factor }),
            "yarn" => Ok(RopeScaling::Yarn {
                factor,
                original_context: keys
                    .count("rope.scaling.original_context_length", MOST_CONTEXT)?
                    .unwrap_or(self.context),
                // Negative: not set.
                extrapolation: keys
                    .number("rope.scaling.yarn_ext_factor")?
                    .filter(|&share| share >= 0.0)
                    .unwrap_or(1.0),
                attention_factor: keys.positive("rope.scaling.attn_factor", 1.0)?
                    * keys.positive("rope.scaling.yarn_attn_factor", 1.0)?,
                beta_fast: keys.positive("rope.scaling.yarn_beta_fast", 32.0)?,
                beta_slow: keys.positive("rope.scaling.yarn_beta_slow", 1.0)?,
            }),
            other => Err(keys.wrong("rope.scaling.type", other, "this build knows none, linear, yarn and longrope")),
        }
    }
}
