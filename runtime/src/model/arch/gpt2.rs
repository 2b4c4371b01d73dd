//! `gpt2`: learned positions, layer norms, a plain feed-forward.

use crate::model::ModelError;
use crate::model::blocks::Blocks;
use crate::plan::{Activation, NormKind, Plan};

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    let x = model.embed(1.0)?;
    model.learned_positions(x)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let normed = model.norm(NormKind::Layer, x, "attn_norm")?;
        let heads = model.qkv(normed)?;
        model.attention_onto(&heads, model.attention_shape(), x)?;

        let normed = model.norm(NormKind::Layer, x, "ffn_norm")?;
        model.plain_onto(normed, Activation::Gelu, x)?;
    }
    model.head(NormKind::Layer, x)
}
