//! Mixtures of experts: a router, the experts that it selects, and shared experts.

use super::Blocks;
use crate::model::ModelError;
use crate::model::tensors::rows_of;
use crate::plan::{Activation, ExpertActivation, Experts, Gating, Linear, Router, Slot, Weight};

/// How a family selects and weights its experts, unless the file says otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Mixture {
    /// From scores to weights, unless `expert_gating_func` says otherwise.
    pub gating: Gating,
    /// Divide the selected weights by their sum.
    pub normalise: bool,
    /// Select by scores instead of weights.
    pub by_score: bool,
    /// Multiply the experts' input by the weights instead of their output.
    pub weigh_input: bool,
    /// The nonlinearity.
    pub activation: Activation,
    /// Steepness and limit of gpt-oss's gate, which replaces the activation.
    pub limited: Option<(f32, f32)>,
}

impl Default for Mixture {
    /// The most common choice: softmax over all experts, weights normalised to a sum of 1, SiLU.
    fn default() -> Self {
        Self {
            gating: Gating::Softmax,
            normalise: true,
            by_score: false,
            weigh_input: false,
            activation: Activation::Silu,
            limited: None,
        }
    }
}

impl Blocks<'_, '_> {
    /// Number of experts; `None` if the model is dense.
    pub fn experts(&self) -> Result<Option<usize>, ModelError> {
        self.keys.count("expert_count", u64::from(u16::MAX))
    }

    /// Whether the current layer has experts.
    pub fn has_experts(&self) -> bool {
        self.has("ffn_gate_inp.weight") || self.has("ffn_down_exps.weight")
    }

    /// Whether weights are normalised: `expert_weights_norm`, or `default`.
    pub fn normalises(&self, default: bool) -> Result<bool, ModelError> {
        Ok(self.keys.flag("expert_weights_norm")?.unwrap_or(default))
    }

    /// A score for each expert, from `ffn_gate_inp`.
    pub fn scores(&mut self, x: Slot) -> Result<Slot, ModelError> {
        let experts = self.experts()?.ok_or_else(|| self.unsupported("expert_count is missing"))?;
        let router = self.linear("ffn_gate_inp", experts, self.plan.columns(x))?;
        Ok(self.plan.linear(x, router))
    }

    /// Weighted sum of the selected experts' outputs for `x`.
    pub fn mixture(&mut self, x: Slot, scores: Slot, mixture: Mixture) -> Result<Slot, ModelError> {
        let router = self.router(&mixture, self.plan.columns(scores))?;
        let routes = self.plan.route(scores, router);
        let experts = self.expert_stacks(router.experts, &mixture)?;
        Ok(self.plan.experts(x, routes, experts))
    }

    /// The same with the scores of `x` itself.
    pub fn routed(&mut self, x: Slot, mixture: Mixture) -> Result<Slot, ModelError> {
        let scores = self.scores(x)?;
        self.mixture(x, scores, mixture)
    }

    fn router(&mut self, mixture: &Mixture, experts: usize) -> Result<Router, ModelError> {
        let used = self.keys.required_count("expert_used_count", experts as u64)?;
        let groups = self.keys.count("expert_group_count", experts as u64)?.unwrap_or(1);
        let groups_used = self.keys.count("expert_group_used_count", groups as u64)?.unwrap_or(groups);
        if !experts.is_multiple_of(groups)
            || groups > 1 && experts / groups < 2
            || groups_used * (experts / groups) < used
        {
            return Err(self.unsupported(format!(
                "cannot select {used} of {experts} experts from {groups_used} of {groups} groups"
            )));
        }
        let gating = match self.keys.count("expert_gating_func", 3)? {
            None => mixture.gating,
            Some(1) => Gating::Softmax,
            Some(2) => Gating::Sigmoid,
            Some(_) => Gating::SoftmaxOfChosen,
        };
        Ok(Router {
            experts,
            used,
            gating,
            bias: self.optional_vector("exp_probs_b.bias", experts)?,
            by_score: mixture.by_score,
            groups,
            groups_used,
            normalise: mixture.normalise,
            scale: self.keys.positive("expert_weights_scale", 1.0)?,
        })
    }

