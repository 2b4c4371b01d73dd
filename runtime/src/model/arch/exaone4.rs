//! `exaone4`: norms after both blocks instead of before, and per-head norms of queries and keys. The 32B model has windows, and
//! rotates only in layers that have one.

use crate::model::ModelError;
use crate::model::blocks::Blocks;
use crate::plan::{Activation, Attention, NormKind, Plan, RopePairs};

/// Number of layers of the 32B model, which distinguishes it from models without windows.
const LAYERS_WITH_WINDOWS: usize = 64;

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    model.leave_out_prediction_layers()?;
    let has_windows = model.hyper.layers == LAYERS_WITH_WINDOWS;
    let windows = if has_windows { model.windows(Some(4096), 4)? } else { None };
    let rope = model.rope(RopePairs::Halves)?;
    let x = model.embed(1.0)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let heads = model.qkv(x)?;
        let heads = model.head_norms(NormKind::Rms, heads)?;
        let window = windows.as_ref().and_then(|windows| windows.of(layer));
        if window.is_some() || !has_windows {
            model.rotate(&heads, &rope);
        }
        let attended = model.attention(&heads, Attention { window, ..model.attention_shape() })?;
        let attended = model.norm(NormKind::Rms, attended, "post_attention_norm")?;
        model.plan.add(attended, x);

        let fed = model.gated_block(x, Activation::Silu)?;
        let fed = model.norm(NormKind::Rms, fed, "post_ffw_norm")?;
        model.plan.add(fed, x);
    }
    model.head(NormKind::Rms, x)
}
