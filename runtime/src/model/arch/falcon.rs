//! `falcon`: parallel attention and feed-forward; the larger model has a separate norm for each.

use crate::model::ModelError;
use crate::model::blocks::Blocks;
use crate::plan::{Activation, NormKind, Plan, RopePairs};

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    let rope = model.rope(RopePairs::Halves)?;
    let x = model.embed(1.0)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let normed = model.norm(NormKind::Layer, x, "attn_norm")?;
        let attending = match model.has("attn_norm_2.weight") {
            true => model.norm(NormKind::Layer, x, "attn_norm_2")?,
            false => normed,
        };
        let heads = model.qkv(attending)?;
        model.rotate(&heads, &rope);
        model.attention_onto(&heads, model.attention_shape(), x)?;
        model.plain_onto(normed, Activation::Gelu, x)?;
    }
    model.head(NormKind::Layer, x)
}
