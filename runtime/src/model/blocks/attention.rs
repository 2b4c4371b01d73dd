//! Self-attention: projections, rotation, cache, softmax.

use super::Blocks;
use crate::model::ModelError;
use crate::plan::{Attention, Kept, Linear, Op, Rope, Slot, StateGroup};

/// Queries, keys and values of a layer.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// `(heads * key_dim)`
    pub query: Slot,
    /// `(kv_heads * key_dim)`
    pub key: Slot,
    /// `(kv_heads * value_dim)`
    pub value: Slot,
}

impl Blocks<'_, '_> {
    /// The projections of the current layer: `attn_q`, `attn_k`, `attn_v`, or all three fused in `attn_qkv`.
    pub fn qkv(&mut self, x: Slot) -> Result<Heads, ModelError> {
        let shape = self.attention_shape();
        let widths = [shape.heads * shape.key_dim, shape.kv_heads * shape.key_dim, shape.kv_heads * shape.value_dim];
        let inputs = self.plan.columns(x);
        let linears = if self.has("attn_qkv.weight") {
            self.fused("attn_qkv", &widths, inputs)?
        } else {
            let names = ["attn_q", "attn_k", "attn_v"].into_iter().zip(widths);
            names.map(|(name, width)| self.linear(name, width, inputs)).collect::<Result<Vec<Linear>, _>>()?
        };
        let outs = self.plan.linears(x, &linears);
        Ok(Heads { query: outs[0], key: outs[1], value: outs[2] })
    }

    /// Attention of the current layer by the hyperparameters, without a window.
    pub fn attention_shape(&self) -> Attention {
        Attention {
            heads: self.hyper.heads[self.layer()],
            kv_heads: self.hyper.kv_heads[self.layer()],
            key_dim: self.hyper.key_dim,
            value_dim: self.hyper.value_dim,
            scale: self.hyper.attention_scale,
            window: None,
            softcap: None,
            alibi: None,
            sinks: None,
            causal: self.causal,
        }
    }

    /// Rotates queries and keys.
    pub fn rotate(&mut self, heads: &Heads, rope: &Rope) {
        let shape = self.attention_shape();
        self.plan.rope(heads.query, rope, shape.heads, 0);
        self.plan.rope(heads.key, rope, shape.kv_heads, 0);
    }

    /// Clamps queries, keys and values to `-limit..=limit`.
    pub fn clamp(&mut self, heads: &Heads, limit: f32) {
        for x in [heads.query, heads.key, heads.value] {
            self.plan.apply(Op::Clamp { x, limit });
        }
    }

    /// Reserves KV cache for the current layer.
    pub fn keep(&mut self, shape: &Attention) -> Kept {
        self.plan.keep(StateGroup::Paged {
            layers: 1,
            heads: shape.kv_heads,
            key_dim: shape.key_dim,
            value_dim: shape.value_dim,
            window: shape.window.map(crate::plan::Window::length),
        })
    }

    /// Attention without the output projection.
    pub fn attend(&mut self, heads: &Heads, shape: Attention) -> Slot {
        let kept = self.keep(&shape);
        self.plan.attend(kept, shape, heads.query, heads.key, heads.value)
    }

    /// Attention with the output projection.
    pub fn attention(&mut self, heads: &Heads, shape: Attention) -> Result<Slot, ModelError> {
        let mixed = self.attend(heads, shape);
        let output = self.attention_output()?;
        Ok(self.plan.linear(mixed, output))
    }

    /// The same, added to the residual stream `x`.
    pub fn attention_onto(&mut self, heads: &Heads, shape: Attention, x: Slot) -> Result<(), ModelError> {
        let mixed = self.attend(heads, shape);
        let output = self.attention_output()?;
        self.plan.linear_add(mixed, output, x);
        Ok(())
    }

    /// The same without the output projection's bias: some families ignore it even if the file has one.
    pub fn attention_onto_without_bias(&mut self, heads: &Heads, shape: Attention, x: Slot) -> Result<(), ModelError> {
        let mixed = self.attend(heads, shape);
        let output = Linear { bias: None, ..self.attention_output()? };
        self.plan.linear_add(mixed, output, x);
        Ok(())
    }

    /// The output projection of the current layer.
    pub fn attention_output(&mut self) -> Result<Linear, ModelError> {
        let shape = self.attention_shape();
        self.linear("attn_output", self.hyper.embedding, shape.heads * shape.value_dim)
    }
}
