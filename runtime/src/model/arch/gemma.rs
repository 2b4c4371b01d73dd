//! `gemma`: scaled embeddings, a GELU gate, an independent head width. Also contains what its successors share.

use crate::model::ModelError;
use crate::model::blocks::{Blocks, Heads};
use crate::plan::{Activation, Attention, NormKind, Plan, RopePairs, Slot};

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    let rope = model.rope(RopePairs::Halves)?;
    let x = embed(&mut model)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let normed = model.norm(NormKind::Rms, x, "attn_norm")?;
        let heads = model.qkv(normed)?;
        model.rotate(&heads, &rope);
        model.attention_onto(&heads, model.attention_shape(), x)?;

        let normed = model.norm(NormKind::Rms, x, "ffn_norm")?;
        model.gated_onto(normed, Activation::Gelu, x)?;
    }
    model.head(NormKind::Rms, x)
}

/// Embeddings scaled by the square root of their width.
pub(super) fn embed(model: &mut Blocks<'_, '_>) -> Result<Slot, ModelError> {
    model.embed((model.hyper.embedding as f32).sqrt())
}

/// Score scale of the largest model of a generation, which has `layers` layers: from embedding width / heads instead of the
/// head width. `None` for the other models.
pub(super) fn attention_scale(model: &Blocks<'_, '_>, layers: usize) -> Option<f32> {
    let heads = model.hyper.heads[0];
    (model.hyper.layers == layers && heads > 0).then(|| 1.0 / ((model.hyper.embedding / heads) as f32).sqrt())
}

/// Attention and feed-forward with norms before and after each; `heads` come from the first norm.
pub(super) fn between_norms(
    model: &mut Blocks<'_, '_>,
    heads: &Heads,
    shape: Attention,
    x: Slot,
) -> Result<(), ModelError> {
    let attended = model.attention(heads, shape)?;
    let attended = model.norm(NormKind::Rms, attended, "post_attention_norm")?;
    model.plan.add(attended, x);

    let normed = model.norm(NormKind::Rms, x, "ffn_norm")?;
    let fed = model.gated_block(normed, Activation::Gelu)?;
    let fed = model.norm(NormKind::Rms, fed, "post_ffw_norm")?;
    model.plan.add(fed, x);
    Ok(())
}
