//! `llama`: grouped-query attention with rope on adjacent pairs, SiLU-gated feed-forward, RMS norms before both.

use crate::model::ModelError;
use crate::model::blocks::Blocks;
use crate::plan::{Activation, NormKind, Plan, RopePairs};

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    if model.keys.count("expert_count", u64::from(u16::MAX))?.is_some() {
        return Err(model.unsupported("this is a mixture of experts, which this build does not run yet"));
    }
    let rope = model.rope(RopePairs::Adjacent)?;
    let x = model.embed(1.0)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let normed = model.norm(NormKind::Rms, x, "attn_norm")?;
        let heads = model.qkv(normed)?;
        model.rotate(&heads, &rope);
        let mixed = model.attend(&heads, model.attention_shape());
        let output = model.attention_output()?;
        model.plan.linear_add(mixed, output, x);

        let normed = model.norm(NormKind::Rms, x, "ffn_norm")?;
        let (gated, down) = model.gated(normed, Activation::Silu)?;
        model.plan.linear_add(gated, down, x);
    }
    model.head(NormKind::Rms, x)
}
