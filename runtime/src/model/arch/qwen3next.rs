//! `qwen3next`, `qwen35`, `qwen35moe`: gated delta nets, and gated attention in every fourth layer; many small experts and a
//! gated shared one, or dense.

use super::qwen2moe::experts_add;
use crate::model::ModelError;
use crate::model::blocks::{Blocks, Mixture, factors_of_all};
use crate::plan::{NormKind, Plan, RopePairs};

/// The value heads of a key head are adjacent.
pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    model.factors = |name| !name.starts_with("ssm_") && !matches!(name, "attn_qkv" | "attn_gate");
    plan_with(model, true)
}

/// Value head `v` uses key head `v % key_heads`.
pub(super) fn plan_qwen35(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    model.factors = factors_of_all;
    plan_with(model, false)
}

fn plan_with(mut model: Blocks<'_, '_>, interleaved: bool) -> Result<Plan, ModelError> {
    model.leave_out_prediction_layers()?;
    let rope = model.rope_without_factors(RopePairs::Halves)?;
    let x = model.embed(1.0)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let normed = model.norm(NormKind::Rms, x, "attn_norm")?;
        if model.has("ssm_conv1d.weight") {
            let (mixed, output) = model.delta_net(normed, interleaved)?;
            model.plan.linear_add(mixed, output, x);
        } else {
            let mixed = model.gated_attention(normed, &rope)?;
            let output = model.attention_output()?;
            model.plan.linear_add(mixed, output, x);
        }
        let normed = model.norm(NormKind::Rms, x, "post_attention_norm")?;
        if model.has_experts() {
            experts_add(&mut model, normed, Mixture::default(), x)?;
        } else {
            model.feed_forward_add(normed, Mixture::default(), x)?;
        }
    }
    model.head(NormKind::Rms, x)
}
