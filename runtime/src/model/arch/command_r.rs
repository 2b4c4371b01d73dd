//! `command-r`, `cohere2`: parallel attention and feed-forward with one norm; scaled logits.

use crate::model::ModelError;
use crate::model::blocks::{Blocks, factors_of_all};
use crate::plan::{Activation, Attention, NormKind, Plan, RopePairs};

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    let rope = model.rope(RopePairs::Adjacent)?;
    let x = model.embed(1.0)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let normed = model.norm(NormKind::Layer, x, "attn_norm")?;
        let mut heads = model.qkv(normed)?;
        if model.has_query_norm() {
            heads = model.norms_of_each_head(NormKind::Layer, heads)?;
        }
        model.rotate(&heads, &rope);
        model.attention_onto(&heads, model.attention_shape(), x)?;
        model.gated_onto(normed, Activation::Silu, x)?;
    }
    let scale = model.keys.positive("logit_scale", 1.0)?;
    model.scaled_head(NormKind::Layer, x, scale, None)
}

/// Three of every four layers have a window, and only they rotate.
pub(super) fn cohere2(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    model.factors = factors_of_all;
    let windows = model.windows(None, 4)?;
    let rope = model.rope(RopePairs::Adjacent)?;
    let x = model.embed(1.0)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let normed = model.norm(NormKind::Layer, x, "attn_norm")?;
        let heads = model.qkv(normed)?;
        let window = windows.as_ref().and_then(|windows| windows.of(layer));
        if window.is_some() {
            model.rotate(&heads, &rope);
        }
        model.attention_onto(&heads, Attention { window, ..model.attention_shape() }, x)?;
        model.gated_onto(normed, Activation::Silu, x)?;
    }
    let scale = model.keys.positive("logit_scale", 1.0)?;
    model.scaled_head(NormKind::Layer, x, scale, None)
}
