//! `glm4`: norms before and after both blocks, fused gate and up matrices.

use crate::model::ModelError;
use crate::model::blocks::Blocks;
use crate::plan::{Activation, NormKind, Plan, RopePairs};

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    model.leave_out_prediction_layers()?;
    model.covering = |name| name == "attn_output";
    let pairs = model.sectioned_pairs(RopePairs::Adjacent)?;
    let rope = model.rope(pairs)?;
    let x = model.embed(1.0)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let normed = model.norm(NormKind::Rms, x, "attn_norm")?;
        let heads = model.qkv(normed)?;
        model.rotate(&heads, &rope);
        let attended = model.attention(&heads, model.attention_shape())?;
        let attended = model.norm(NormKind::Rms, attended, "post_attention_norm")?;
        model.plan.add(attended, x);

        let normed = model.norm(NormKind::Rms, x, "ffn_norm")?;
        let fed = model.gated_block(normed, Activation::Silu)?;
        let fed = model.norm(NormKind::Rms, fed, "post_ffw_norm")?;
        model.plan.add(fed, x);
    }
    model.head(NormKind::Rms, x)
}
