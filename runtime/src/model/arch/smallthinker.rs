//! `smallthinker`: the router reads the layer's input; layers with a window rotate, the others do not; experts gated by ReLU.

use crate::model::ModelError;
use crate::model::blocks::{Blocks, Mixture};
use crate::plan::{Activation, NormKind, Plan, RopePairs, Window};

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    // Windows have this length whatever the file says; every fourth layer then has neither window nor rotation.
    const WINDOW: usize = 4096;
    const PERIOD: usize = 4;
    let layers = model.hyper.layers;
    let has_windows = model.keys.count("attention.sliding_window", 1 << 26)?.is_some();
    let windowed = if has_windows { model.windowed_layers(PERIOD, true)? } else { vec![false; layers] };
    let rope = model.rope(RopePairs::Halves)?;
    let mixture = Mixture { activation: Activation::Relu, ..Mixture::default() };
    let x = model.embed(1.0)?;
    for layer in 0..layers {
        model.at(layer);
        let scores = model.scores(x)?;
        let normed = model.norm(NormKind::Rms, x, "attn_norm")?;
        let heads = model.qkv(normed)?;
        if !has_windows || layer % PERIOD != 0 {
            model.rotate(&heads, &rope);
        }
        let mut shape = model.attention_shape();
        shape.window = windowed[layer].then_some(Window::Sliding(WINDOW));
        model.attention_onto(&heads, shape, x)?;

        let normed = model.norm(NormKind::Rms, x, "ffn_norm")?;
        let routed = model.mixture(normed, scores, mixture)?;
        model.plan.add(routed, x);
    }
    model.head(NormKind::Rms, x)
}
