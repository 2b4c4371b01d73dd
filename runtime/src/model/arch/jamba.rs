//! `jamba`: state space mixers, and attention without rotation in some layers; dense or with experts.

use crate::model::ModelError;
use crate::model::blocks::{Blocks, Mixture};
use crate::plan::{NormKind, Plan};

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    let mixture = Mixture { normalise: false, ..Mixture::default() };
    let x = model.embed(1.0)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let normed = model.norm(NormKind::Rms, x, "attn_norm")?;
        if model.hyper.heads[layer] > 0 {
            let heads = model.qkv(normed)?;
            model.attention_onto(&heads, model.attention_shape(), x)?;
        } else {
            let (mixed, output) = model.mamba(normed)?;
            model.plan.linear_add(mixed, output, x);
        }
        let normed = model.norm(NormKind::Rms, x, "ffn_norm")?;
        model.feed_forward_add(normed, mixture, x)?;
    }
    model.head(NormKind::Rms, x)
}
