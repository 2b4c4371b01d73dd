//! `mistral3`: Llama's layers; queries may be scaled by the logarithm of their position.

use crate::model::ModelError;
use crate::model::blocks::{Blocks, Mixture, factors_of_all};
use crate::plan::{NormKind, Op, Plan, RopePairs};

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    model.factors = factors_of_all;
    let rope = model.rope(RopePairs::Adjacent)?;
    let temperature = model.keys.number("attention.temperature_scale")?.filter(|&scale| scale != 0.0);
    let length = model.hyper.original_context(model.keys)?;
    let x = model.embed(1.0)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let normed = model.norm(NormKind::Rms, x, "attn_norm")?;
        let heads = model.qkv(normed)?;
        model.rotate(&heads, &rope);
        if let Some(scale) = temperature {
            model.plan.apply(Op::Temperature { x: heads.query, scale, length, offset: 0.0 });
        }
        model.attention_onto(&heads, model.attention_shape(), x)?;

        let normed = model.norm(NormKind::Rms, x, "ffn_norm")?;
        model.feed_forward_add(normed, Mixture::default(), x)?;
    }
    model.head(NormKind::Rms, x)
}
