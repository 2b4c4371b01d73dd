//! `granite`, `granitemoe`, `granitehybrid`, `minicpm`: Llama's layers, some with a state space mixer in place of attention,
//! and scales on embeddings, residual branches and logits.

use crate::model::ModelError;
use crate::model::blocks::{Blocks, Mixture};
use crate::plan::{Activation, NormKind, Plan, RopePairs};

/// Scale factors; 1 has no effect.
struct Scales {
    embedding: f32,
    residual: f32,
    /// Logits are divided by it.
    logit: f32,
}

/// Granite; `rope.scaling.finetuned` says whether it rotates.
pub(super) fn plan(model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    let rotates = model.keys.flag("rope.scaling.finetuned")?.unwrap_or(true);
    granite(model, rotates)
}

/// Granite with experts always rotates.
pub(super) fn granitemoe(model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    granite(model, true)
}

fn granite(model: Blocks<'_, '_>, rotates: bool) -> Result<Plan, ModelError> {
    let key = |name| model.keys.positive(name, 1.0);
    let scales =
        Scales { embedding: key("embedding_scale")?, residual: key("residual_scale")?, logit: key("logit_scale")? };
    layers(model, &scales, rotates)
}

/// MiniCPM, whose older files lack the scales.
pub(super) fn minicpm(model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    let (layers_count, embedding) = (model.hyper.layers as f32, model.hyper.embedding as f32);
    let key = |name, default| match model.keys.number(name)? {
        None => Ok(default),
        Some(_) => model.keys.positive(name, 1.0),
    };
    let scales = Scales {
        embedding: key("embedding_scale", 12.0)?,
        residual: key("residual_scale", 1.4 / layers_count.sqrt())?,
        logit: key("logit_scale", 256.0 / embedding)?,
    };
    layers(model, &scales, true)
}

fn layers(mut model: Blocks<'_, '_>, scales: &Scales, rotates: bool) -> Result<Plan, ModelError> {
    let rope = model.rope(RopePairs::Adjacent)?;
    let x = model.embed(scales.embedding)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let normed = model.norm(NormKind::Rms, x, "attn_norm")?;
        let mixed = if model.has("ssm_in.weight") {
            let (mixed, output) = model.mamba2(normed)?;
            model.plan.linear(mixed, output)
        } else {
            let heads = model.qkv(normed)?;
            if rotates {
                model.rotate(&heads, &rope);
            }
            model.attention(&heads, model.attention_shape())?
        };
        model.plan.scale(mixed, scales.residual);
        model.plan.add(mixed, x);

        let normed = model.norm(NormKind::Rms, x, "ffn_norm")?;
        let fed = match model.has_experts() {
            true => model.routed_and_shared(normed, Mixture::default())?,
            false => model.gated_block(normed, Activation::Silu)?,
        };
        model.plan.scale(fed, scales.residual);
        model.plan.add(fed, x);
    }
    model.scaled_head(NormKind::Rms, x, 1.0 / scales.logit, None)
}
