//! `gemma2`: Gemma with norms after both blocks too, a window in every other layer, and softcapped scores and logits.

use super::gemma;
use crate::model::ModelError;
use crate::model::blocks::Blocks;
use crate::plan::{NormKind, Plan, RopePairs};

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    let windows = model.windows(Some(4096), 2)?;
    let cap = |name, default| Ok::<_, ModelError>(Some(model.keys.number(name)?.unwrap_or(default)));
    let (softcap, final_cap) = (cap("attn_logit_softcapping", 50.0)?, cap("final_logit_softcapping", 30.0)?);
    let scale = gemma::attention_scale(&model, 46).unwrap_or(model.hyper.attention_scale);
    let rope = model.rope(RopePairs::Halves)?;
    let windowed = crate::plan::Rope { base: model.keys.positive("rope.freq_base_swa", rope.base)?, ..rope.clone() };
    let x = gemma::embed(&mut model)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let normed = model.norm(NormKind::Rms, x, "attn_norm")?;
        let heads = model.qkv(normed)?;
        let window = windows.as_ref().and_then(|windows| windows.of(layer));
        model.rotate(&heads, if window.is_some() { &windowed } else { &rope });
        let shape = model.attention_shape();
        let shape = crate::plan::Attention { window, softcap: softcap.filter(|&cap| cap > 0.0), scale, ..shape };
        gemma::between_norms(&mut model, &heads, shape, x)?;
    }
    model.scaled_head(NormKind::Rms, x, 1.0, final_cap.filter(|&cap| cap > 0.0))
}
