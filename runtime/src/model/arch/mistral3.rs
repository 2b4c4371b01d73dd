//! `mistral3`: Llama's layers; queries may grow with the logarithm of their position.

use crate::model::ModelError;
use crate::model::blocks::Blocks;
use crate::plan::{Activation, NormKind, Op, Plan, RopePairs};

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    if model.keys.count("expert_count", u64::from(u16::MAX))?.is_some() {
        return Err(model.unsupported("this is a mixture of experts, which this build does not run yet"));
    }
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
        model.gated_onto(normed, Activation::Silu, x)?;
    }
    model.head(NormKind::Rms, x)
}
