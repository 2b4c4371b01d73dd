//! `bloom`: ALiBi in place of position embeddings; normalised token embeddings.

use crate::model::ModelError;
use crate::model::blocks::Blocks;
use crate::plan::{Activation, Attention, NormKind, Plan};

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    // Missing in files, or the same value.
    let alibi = Some(8.0);
    let x = model.embed(1.0)?;
    let x = model.outer_norm(NormKind::Layer, x, "token_embd_norm")?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let normed = model.norm(NormKind::Layer, x, "attn_norm")?;
        let heads = model.qkv(normed)?;
        model.attention_onto(&heads, Attention { alibi, ..model.attention_shape() }, x)?;

        let normed = model.norm(NormKind::Layer, x, "ffn_norm")?;
        model.plain_onto(normed, Activation::Gelu, x)?;
    }
    model.head(NormKind::Layer, x)
}
