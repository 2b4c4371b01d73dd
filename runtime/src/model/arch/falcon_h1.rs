//! `falcon-h1`: attention and a state space mixer in parallel in every layer.

use crate::model::ModelError;
use crate::model::blocks::{Blocks, Mixture};
use crate::plan::{Norm, NormKind, Plan, RopePairs};

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    // The reference implementation ignores the frequency divisors in these files.
    let rope = model.rope_without_factors(RopePairs::Halves)?;
    model.tensors.ignore("rope_freqs.weight");
    let x = model.embed(1.0)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let normed = model.norm(NormKind::Rms, x, "attn_norm")?;
        let (mixed, output) = model.mamba2(normed)?;
        let heads = model.qkv(normed)?;
        model.rotate(&heads, &rope);
        model.attention_onto_without_bias(&heads, model.attention_shape(), x)?;
        model.plan.linear_add(mixed, output, x);

        // The tensor's name lacks `.weight`.
        let weight = Some(model.vector("ffn_norm", model.hyper.embedding)?);
        let (width, epsilon) = (model.hyper.embedding, model.hyper.rms_epsilon);
        let normed = model.plan.norm(x, Norm { kind: NormKind::Rms, width, weight, bias: None, epsilon });
        model.feed_forward_add(normed, Mixture::default(), x)?;
    }
    model.head(NormKind::Rms, x)
}
