//! `lfm2`, `lfm2moe`: short gated convolutions, and in some layers attention with norms of queries and keys; larger models have
//! experts after the first, dense layers.

use crate::model::ModelError;
use crate::model::blocks::{Blocks, Mixture};
use crate::plan::{NormKind, Plan, RopePairs, Window};

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    let window = model.keys.count("attention.sliding_window", 1 << 26)?;
    let windowed = match window {
        Some(_) => model.windowed_layers(1, false)?,
        None => vec![false; model.hyper.layers],
    };
    let rope = model.rope(RopePairs::Halves)?;
    let x = model.embed(1.0)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let normed = model.norm(NormKind::Rms, x, "attn_norm")?;
        if model.has("shortconv.in_proj.weight") {
            let (mixed, output) = model.short_convolution(normed)?;
            model.plan.linear_add(mixed, output, x);
        } else {
            let heads = model.qkv(normed)?;
            let heads = model.head_norms(NormKind::Rms, heads)?;
            model.rotate(&heads, &rope);
            let mut shape = model.attention_shape();
            shape.window = window.filter(|_| windowed[layer]).map(Window::Sliding);
            model.attention_onto(&heads, shape, x)?;
        }
        let normed = model.norm(NormKind::Rms, x, "ffn_norm")?;
        model.feed_forward_add(normed, Mixture::default(), x)?;
    }
    // Older files name the last norm like one of the token table.
    let name = if model.tensors.has("output_norm.weight") { "output_norm" } else { "token_embd_norm" };
    model.head_by_norm(NormKind::Rms, x, name)
}
