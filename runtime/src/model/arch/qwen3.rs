//! `qwen3`: Llama's layers with per-head norms of queries and keys before the rotation.

use crate::model::ModelError;
use crate::model::blocks::{Blocks, factors_of_all};
use crate::plan::{Activation, NormKind, Plan, RopePairs};

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    model.factors = factors_of_all;
    // A reranker's head, in addition to that of the language model.
    model.tensors.ignore("cls.output.weight");
    model.tensors.ignore("cls.output.bias");
    let rope = model.rope(RopePairs::Halves)?;
    let x = model.embed(1.0)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let normed = model.norm(NormKind::Rms, x, "attn_norm")?;
        let heads = model.qkv(normed)?;
        let heads = model.head_norms(NormKind::Rms, heads)?;
        model.rotate(&heads, &rope);
        model.attention_onto(&heads, model.attention_shape(), x)?;

        let normed = model.norm(NormKind::Rms, x, "ffn_norm")?;
        model.gated_onto(normed, Activation::Silu, x)?;
    }
    model.head(NormKind::Rms, x)
}
