//! `smollm3`: Llama's layers, of which every fourth does not rotate.

use crate::model::ModelError;
use crate::model::blocks::Blocks;
use crate::plan::{Activation, NormKind, Plan, RopePairs};

/// The last layer of each such period does not rotate.
const PERIOD: usize = 4;

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    let rope = model.rope(RopePairs::Adjacent)?;
    let x = model.embed(1.0)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let normed = model.norm(NormKind::Rms, x, "attn_norm")?;
        let heads = model.qkv(normed)?;
        if !(layer + 1).is_multiple_of(PERIOD) {
            model.rotate(&heads, &rope);
        }
        model.attention_onto(&heads, model.attention_shape(), x)?;

        let normed = model.norm(NormKind::Rms, x, "ffn_norm")?;
        model.gated_onto(normed, Activation::Silu, x)?;
    }
    model.head(NormKind::Rms, x)
}
