//! `llama`: grouped-query attention with rope on adjacent pairs, SiLU-gated feed-forward, RMS norms; dense.

use std::sync::Arc;

use crate::backend::{Activation, AttentionShape, Backend, Factor, KvShape};
use crate::model::blocks::{Attention, FeedForward, Layer, Linear, Mixer, Norm};
use crate::model::forward::{Model, SlotColumns, Slots};
use crate::model::hyperparameters::{Hyperparameters, Keys};
use crate::model::rope::{Rope, RopePairs};
use crate::model::{ModelError, TensorSource};

/// Reads tensors of one architecture under the names GGUF gives them.
struct Builder<'a, 'b> {
    tensors: &'a mut TensorSource<'b>,
    backend: &'a mut dyn Backend,
    hyper: &'a Hyperparameters,
}

impl Builder<'_, '_> {
    fn norm(&mut self, name: &str) -> Result<Norm, ModelError> {
        let weight = self.tensors.vector(self.backend, &format!("{name}.weight"), self.hyper.embedding)?;
        Ok(Norm { weight, epsilon: self.hyper.norm_epsilon })
    }

    fn linear(&mut self, name: &str, outputs: usize, inputs: usize) -> Result<Linear, ModelError> {
        Ok(Linear {
            weight: self.tensors.matrix(self.backend, &format!("{name}.weight"), outputs, inputs)?,
            bias: self.tensors.optional_vector(self.backend, &format!("{name}.bias"), outputs)?,
            factor: self.factor(name)?,
        })
    }

    /// A projection of the feed-forward block, whose factor covers its bias.
    fn feed_forward_linear(&mut self, name: &str, outputs: usize, inputs: usize) -> Result<Linear, ModelError> {
        let mut linear = self.linear(name, outputs, inputs)?;
        if let Some(factor) = &mut linear.factor {
            factor.covers_bias = true;
        }
        Ok(linear)
    }

    /// The factor of a whole matrix that files made from scaled formats carry.
    fn factor(&mut self, name: &str) -> Result<Option<Factor>, ModelError> {
        // What activations were divided by where they are quantised to four bits; nothing here does that.
        self.tensors.ignore(&format!("{name}.input_scale"));
        let scale = self.tensors.optional_values(self.backend, &format!("{name}.scale"), 1)?;
        Ok(scale.map(|scale| Factor { value: scale[0], covers_bias: false }))
    }

    fn layer(&mut self, layer: usize, rope: &Rope) -> Result<Layer, ModelError> {
        let Hyperparameters { embedding, feed_forward, heads, kv_heads, head_dim, .. } = *self.hyper;
        let name = |part: &str| format!("blk.{layer}.{part}");
        let attention = Attention {
            norm: self.norm(&name("attn_norm"))?,
            query: self.linear(&name("attn_q"), heads * head_dim, embedding)?,
            key: self.linear(&name("attn_k"), kv_heads * head_dim, embedding)?,
            value: self.linear(&name("attn_v"), kv_heads * head_dim, embedding)?,
            output: self.linear(&name("attn_output"), embedding, heads * head_dim)?,
            rope: Some(rope.clone()),
            shape: AttentionShape {
                heads,
                kv_heads,
                head_dim,
                scale: self.hyper.attention_scale,
                window: None,
                softcap: None,
            },
            kv_layer: layer,
        };
        let feed_forward = FeedForward::Gated {
            norm: self.norm(&name("ffn_norm"))?,
            gate: self.feed_forward_linear(&name("ffn_gate"), feed_forward, embedding)?,
            up: self.feed_forward_linear(&name("ffn_up"), feed_forward, embedding)?,
            down: self.feed_forward_linear(&name("ffn_down"), embedding, feed_forward)?,
            activation: Activation::Silu,
        };
        // Rotation frequencies that files of 2023 carry; the hyperparameters say the same.
        self.tensors.ignore(&name("attn_rot_embd"));
        Ok(Layer { mixer: Mixer::Attention(attention), feed_forward })
    }
}

pub(super) fn build(
    keys: &Keys<'_>,
    tensors: &mut TensorSource<'_>,
    backend: &mut dyn Backend,
) -> Result<Model, ModelError> {
    if keys.count("expert_count", u64::from(u16::MAX))?.is_some() {
        return Err(ModelError::Unsupported {
            architecture: keys.architecture.to_owned(),
            what: "this is a mixture of experts, which this build does not run yet".into(),
        });
    }
    let hyper = Hyperparameters::read(keys)?;
    let kv = KvShape { layers: hyper.layers, kv_heads: hyper.kv_heads, head_dim: hyper.head_dim };
    backend.kv_shape(kv).map_err(ModelError::KvCache)?;
    let factors = rope_factors(keys, &hyper, tensors, backend)?;
    let rope = hyper.rope(keys, RopePairs::Adjacent, factors)?;
    let vocabulary = vocabulary(tensors)?;

    let token_table = tensors.matrix(backend, "token_embd.weight", vocabulary, hyper.embedding)?;
    let mut builder = Builder { tensors, backend, hyper: &hyper };
    let layers = (0..hyper.layers).map(|layer| builder.layer(layer, &rope)).collect::<Result<_, _>>()?;
    let output_norm = builder.norm("output_norm")?;
    let output = if builder.tensors.has("output.weight") {
        builder.linear("output", vocabulary, hyper.embedding)?
    } else {
        Linear { weight: token_table, bias: None, factor: None }
    };
    let columns = SlotColumns {
        embedding: hyper.embedding,
        attended: hyper.heads * hyper.head_dim,
        cached: hyper.kv_heads * hyper.head_dim,
        feed_forward: hyper.feed_forward,
        vocabulary,
    };
    let slots = Slots::new(backend, columns);
    Ok(Model { vocabulary, trained_context: hyper.context, token_table, layers, output_norm, output, kv, slots })
}

/// Rows of the token table: the file's own word on the vocabulary's size.
fn vocabulary(tensors: &TensorSource<'_>) -> Result<usize, ModelError> {
    let name = "token_embd.weight";
    if !tensors.has(name) {
        return Err(ModelError::MissingTensor { name: name.into() });
    }
    let rows = tensors.dimension(name, 1).unwrap_or(1);
    match usize::try_from(rows) {
        Ok(rows) if rows > 1 && u32::try_from(rows).is_ok() => Ok(rows),
        _ => Err(ModelError::WrongShape {
            name: name.into(),
            found: format!("{rows} rows"),
            expected: "a row a token, at least two".into(),
        }),
    }
}

/// Frequency divisors, where the file has them: longrope's for the context in force, or those of Llama 3.1.
fn rope_factors(
    keys: &Keys<'_>,
    hyper: &Hyperparameters,
    tensors: &mut TensorSource<'_>,
    backend: &dyn Backend,
) -> Result<Option<Arc<[f32]>>, ModelError> {
    let pairs = keys.count("rope.dimension_count", 1 << 16)?.unwrap_or(hyper.head_dim) / 2;
    let Some([name, other]) = hyper.longrope_factors(keys)? else {
        return tensors.optional_values(backend, "rope_freqs.weight", pairs);
    };
    tensors.ignore(other);
    let factors = tensors.optional_values(backend, name, pairs)?;
    factors.map(Some).ok_or_else(|| ModelError::MissingTensor { name: name.into() })
}
