//! `olmo2`: norms after both blocks instead of before, and norms of queries and keys across heads. Olmo 3 adds windows; layers
//! that have one rotate without YaRN.

use crate::model::ModelError;
use crate::model::blocks::Blocks;
use crate::plan::{Activation, Attention, NormKind, Plan, Rope, RopePairs, RopeScaling};

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    let windows = model.windows(None, 4)?;
    let rope = model.rope(RopePairs::Halves)?;
    let windowed = Rope { scaling: RopeScaling::None, magnitude: 1.0, ..rope.clone() };
    let x = model.embed(1.0)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let heads = model.qkv(x)?;
        let heads = model.norms_across_heads(NormKind::Rms, heads)?;
        let window = windows.as_ref().and_then(|windows| windows.of(layer));
        model.rotate(&heads, if window.is_some() { &windowed } else { &rope });
        let attended = model.attention(&heads, Attention { window, ..model.attention_shape() })?;
        let attended = model.norm(NormKind::Rms, attended, "post_attention_norm")?;
        model.plan.add(attended, x);

        let fed = model.gated_block(x, Activation::Silu)?;
        let fed = model.norm(NormKind::Rms, fed, "post_ffw_norm")?;
        model.plan.add(fed, x);
    }
    model.head(NormKind::Rms, x)
}
