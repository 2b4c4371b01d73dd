//! `stablelm`: layer norms and a gated feed-forward. The larger model has per-head norms of queries and keys, and one norm for
//! parallel attention and feed-forward.

use crate::model::ModelError;
use crate::model::blocks::Blocks;
use crate::plan::{Activation, NormKind, Plan, RopePairs};

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    let rope = model.rope(RopePairs::Halves)?;
    let x = model.embed(1.0)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let mut normed = model.norm(NormKind::Layer, x, "attn_norm")?;
        let mut heads = model.qkv(normed)?;
        if model.has_query_norm() {
            heads = model.norms_of_each_head(NormKind::Layer, heads)?;
        }
        model.rotate(&heads, &rope);
        model.attention_onto(&heads, model.attention_shape(), x)?;
        if model.has("ffn_norm.weight") {
            normed = model.norm(NormKind::Layer, x, "ffn_norm")?;
        }
        model.gated_onto(normed, Activation::Silu, x)?;
    }
    model.head(NormKind::Layer, x)
}
