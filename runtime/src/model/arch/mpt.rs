//! `mpt`: ALiBi; optional clamping of queries, keys and values, learned positions, and norms of queries and keys.

use crate::model::ModelError;
use crate::model::blocks::Blocks;
use crate::plan::{Activation, Attention, NormKind, Op, Plan};

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    let alibi = model.keys.number("attention.max_alibi_bias")?.filter(|&bias| bias > 0.0);
    let limit = model.keys.number("attention.clamp_kqv")?.filter(|&limit| limit > 0.0);
    let x = model.embed(1.0)?;
    model.learned_positions(x)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let normed = model.norm(NormKind::Layer, x, "attn_norm")?;
        let mut heads = model.qkv(normed)?;
        if let Some(limit) = limit {
            model.clamp(&heads, limit);
        }
        if model.has_query_norm() {
            heads = model.norms_across_heads(NormKind::Layer, heads)?;
        } else {
            // Unused without the norm of queries.
            ["attn_k_norm.weight", "attn_k_norm.bias"].iter().for_each(|name| model.tensors.ignore(&model.name(name)));
        }
        model.attention_onto(&heads, Attention { alibi, ..model.attention_shape() }, x)?;

        let normed = model.norm(NormKind::Layer, x, "ffn_norm")?;
        let (active, down) = model.plain(normed, Activation::Gelu)?;
        let width = model.hyper.feed_forward[layer];
        if let Some(vector) = model.optional_vector("ffn.act.scales", width)? {
            model.plan.apply(Op::DivideVector { vector, to: active });
        }
        model.plan.linear_add(active, down, x);
    }
    model.head(NormKind::Layer, x)
}
