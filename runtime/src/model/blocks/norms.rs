//! Norms: over whole rows, per head, before or after a block.

use super::{Blocks, Heads};
use crate::model::ModelError;
use crate::plan::{Norm, NormKind, Slot};

impl Blocks<'_, '_> {
    /// A norm over `width` columns with the tensors `name.weight` and, if present, `name.bias`.
    pub fn norm_weights(&mut self, kind: NormKind, name: &str, width: usize) -> Result<Norm, ModelError> {
        let full = self.name(name);
        self.norm_named(kind, &full, width, &[width])
    }

    /// A norm over `width` columns whose tensors have dimensions `shape`, columns first: possibly separate weights per group.
    fn norm_named(&mut self, kind: NormKind, name: &str, width: usize, shape: &[usize]) -> Result<Norm, ModelError> {
        let weight = self.tensors.vector(&format!("{name}.weight"), shape)?;
        let weight = Some(self.plan.weight(weight));
        let bias_name = format!("{name}.bias");
        let bias = match self.tensors.has(&bias_name) {
            true => Some(self.tensors.vector(&bias_name, shape)?),
            false => None,
        };
        let bias = bias.map(|bias| self.plan.weight(bias));
        Ok(Norm { kind, width, weight, bias, epsilon: self.epsilon(kind) })
    }

    /// ε of a norm.
    pub fn epsilon(&self, kind: NormKind) -> f32 {
        match kind {
            NormKind::Layer => self.hyper.layer_epsilon,
            NormKind::Rms | NormKind::L2 => self.hyper.rms_epsilon,
        }
    }

    /// `norm(x)` over all columns, with tensors of the current layer.
    pub fn norm(&mut self, kind: NormKind, x: Slot, name: &str) -> Result<Slot, ModelError> {
        let norm = self.norm_weights(kind, name, self.plan.columns(x))?;
        Ok(self.plan.norm(x, norm))
    }

    /// `norm(x)` over all columns, with tensors outside of any layer.
    pub fn outer_norm(&mut self, kind: NormKind, x: Slot, name: &str) -> Result<Slot, ModelError> {
        let columns = self.plan.columns(x);
        let norm = self.norm_named(kind, name, columns, &[columns])?;
        Ok(self.plan.norm(x, norm))
    }

    /// Per-head norms of queries and keys: `attn_q_norm`, `attn_k_norm`, with weights shared by all heads.
    pub fn head_norms(&mut self, kind: NormKind, heads: Heads) -> Result<Heads, ModelError> {
        let width = self.hyper.key_dim;
        self.query_and_key_norms(kind, heads, width, |_| vec![width])
    }

    /// The same with separate weights for each head.
    pub fn norms_of_each_head(&mut self, kind: NormKind, heads: Heads) -> Result<Heads, ModelError> {
        let width = self.hyper.key_dim;
        self.query_and_key_norms(kind, heads, width, |columns| vec![width, columns / width])
    }

    /// Norms of queries and keys across all heads.
    pub fn norms_across_heads(&mut self, kind: NormKind, heads: Heads) -> Result<Heads, ModelError> {
        let mut normed = heads;
        for (slot, name) in [(&mut normed.query, "attn_q_norm"), (&mut normed.key, "attn_k_norm")] {
            *slot = self.norm(kind, *slot, name)?;
        }
        Ok(normed)
    }

    fn query_and_key_norms(
        &mut self,
        kind: NormKind,
        heads: Heads,
        width: usize,
        shape: impl Fn(usize) -> Vec<usize>,
    ) -> Result<Heads, ModelError> {
        let mut normed = heads;
        for (slot, name) in [(&mut normed.query, "attn_q_norm"), (&mut normed.key, "attn_k_norm")] {
            let (full, shape) = (self.name(name), shape(self.plan.columns(*slot)));
            let norm = self.norm_named(kind, &full, width, &shape)?;
            *slot = self.plan.norm(*slot, norm);
        }
        Ok(normed)
    }

    /// Whether the current layer normalises queries and keys.
    pub fn has_query_norm(&self) -> bool {
        self.has("attn_q_norm.weight")
    }
}
