//! `starcoder2`, `nemotron`: layer norms, rotary positions, a plain feed-forward; biases follow from the file.

use crate::model::ModelError;
use crate::model::blocks::Blocks;
use crate::plan::{Activation, NormKind, Plan, RopePairs};

pub(super) fn plan(model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    layers(model, Activation::Gelu)
}

/// Nemotron, with squared ReLU.
pub(super) fn nemotron(model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    layers(model, Activation::ReluSquared)
}

fn layers(mut model: Blocks<'_, '_>, activation: Activation) -> Result<Plan, ModelError> {
    let rope = model.rope(RopePairs::Halves)?;
    let x = model.embed(1.0)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let normed = model.norm(NormKind::Layer, x, "attn_norm")?;
        let heads = model.qkv(normed)?;
        model.rotate(&heads, &rope);
        model.attention_onto(&heads, model.attention_shape(), x)?;

        let normed = model.norm(NormKind::Layer, x, "ffn_norm")?;
        model.plain_onto(normed, activation, x)?;
    }
    model.head(NormKind::Layer, x)
}
