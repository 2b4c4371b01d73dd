//! `qwen2moe`: biases on queries, keys and values; many small experts, and a shared one with its own gate.

use crate::model::ModelError;
use crate::model::blocks::{Blocks, Mixture};
use crate::plan::{Activation, NormKind, Op, Plan, RopePairs, Slot};

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    let rope = model.rope(RopePairs::Halves)?;
    let x = model.embed(1.0)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let normed = model.norm(NormKind::Rms, x, "attn_norm")?;
        let heads = model.qkv(normed)?;
        model.rotate(&heads, &rope);
        model.attention_onto(&heads, model.attention_shape(), x)?;

        let normed = model.norm(NormKind::Rms, x, "ffn_norm")?;
        let mixture = Mixture { normalise: false, ..Mixture::default() };
        experts_add(&mut model, normed, mixture, x)?;
    }
    model.head(NormKind::Rms, x)
}

/// `x += experts(normed) + sigmoid(ffn_gate_inp_shexp · normed) * shared(normed)`
pub(super) fn experts_add(
    model: &mut Blocks<'_, '_>,
    normed: Slot,
    mixture: Mixture,
    x: Slot,
) -> Result<(), ModelError> {
    let routed = model.routed(normed, mixture)?;
    model.plan.add(routed, x);
    let Some((shared, down)) = model.shared_expert(normed, mixture.activation)? else { return Ok(()) };
    let shared = model.plan.linear(shared, down);
    let gate = model.linear("ffn_gate_inp_shexp", 1, model.hyper.embedding)?;
    let gate = model.plan.linear(normed, gate);
    let gate = model.plan.activate(Activation::Sigmoid, gate);
    model.plan.apply(Op::Multiply { x: gate, to: shared, width: model.hyper.embedding });
    model.plan.add(shared, x);
    Ok(())
}
