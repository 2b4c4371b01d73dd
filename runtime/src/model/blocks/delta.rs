//! Gated delta net (arXiv:2412.06464) as in Qwen3-Next and Qwen3.5, and the gated attention of their other layers.

use super::{Blocks, Heads};
use crate::model::ModelError;
use crate::plan::{Activation, Linear, Norm, NormKind, Op, Recurrence, Rope, Slot};

/// Shape of a gated delta net.
#[derive(Clone, Copy, Debug)]
struct Delta {
    key_dim: usize,
    key_heads: usize,
    value_dim: usize,
    value_heads: usize,
    kernel: usize,
}

impl Delta {
    fn keys(&self) -> usize {
        self.key_dim * self.key_heads
    }

    fn values(&self) -> usize {
        self.value_dim * self.value_heads
    }

    /// Value heads per key head.
    fn group(&self) -> usize {
        self.value_heads / self.key_heads
    }
}

impl Blocks<'_, '_> {
    fn delta(&self) -> Result<Delta, ModelError> {
        let shape = self.state_space()?;
        let (inner, key_heads, value_heads) = (shape.inner, shape.groups, shape.rank);
        if inner % value_heads != 0 || value_heads % key_heads != 0 {
            return Err(self.unsupported(format!(
                "a delta net of {inner} columns cannot be split into {value_heads} value heads and {key_heads} key heads"
            )));
        }
        let value_dim = inner / value_heads;
        Ok(Delta { key_dim: shape.state, key_heads, value_dim, value_heads, kernel: shape.kernel })
    }

    /// A gated delta net: the input of its last projection, and that projection. `interleaved`: the value heads of a key head
    /// are adjacent (value head `v` uses key head `v / group`); otherwise it uses key head `v % key_heads`.
    pub fn delta_net(&mut self, x: Slot, interleaved: bool) -> Result<(Slot, Linear), ModelError> {
        let delta = self.delta()?;
        let embedding = self.plan.columns(x);
        let (mixed, gate) = self.delta_inputs(x, &delta)?;
        let (beta, decay) = self.delta_rates(x, &delta)?;
        let mixed = self.delta_convolution(mixed, delta.kernel)?;
        let query = self.plan.slice(mixed, 0, delta.keys());
        let key = self.plan.slice(mixed, delta.keys(), delta.keys());
        let value = self.plan.slice(mixed, 2 * delta.keys(), delta.values());
        let epsilon = self.epsilon(NormKind::L2);
        let unit = Norm { kind: NormKind::L2, width: delta.key_dim, weight: None, bias: None, epsilon };
        let (query, key) = (self.plan.norm(query, unit), self.plan.norm(key, unit));
        self.plan.scale(query, 1.0 / (delta.key_dim as f32).sqrt());
        let recurrence = Recurrence::GatedDelta {
            query,
            key,
            value,
            decay,
            beta,
            key_heads: delta.key_heads,
            value_heads: delta.value_heads,
            interleaved,
        };
        let elements = delta.value_heads * delta.key_dim * delta.value_dim;
        let mixed = self.plan.recur(recurrence, elements, delta.values());
        let norm = self.norm_weights(NormKind::Rms, "ssm_norm", delta.value_dim)?;
        let normed = self.plan.norm(mixed, norm);
        let gated = self.plan.gate(Activation::Silu, gate, normed);
        Ok((gated, self.linear("ssm_out", embedding, delta.values())?))
    }

    /// The convolution's input `(queries, keys, values)`, and the gate `(values)`. Older files have both in one matrix, ordered
    /// by key head.
    fn delta_inputs(&mut self, x: Slot, delta: &Delta) -> Result<(Slot, Slot), ModelError> {
        let embedding = self.plan.columns(x);
        let (keys, values) = (delta.keys(), delta.values());
        if self.has("attn_qkv.weight") {
            for end in ["weight", "scale", "input_scale"] {
                self.tensors.ignore(&self.name(&format!("ssm_in.{end}")));
            }
            let mixed = self.linear("attn_qkv", 2 * keys + values, embedding)?;
            let gate = self.linear("attn_gate", values, embedding)?;
            let outs = self.plan.linears(x, &[mixed, gate]);
            return Ok((outs[0], outs[1]));
        }
        let all = self.linear("ssm_in", 2 * keys + 2 * values, embedding)?;
        let all = self.plan.linear(x, all);
        let (key, value) = (delta.key_dim, delta.value_dim * delta.group());
        let stride = 2 * key + 2 * value;
        let query = self.plan.split(all, 0, key, stride);
        let keys = self.plan.split(all, key, key, stride);
        let both = self.plan.join(query, keys, 1, delta.keys());
        let of_values = self.plan.split(all, 2 * key, value, stride);
        let mixed = self.plan.join(both, of_values, 1, delta.values());
        Ok((mixed, self.plan.split(all, 2 * key + value, value, stride)))
    }

    /// Each value head's learning rate (β), and the logarithm of its decay.
    fn delta_rates(&mut self, x: Slot, delta: &Delta) -> Result<(Slot, Slot), ModelError> {
        let embedding = self.plan.columns(x);
        let heads = delta.value_heads;
        let (beta, alpha) = if self.has("ssm_ba.weight") {
            let both = self.linear("ssm_ba", 2 * heads, embedding)?;
            let both = self.plan.linear(x, both);
            let group = delta.group();
            (self.plan.split(both, 0, group, 2 * group), self.plan.split(both, group, group, 2 * group))
        } else {
            let (beta, alpha) =
                (self.linear("ssm_beta", heads, embedding)?, self.linear("ssm_alpha", heads, embedding)?);
            let outs = self.plan.linears(x, &[beta, alpha]);
            (outs[0], outs[1])
        };
        let beta = self.plan.activate(Activation::Sigmoid, beta);
        let bias = self.vector("ssm_dt.bias", heads)?;
        self.plan.apply(Op::Bias { vector: bias, x: alpha });
        let decay = self.plan.activate(Activation::Softplus, alpha);
        let a = self.vector("ssm_a", heads)?;
        self.plan.apply(Op::MultiplyVector { vector: a, to: decay, width: 1 });
        Ok((beta, decay))
    }

    /// Attention whose result is multiplied by a gate, which is interleaved with the queries by head. Without the output
    /// projection.
    pub fn gated_attention(&mut self, x: Slot, rope: &Rope) -> Result<Slot, ModelError> {
        let shape = self.attention_shape();
        let inputs = self.plan.columns(x);
        let query = self.linear("attn_q", 2 * shape.heads * shape.key_dim, inputs)?;
        let key = self.linear("attn_k", shape.kv_heads * shape.key_dim, inputs)?;
        let value = self.linear("attn_v", shape.kv_heads * shape.value_dim, inputs)?;
        let outs = self.plan.linears(x, &[query, key, value]);
        let gate = self.plan.split(outs[0], shape.key_dim, shape.key_dim, 2 * shape.key_dim);
        let query = self.plan.split(outs[0], 0, shape.key_dim, 2 * shape.key_dim);
        let heads = self.head_norms(NormKind::Rms, Heads { query, key: outs[1], value: outs[2] })?;
        self.rotate(&heads, rope);
        let mixed = self.attend(&heads, shape);
        Ok(self.plan.gate(Activation::Sigmoid, gate, mixed))
    }
}
