//! `gpt-oss`: a window in every other layer, attention sinks, biases everywhere, experts with a clamped gate.

use crate::model::ModelError;
use crate::model::blocks::{Blocks, Mixture};
use crate::plan::{Gating, NormKind, Plan, RopePairs, Window};

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    let window = model.keys.required_count("attention.sliding_window", 1 << 26)?;
    let windowed = model.windowed_layers(2, false)?;
    let rope = model.rope(RopePairs::Halves)?;
    let mixture = Mixture {
        gating: Gating::SoftmaxOfChosen,
        normalise: false,
        limited: Some((1.702, 7.0)),
        ..Mixture::default()
    };
    let x = model.embed(1.0)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let normed = model.norm(NormKind::Rms, x, "attn_norm")?;
        let heads = model.qkv(normed)?;
        model.rotate(&heads, &rope);
        let mut shape = model.attention_shape();
        shape.window = windowed[layer].then_some(Window::Sliding(window));
        shape.sinks = Some(model.vector("attn_sinks.weight", shape.heads)?);
        model.attention_onto(&heads, shape, x)?;

        let normed = model.norm(NormKind::Rms, x, "post_attention_norm")?;
        model.feed_forward_add(normed, mixture, x)?;
    }
    model.head(NormKind::Rms, x)
}
