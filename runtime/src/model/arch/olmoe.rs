//! `olmoe`: norms of queries and keys across heads; experts weighted by a softmax over all of them.

use crate::model::ModelError;
use crate::model::blocks::{Blocks, Mixture};
use crate::plan::{NormKind, Plan, RopePairs};

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    let rope = model.rope(RopePairs::Halves)?;
    let x = model.embed(1.0)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let normed = model.norm(NormKind::Rms, x, "attn_norm")?;
        let heads = model.qkv(normed)?;
        let heads = model.norms_across_heads(NormKind::Rms, heads)?;
        model.rotate(&heads, &rope);
        model.attention_onto(&heads, model.attention_shape(), x)?;

        let normed = model.norm(NormKind::Rms, x, "ffn_norm")?;
        model.feed_forward_add(normed, Mixture { normalise: false, ..Mixture::default() }, x)?;
    }
    model.head(NormKind::Rms, x)
}
