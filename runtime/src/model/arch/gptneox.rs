//! `gptneox`: layer norms, a plain feed-forward, partial rotation; attention and feed-forward in sequence or, if the file says
//! so, in parallel.

use crate::model::ModelError;
use crate::model::blocks::Blocks;
use crate::plan::{Activation, NormKind, Plan, RopePairs};

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    let parallel = model.keys.flag("use_parallel_residual")?.unwrap_or(false);
    let rope = model.rope(RopePairs::Halves)?;
    let x = model.embed(1.0)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let normed = model.norm(NormKind::Layer, x, "attn_norm")?;
        let parallel_normed = if parallel { Some(model.norm(NormKind::Layer, x, "ffn_norm")?) } else { None };
        let heads = model.qkv(normed)?;
        model.rotate(&heads, &rope);
        model.attention_onto(&heads, model.attention_shape(), x)?;
        let normed = match parallel_normed {
            Some(normed) => normed,
            None => model.norm(NormKind::Layer, x, "ffn_norm")?,
        };
        model.plain_onto(normed, Activation::Gelu, x)?;
    }
    model.head(NormKind::Layer, x)
}
