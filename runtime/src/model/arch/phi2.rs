//! `phi2`: parallel attention and plain feed-forward with one layer norm.

use crate::model::ModelError;
use crate::model::blocks::Blocks;
use crate::plan::{Activation, NormKind, Plan, RopePairs};

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    let rope = model.rope(RopePairs::Halves)?;
    let x = model.embed(1.0)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let normed = model.norm(NormKind::Layer, x, "attn_norm")?;
        let heads = model.qkv(normed)?;
        model.rotate(&heads, &rope);
        model.attention_onto(&heads, model.attention_shape(), x)?;
        model.plain_onto(normed, Activation::Gelu, x)?;
    }
    model.head(NormKind::Layer, x)
}
