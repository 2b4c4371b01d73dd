//! `bert`, and `nomic-bert` with rotary positions and a gated feed-forward: bidirectional encoders with norms after both
//! blocks. `nomic-bert-moe` has experts in some layers.

use crate::model::ModelError;
use crate::model::blocks::{Blocks, Mixture};
use crate::model::purpose::PoolingKind;
use crate::plan::{Activation, NormKind, Plan, Rope, RopePairs, Slot};

/// The tanh approximation, as in llama.cpp, whose embeddings ours are compared with. BERT itself uses erf; the two differ by at
/// most 5e-4.
const GELU: Activation = Activation::Gelu;

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    begin(&mut model)?;
    let x = model.embed(1.0)?;
    model.token_type(x)?;
    model.learned_positions(x)?;
    layers(model, x, None)
}

pub(super) fn nomic(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    begin(&mut model)?;
    let rope = model.rope(RopePairs::Halves)?;
    let x = model.embed(1.0)?;
    model.token_type(x)?;
    layers(model, x, Some(rope))
}

/// Attention is bidirectional unless the file says otherwise.
fn begin(model: &mut Blocks<'_, '_>) -> Result<(), ModelError> {
    model.causal = model.keys.flag("attention.causal")?.unwrap_or(false);
    Ok(())
}

fn layers(mut model: Blocks<'_, '_>, x: Slot, rope: Option<Rope>) -> Result<Plan, ModelError> {
    // The second of every `experts_every` layers has experts.
    let experts_every = model.keys.count("moe_every_n_layers", 1 << 16)?;
    let mut x = model.outer_norm(NormKind::Layer, x, "token_embd_norm")?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let mut heads = model.qkv(x)?;
        if model.has_query_norm() {
            heads = model.norms_across_heads(NormKind::Layer, heads)?;
        }
        if let Some(rope) = &rope {
            model.rotate(&heads, rope);
        }
        model.attention_onto(&heads, model.attention_shape(), x)?;
        x = model.norm(NormKind::Layer, x, "attn_output_norm")?;

        if experts_every.is_some_and(|every| layer % every == 1) {
            let mixture = Mixture { normalise: false, activation: GELU, ..Mixture::default() };
            let routed = model.routed(x, mixture)?;
            model.plan.add(routed, x);
        } else if model.has("ffn_gate.weight") {
            model.gated_onto(x, Activation::Silu, x)?;
        } else {
            model.plain_onto(x, GELU, x)?;
        }
        x = model.norm(NormKind::Layer, x, "layer_output_norm")?;
    }
    model.embeddings(x, PoolingKind::Mean)
}
