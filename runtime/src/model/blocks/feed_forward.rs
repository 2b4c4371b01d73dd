//! Feed-forward blocks. Each returns the input of its last projection and that projection, whose result is then added to the
//! residual stream, possibly after a norm or a scale.

use super::{Blocks, Mixture};
use crate::model::ModelError;
use crate::plan::{Activation, Linear, Slot};

impl Blocks<'_, '_> {
    /// `x += feed_forward(normed)` of the current layer: experts if it has them, else a gated block.
    pub fn feed_forward_add(&mut self, normed: Slot, mixture: Mixture, x: Slot) -> Result<(), ModelError> {
        if self.has_experts() {
            let routed = self.routed_and_shared(normed, mixture)?;
            self.plan.add(routed, x);
            return Ok(());
        }
        self.gated_onto(normed, mixture.activation, x)
    }

    /// A projection of a feed-forward block, whose factor covers its bias.
    pub fn feed_forward_linear(&mut self, name: &str, outputs: usize, inputs: usize) -> Result<Linear, ModelError> {
        let linear = self.linear(name, outputs, inputs)?;
        Ok(self.feed_forward_factor(linear))
    }

    fn feed_forward_factor(&self, mut linear: Linear) -> Linear {
        if let Some(factor) = &mut linear.factor {
            factor.covers_bias = true;
        }
        linear
    }

    /// `activation(gate(x)) * up(x)` with `ffn_gate` and `ffn_up`, or a fused `ffn_up`, gate first.
    pub fn gated(&mut self, x: Slot, activation: Activation) -> Result<(Slot, Linear), ModelError> {
        let (inputs, width) = (self.plan.columns(x), self.hyper.feed_forward[self.layer()]);
        let linears = if self.has("ffn_gate.weight") {
            let gate = self.feed_forward_linear("ffn_gate", width, inputs)?;
            vec![gate, self.feed_forward_linear("ffn_up", width, inputs)?]
        } else {
            let parts = self.fused("ffn_up", &[width, width], inputs)?;
            parts.into_iter().map(|part| self.feed_forward_factor(part)).collect()
        };
        let outs = self.plan.linears(x, &linears);
        let gated = self.plan.gate(activation, outs[0], outs[1]);
        Ok((gated, self.down(width)?))
    }

    /// `activation(up(x))` with `ffn_up`.
    pub fn plain(&mut self, x: Slot, activation: Activation) -> Result<(Slot, Linear), ModelError> {
        let (inputs, width) = (self.plan.columns(x), self.hyper.feed_forward[self.layer()]);
        let up = self.feed_forward_linear("ffn_up", width, inputs)?;
        let up = self.plan.linear(x, up);
        let active = self.plan.activate(activation, up);
        Ok((active, self.down(width)?))
    }

    fn down(&mut self, width: usize) -> Result<Linear, ModelError> {
        self.feed_forward_linear("ffn_down", self.hyper.embedding, width)
    }

    /// [`Blocks::gated`] with its last projection.
    pub fn gated_block(&mut self, x: Slot, activation: Activation) -> Result<Slot, ModelError> {
        let (gated, down) = self.gated(x, activation)?;
        Ok(self.plan.linear(gated, down))
    }

    /// [`Blocks::gated`], added to the residual stream `to`.
    pub fn gated_onto(&mut self, x: Slot, activation: Activation, to: Slot) -> Result<(), ModelError> {
        let (gated, down) = self.gated(x, activation)?;
        self.plan.linear_add(gated, down, to);
        Ok(())
    }

    /// [`Blocks::plain`], added to the residual stream `to`.
    pub fn plain_onto(&mut self, x: Slot, activation: Activation, to: Slot) -> Result<(), ModelError> {
        let (active, down) = self.plain(x, activation)?;
        self.plan.linear_add(active, down, to);
        Ok(())
    }
}
