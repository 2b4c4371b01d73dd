//! `ernie4_5-moe`: some layers dense, the others with experts selected by softmax and a bias, and shared ones.

use crate::model::ModelError;
use crate::model::blocks::{Blocks, Mixture};
use crate::plan::{NormKind, Plan, RopePairs};

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    let rope = model.rope(RopePairs::Adjacent)?;
    let x = model.embed(1.0)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let normed = model.norm(NormKind::Rms, x, "attn_norm")?;
        let heads = model.qkv(normed)?;
        model.rotate(&heads, &rope);
        model.attention_onto_without_bias(&heads, model.attention_shape(), x)?;

        let normed = model.norm(NormKind::Rms, x, "ffn_norm")?;
        model.feed_forward_add(normed, Mixture::default(), x)?;
    }
    model.head(NormKind::Rms, x)
}
