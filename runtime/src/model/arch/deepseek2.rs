//! `deepseek2` (DeepSeek V2, V3, Kimi K2, GigaChat): latent attention (MLA), which caches one short vector per position in
//! place of keys and values; the first layers are dense, the others have grouped experts and shared ones.
//!
//! Source: arXiv:2405.04434, section 2.1. If the file has separate matrices (`attn_k_b`, `attn_v_b`), queries are projected
//! into the latent space and attend there with one key head; if they are fused (`attn_kv_b`), full keys and values are
//! computed.

use crate::model::ModelError;
use crate::model::blocks::{Blocks, Mixture};
use crate::plan::{Attention, Gating, NormKind, Op, Plan, Rope, RopePairs, RopeScaling, Slot};

/// Widths of a head, and of the latent vector.
struct Widths {
    heads: usize,
    /// Width of a query head: `plain`, then `rotated` elements.
    key: usize,
    plain: usize,
    rotated: usize,
    value: usize,
    latent: usize,
}

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    model.leave_out_prediction_layers()?;
    let latent = model.keys.required_count("attention.kv_lora_rank", 1 << 16)?;
    let absorbed = model.tensors.has("blk.0.attn_k_b.weight");
    let [key, value] = if absorbed {
        [
            model.keys.required_count("attention.key_length_mla", 1 << 16)?,
            model.keys.required_count("attention.value_length_mla", 1 << 16)?,
        ]
    } else {
        [model.hyper.key_dim, model.hyper.value_dim]
    };
    let rope = model.rope_without_factors(RopePairs::Adjacent)?;
    let rotated = rope.dimensions;
    if rotated >= key {
        return Err(model.unsupported(format!("{rotated} rotated elements leave no others in a head of {key}")));
    }
    let (rope, scale) = scaled(&model, rope, key)?;
    let mixture = Mixture { gating: Gating::Softmax, normalise: model.normalises(false)?, ..Mixture::default() };
    let x = model.embed(1.0)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let normed = model.norm(NormKind::Rms, x, "attn_norm")?;
        let heads = model.hyper.heads[layer];
        let widths = Widths { heads, key, plain: key - rotated, rotated, value, latent };
        let mixed = if absorbed {
            latent_attention(&mut model, normed, &widths, &rope, scale)?
        } else {
            full_attention(&mut model, normed, &widths, &rope, scale)?
        };
        let output = model.linear("attn_output", model.hyper.embedding, heads * value)?;
        model.plan.linear_add(mixed, output, x);

        let normed = model.norm(NormKind::Rms, x, "ffn_norm")?;
        model.feed_forward_add(normed, mixture, x)?;
    }
    model.head(NormKind::Rms, x)
}

/// Moves YaRN's temperature from cosines and sines into the score scale, with this family's own multiplier.
fn scaled(model: &Blocks<'_, '_>, mut rope: Rope, key: usize) -> Result<(Rope, f32), ModelError> {
    let plain = 1.0 / (key as f32).sqrt();
    let RopeScaling::Yarn { factor, extrapolation, .. } = rope.scaling else {
        return Ok((rope, plain));
    };
    let log = model.keys.number("rope.scaling.yarn_log_multiplier")?.unwrap_or(0.0);
    let temperature = rope.magnitude * (1.0 + 0.1 * log * factor.ln());
    // Cancels the factor that YaRN applies to cosines and sines.
    if extrapolation != 0.0 {
        rope.magnitude /= 1.0 + 0.1 * factor.ln();
    }
    Ok((rope, temperature * temperature * plain))
}

/// Queries `(heads, plain + rotated)`, low-rank in the larger models.
fn queries(model: &mut Blocks<'_, '_>, x: Slot, widths: &Widths) -> Result<Slot, ModelError> {
    let (inputs, outputs) = (model.hyper.embedding, widths.heads * widths.key);
    if model.has("attn_q.weight") {
        let query = model.linear("attn_q", outputs, inputs)?;
        return Ok(model.plan.linear(x, query));
    }
    let rank = model.keys.required_count("attention.q_lora_rank", 1 << 16)?;
    let down = model.linear("attn_q_a", rank, inputs)?;
    let short = model.plan.linear(x, down);
    let short = model.norm(NormKind::Rms, short, "attn_q_a_norm")?;
    let up = model.linear("attn_q_b", outputs, rank)?;
    Ok(model.plan.linear(short, up))
}

/// The normalised latent vector, and the rotated part of the keys, which all heads share.
fn latent(model: &mut Blocks<'_, '_>, x: Slot, widths: &Widths, rope: &Rope) -> Result<(Slot, Slot), ModelError> {
    let parts = model.fused("attn_kv_a_mqa", &[widths.latent, widths.rotated], model.hyper.embedding)?;
    let outs = model.plan.linears(x, &parts);
    let normed = model.norm(NormKind::Rms, outs[0], "attn_kv_a_norm")?;
    model.plan.rope(outs[1], rope, 1, 0);
    Ok((normed, outs[1]))
}

fn shape(widths: &Widths, scale: f32, kv_heads: usize, key_dim: usize, value_dim: usize) -> Attention {
    let heads = widths.heads;
    Attention {
        heads,
        kv_heads,
        key_dim,
        value_dim,
        scale,
        window: None,
        softcap: None,
        alibi: None,
        sinks: None,
        causal: true,
    }
}

fn latent_attention(
    model: &mut Blocks<'_, '_>,
    x: Slot,
    widths: &Widths,
    rope: &Rope,
    scale: f32,
) -> Result<Slot, ModelError> {
    let query = queries(model, x, widths)?;
    let plain = model.plan.split(query, 0, widths.plain, widths.key);
    let rotated = model.plan.split(query, widths.plain, widths.rotated, widths.key);
    model.plan.rope(rotated, rope, widths.heads, 0);
    let (normed, key) = latent(model, x, widths, rope)?;

    let into = model.tensors.stack(&model.name("attn_k_b.weight"), widths.heads, widths.latent, widths.plain)?;
    let into = model.plan.weight(into);
    let absorbed = model.plan.linear_heads(plain, into);
    let query = model.plan.join(absorbed, rotated, widths.heads, widths.rotated);
    let keys = model.plan.join(normed, key, 1, widths.rotated);
    let shape = shape(widths, scale, 1, widths.latent + widths.rotated, widths.latent);
    let kept = model.keep(&shape);
    let mixed = model.plan.attend(kept, shape, query, keys, normed);
    let out = model.tensors.stack(&model.name("attn_v_b.weight"), widths.heads, widths.value, widths.latent)?;
    let out = model.plan.weight(out);
    Ok(model.plan.linear_heads(mixed, out))
}

fn full_attention(
    model: &mut Blocks<'_, '_>,
    x: Slot,
    widths: &Widths,
    rope: &Rope,
    scale: f32,
) -> Result<Slot, ModelError> {
    let query = queries(model, x, widths)?;
    model.plan.apply(Op::Rope { x: query, rope: rope.clone(), heads: widths.heads, first: widths.plain });
    let (normed, key) = latent(model, x, widths, rope)?;
    let both = widths.plain + widths.value;
    let up = model.linear("attn_kv_b", widths.heads * both, widths.latent)?;
    let up = model.plan.linear(normed, up);
    let plain = model.plan.split(up, 0, widths.plain, both);
    let values = model.plan.split(up, widths.plain, widths.value, both);
    let keys = model.plan.join(plain, key, widths.heads, widths.rotated);
    let shape = shape(widths, scale, widths.heads, widths.key, widths.value);
    let kept = model.keep(&shape);
    Ok(model.plan.attend(kept, shape, query, keys, values))
}
