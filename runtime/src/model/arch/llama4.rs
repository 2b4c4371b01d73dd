//! `llama4`: most layers rotate and attend within chunks; every fourth has full attention, no rotation, and queries scaled by
//! position; experts whose inputs are weighted, and a shared one.

use crate::model::ModelError;
use crate::model::blocks::{Blocks, Heads, Mixture};
use crate::plan::{Gating, Norm, NormKind, Op, Plan, RopePairs, Window};

/// Positions per chunk, and the step of the query scale: the same in all models.
const CHUNK: usize = 8192;
/// The last layer of each such period does not rotate.
const PERIOD: usize = 4;

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    let layers = model.hyper.layers;
    let has_chunks =
        model.keys.count("attention.sliding_window", 1 << 26)?.is_some() || !model.keys.has("attention.sliding_window");
    let chunked = if has_chunks { model.windowed_layers(PERIOD, false)? } else { vec![false; layers] };
    // The largest of the family, with 128 experts, has no norms of queries and keys.
    let has_norms = model.experts()? != Some(128);
    let rope = model.rope(RopePairs::Adjacent)?;
    let mixture =
        Mixture { gating: Gating::Sigmoid, normalise: false, by_score: true, weigh_input: true, ..Mixture::default() };
    let x = model.embed(1.0)?;
    for layer in 0..layers {
        model.at(layer);
        let normed = model.norm(NormKind::Rms, x, "attn_norm")?;
        let mut heads = model.qkv(normed)?;
        if !has_chunks || (layer + 1) % PERIOD != 0 {
            model.rotate(&heads, &rope);
            if has_norms {
                heads = plain_norms(&mut model, heads);
            }
        } else {
            model.plan.apply(Op::Temperature { x: heads.query, scale: 0.1, length: CHUNK, offset: 1.0 });
        }
        let mut shape = model.attention_shape();
        shape.window = chunked[layer].then_some(Window::Chunked(CHUNK));
        model.attention_onto(&heads, shape, x)?;

        let normed = model.norm(NormKind::Rms, x, "ffn_norm")?;
        model.feed_forward_add(normed, mixture, x)?;
    }
    model.head(NormKind::Rms, x)
}

/// Per-head RMS norms without weights.
fn plain_norms(model: &mut Blocks<'_, '_>, heads: Heads) -> Heads {
    let (width, epsilon) = (model.hyper.key_dim, model.hyper.rms_epsilon);
    let norm = Norm { kind: NormKind::Rms, width, weight: None, bias: None, epsilon };
    Heads { query: model.plan.norm(heads.query, norm), key: model.plan.norm(heads.key, norm), ..heads }
}
