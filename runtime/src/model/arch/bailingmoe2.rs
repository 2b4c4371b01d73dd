//! `bailingmoe2` (Ling 2): per-head norms of queries and keys; the first layers dense, then grouped experts, selected by
//! sigmoid scores and a bias.

use crate::model::ModelError;
use crate::model::blocks::{Blocks, Mixture};
use crate::plan::{NormKind, Plan, RopePairs};

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    model.leave_out_prediction_layers()?;
    let rope = model.rope(RopePairs::Halves)?;
    let mixture = Mixture { normalise: model.normalises(false)?, ..Mixture::default() };
    let x = model.embed(1.0)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let normed = model.norm(NormKind::Rms, x, "attn_norm")?;
        let heads = model.qkv(normed)?;
        let heads = model.head_norms(NormKind::Rms, heads)?;
        model.rotate(&heads, &rope);
        model.attention_onto(&heads, model.attention_shape(), x)?;

        let normed = model.norm(NormKind::Rms, x, "ffn_norm")?;
        model.feed_forward_add(normed, mixture, x)?;
    }
    model.head(NormKind::Rms, x)
}
