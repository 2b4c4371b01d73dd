//! Feed-forward blocks.

use super::{Blocks, Mixture};
use crate::model::ModelError;
use crate::plan::{Activation, Linear, Slot};

impl Blocks<'_, '_> {
    /// `x += feed_forward(normed)` of the current layer: experts where it has them, or a gated block.
    pub fn feed_forward_add(&mut self, normed: Slot, mixture: Mixture, x: Slot) -> Result<(), ModelError> {
        if self.has_experts() {
            let routed = self.routed_and_shared(normed, mixture)?;
            self.plan.add(routed, x);
            return Ok(());
        }
        let (gated, down) = self.gated(normed, mixture.activation)?;
        self.plan.linear_add(gated, down, x);
        Ok(())
    }

    /// A projection of a feed-forward block, whose factor covers its bias.
    pub fn feed_forward_linear(&mut self, name: &str, outputs: usize, inputs: usize) -> Result<Linear, ModelError> {
        let mut linear = self.linear(name, outputs, inputs)?;
        if let Some(factor) = &mut linear.factor {
            factor.covers_bias = true;
        }
        Ok(linear)
    }

    /// `activation(up(x))` by `ffn_up`, and the projection `ffn_down` that goes with it.
    pub fn plain(&mut self, x: Slot, activation: Activation) -> Result<(Slot, Linear), ModelError> {
        let (inputs, width) = (self.plan.columns(x), self.hyper.feed_forward[self.layer()]);
        let up = self.feed_forward_linear("ffn_up", width, inputs)?;
        let down = self.feed_forward_linear("ffn_down", self.hyper.embedding, width)?;
        let up = self.plan.linear(x, up);
        Ok((self.plan.activate(activation, up), down))
    }

    /// `activation(gate(x)) * up(x)` by `ffn_gate` and `ffn_up`, and the projection `ffn_down` that goes with it.
    pub fn gated(&mut self, x: Slot, activation: Activation) -> Result<(Slot, Linear), ModelError> {
        let (inputs, width) = (self.plan.columns(x), self.hyper.feed_forward[self.layer()]);
        let gate = self.feed_forward_linear("ffn_gate", width, inputs)?;
        let up = self.feed_forward_linear("ffn_up", width, inputs)?;
        let down = self.feed_forward_linear("ffn_down", self.hyper.embedding, width)?;
        let outs = self.plan.linears(x, &[gate, up]);
        Ok((self.plan.gate(activation, outs[0], outs[1]), down))
    }
}
