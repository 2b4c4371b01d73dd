//! `nemotron_h`: each layer is either a state space mixer, attention without rotation, or a feed-forward block with ReLU²,
//! dense or with experts.

use crate::model::ModelError;
use crate::model::blocks::{Blocks, Mixture, factors_of_all};
use crate::plan::{Activation, Gating, NormKind, Plan};

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    model.factors = factors_of_all;
    let mixture = Mixture {
        gating: Gating::Sigmoid,
        normalise: model.normalises(false)?,
        activation: Activation::ReluSquared,
        ..Mixture::default()
    };
    let x = model.embed(1.0)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let normed = model.norm(NormKind::Rms, x, "attn_norm")?;
        if model.has("ssm_in.weight") {
            let (mixed, output) = model.mamba2(normed)?;
            model.plan.linear_add(mixed, output, x);
        } else if model.has_experts() {
            let routed = model.routed_and_shared(normed, mixture)?;
            model.plan.add(routed, x);
        } else if model.has("ffn_up.weight") {
            let (activated, down) = model.plain(normed, Activation::ReluSquared)?;
            model.plan.linear_add(activated, down, x);
        } else {
            let heads = model.qkv(normed)?;
            model.attention_onto(&heads, model.attention_shape(), x)?;
        }
    }
    model.head(NormKind::Rms, x)
}
