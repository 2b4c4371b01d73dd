//! `hunyuan-dense`: Llama's layers with per-head norms of queries and keys after the rotation.

use crate::model::ModelError;
use crate::model::blocks::Blocks;
use crate::plan::{Activation, NormKind, Plan, RopePairs};

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    let pairs = model.sectioned_pairs(RopePairs::Halves)?;
    let mut rope = model.rope(pairs)?;
    // The base grows with the context (NTK-aware scaling).
    let alpha = model.keys.positive("rope.scaling.alpha", 1.0)?;
    let width = model.hyper.key_dim as f32;
    if alpha != 1.0 && width > 2.0 {
        rope.base *= alpha.powf(width / (width - 2.0));
    }
    let x = model.embed(1.0)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let normed = model.norm(NormKind::Rms, x, "attn_norm")?;
        let heads = model.qkv(normed)?;
        model.rotate(&heads, &rope);
        let heads = model.head_norms(NormKind::Rms, heads)?;
        model.attention_onto(&heads, model.attention_shape(), x)?;

        let normed = model.norm(NormKind::Rms, x, "ffn_norm")?;
        model.gated_onto(normed, Activation::Silu, x)?;
    }
    model.head(NormKind::Rms, x)
}