    /// The matrices of all experts of the current layer; gate and up may be fused.
    fn expert_stacks(&mut self, experts: usize, mixture: &Mixture) -> Result<Experts, ModelError> {
        self.keys.refuse_limits("swiglu_clamp_exp")?;
        let embedding = self.hyper.embedding;
        let down = self.name("ffn_down_exps.weight");
        let width = self.tensors.dimension(&down, 0).unwrap_or(0) as usize;
        let (gate, up) = if self.has("ffn_gate_up_exps.weight") {
            let both = self.tensors.stack(&self.name("ffn_gate_up_exps.weight"), experts, 2 * width, embedding)?;
            let (gate, up) = (rows_of(&both, 0..width), rows_of(&both, width..2 * width));
            (Some(self.plan.weight(gate)), self.plan.weight(up))
        } else {
            let gate = match self.has("ffn_gate_exps.weight") {
                true => Some(self.stack("ffn_gate_exps", experts, width, embedding)?),
                false => None,
            };
            (gate, self.stack("ffn_up_exps", experts, width, embedding)?)
        };
        let activation = match (mixture.limited, gate) {
            (Some((alpha, limit)), Some(_)) => ExpertActivation::SwigluOai { alpha, limit },
            (Some(_), None) => return Err(ModelError::MissingTensor { name: self.name("ffn_gate_exps.weight") }),
            (None, Some(_)) => ExpertActivation::Gated(mixture.activation),
            (None, None) => ExpertActivation::Plain(mixture.activation),
        };
        Ok(Experts {
            gate,
            up,
            down: self.stack("ffn_down_exps", experts, embedding, width)?,
            gate_bias: self.stack_vector("ffn_gate_exps.bias", &[width, experts])?,
            up_bias: self.stack_vector("ffn_up_exps.bias", &[width, experts])?,
            down_bias: self.stack_vector("ffn_down_exps.bias", &[embedding, experts])?,
            gate_factor: self.stack_factor("ffn_gate_exps", experts)?,
            up_factor: self.stack_factor("ffn_up_exps", experts)?,
            down_factor: self.stack_factor("ffn_down_exps", experts)?,
            activation,
            weigh_input: mixture.weigh_input,
            adapters: Vec::new(),
        })
    }

    fn stack(&mut self, name: &str, experts: usize, rows: usize, columns: usize) -> Result<Weight, ModelError> {
        let stack = self.tensors.stack(&self.name(&format!("{name}.weight")), experts, rows, columns)?;
        Ok(self.plan.weight(stack))
    }

    fn stack_vector(&mut self, name: &str, dimensions: &[usize]) -> Result<Option<Weight>, ModelError> {
        if self.has(name) { self.vector_of(name, dimensions).map(Some) } else { Ok(None) }
    }

    fn stack_factor(&mut self, name: &str, experts: usize) -> Result<Option<Weight>, ModelError> {
        self.tensors.ignore(&self.name(&format!("{name}.input_scale")));
        let scale = format!("{name}.scale");
        if !(self.factors)(name) {
            self.tensors.ignore(&self.name(&scale));
            return Ok(None);
        }
        self.stack_vector(&scale, &[experts])
    }

    /// The shared expert (`ffn_gate_shexp`, `ffn_up_shexp`, `ffn_down_shexp`): the input of its last projection, and that
    /// projection. `None` if the layer has none.
    pub fn shared_expert(&mut self, x: Slot, activation: Activation) -> Result<Option<(Slot, Linear)>, ModelError> {
        if !self.has("ffn_down_shexp.weight") {
            return Ok(None);
        }
        self.keys.refuse_limits("swiglu_clamp_shexp")?;
        let inputs = self.plan.columns(x);
        let width = self.tensors.dimension(&self.name("ffn_down_shexp.weight"), 0).unwrap_or(0) as usize;
        let down = self.feed_forward_linear("ffn_down_shexp", self.hyper.embedding, width)?;
        let up = self.feed_forward_linear("ffn_up_shexp", width, inputs)?;
        if !self.has("ffn_gate_shexp.weight") {
            let up = self.plan.linear(x, up);
            return Ok(Some((self.plan.activate(activation, up), down)));
        }
        let gate = self.feed_forward_linear("ffn_gate_shexp", width, inputs)?;
        let outs = self.plan.linears(x, &[gate, up]);
        Ok(Some((self.plan.gate(activation, outs[0], outs[1]), down)))
    }

    /// Sum of routed and shared experts for `x`.
    pub fn routed_and_shared(&mut self, x: Slot, mixture: Mixture) -> Result<Slot, ModelError> {
        let routed = self.routed(x, mixture)?;
        if let Some((shared, down)) = self.shared_expert(x, mixture.activation)? {
            self.plan.linear_add(shared, down, routed);
        }
        Ok(routed)
    }
}
