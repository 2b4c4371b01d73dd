//! `gemma3`: five of six layers have a window and their own rotation; per-head norms of queries and keys.

use super::gemma;
use crate::model::ModelError;
use crate::model::blocks::Blocks;
use crate::plan::{Attention, NormKind, Plan, RopePairs};

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    let windows = model.windows(None, 6)?;
    let cap = model.keys.number("final_logit_softcapping")?.filter(|&cap| cap > 0.0);
    let scale = gemma::attention_scale(&model, 62).unwrap_or(model.hyper.attention_scale);
    let rope = model.rope(RopePairs::Halves)?;
    let windowed = model.windowed_rope(&rope, 10_000.0)?;
    let x = gemma::embed(&mut model)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let normed = model.norm(NormKind::Rms, x, "attn_norm")?;
        let heads = model.qkv(normed)?;
        let heads = model.head_norms(NormKind::Rms, heads)?;
        let window = windows.as_ref().and_then(|windows| windows.of(layer));
        model.rotate(&heads, if window.is_some() { &windowed } else { &rope });
        let shape = Attention { window, scale, ..model.attention_shape() };
        gemma::between_norms(&mut model, &heads, shape, x)?;
    }
    model.scaled_head(NormKind::Rms, x, 1.0, cap)
}
