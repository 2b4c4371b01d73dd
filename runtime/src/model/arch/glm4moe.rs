//! `glm4moe` (GLM 4.5): partial rotation, norms of queries and keys in some sizes; the first layers dense, then experts
//! selected by sigmoid scores and a bias.

use crate::model::ModelError;
use crate::model::blocks::{Blocks, Mixture};
use crate::plan::{Gating, NormKind, Plan, RopePairs};

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    model.leave_out_prediction_layers()?;
    model.covering = |name| name == "attn_output";
    let rope = model.rope(RopePairs::Halves)?;
    let mixture = Mixture { gating: Gating::Sigmoid, normalise: model.normalises(false)?, ..Mixture::default() };
    let x = model.embed(1.0)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let normed = model.norm(NormKind::Rms, x, "attn_norm")?;
        let heads = model.qkv(normed)?;
        let heads = if model.has("attn_q_norm.weight") { model.head_norms(NormKind::Rms, heads)? } else { heads };
        model.rotate(&heads, &rope);
        model.attention_onto(&heads, model.attention_shape(), x)?;

        let normed = model.norm(NormKind::Rms, x, "post_attention_norm")?;
        model.feed_forward_add(normed, mixture, x)?;
    }
    model.head(NormKind::Rms, x)
}
