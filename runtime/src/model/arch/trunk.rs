//! `qwen2`, `internlm2`, `phi3`, `seed_oss`: Llama's layers with another pair layout in the rotation, or another norm name.
//! Biases and fused matrices follow from the file.

use crate::model::ModelError;
use crate::model::blocks::Blocks;
use crate::plan::{Activation, NormKind, Plan, RopePairs};

pub(super) fn qwen2(model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    trunk(model, RopePairs::Halves, "ffn_norm")
}

pub(super) fn internlm2(model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    trunk(model, RopePairs::Adjacent, "ffn_norm")
}

/// Phi 3. Windows are ignored, as in llama.cpp, since files do not say which layers have one.
pub(super) fn phi3(model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    trunk(model, RopePairs::Halves, "ffn_norm")
}

/// Seed-OSS: the tensor named as the attention's post-norm is the norm before the feed-forward block.
pub(super) fn seed_oss(model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    trunk(model, RopePairs::Halves, "post_attention_norm")
}

fn trunk(mut model: Blocks<'_, '_>, pairs: RopePairs, second_norm: &str) -> Result<Plan, ModelError> {
    let rope = model.rope(pairs)?;
    let x = model.embed(1.0)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let normed = model.norm(NormKind::Rms, x, "attn_norm")?;
        let heads = model.qkv(normed)?;
        model.rotate(&heads, &rope);
        model.attention_onto(&heads, model.attention_shape(), x)?;

        let normed = model.norm(NormKind::Rms, x, second_norm)?;
        model.gated_onto(normed, Activation::Silu, x)?;
    }
    model.head(NormKind::Rms, x)
}
