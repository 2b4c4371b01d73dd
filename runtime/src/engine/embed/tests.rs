//! A text in pieces gets the vector that it has in one step.

use std::path::{Path, PathBuf};

use super::*;
use crate::kernels;
use crate::model::PoolingKind;
use crate::session::ModelSource;
use crate::session::open::{Compute, load_to_embed};

fn data(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data")).join(name)
}

fn embedder(path: &Path, pooling: PoolingKind) -> Embedder {
    let source = ModelSource::open(Some(path)).expect("the model opens");
    let compute = Compute { kernels: kernels::best(), threads: 2, cache: Default::default() };
    let loaded = load_to_embed(&source, compute, None, Some(pooling)).expect("and is loaded");
    Embedder::new(loaded, 200)
}

/// Full attention, windows, and recurrent state.
#[test]
fn pieces_give_what_one_step_gives() {
    let models =
        ["models/stories260K-f32.v3.gguf", "architectures/gemma3-dense.gguf", "architectures/jamba-dense.gguf"];
    let texts: Vec<Vec<TokenId>> =
        [3, 150, 16, 17].map(|length| (0..length).map(|at| 1 + at * 7 % 120).collect()).into();
    for model in models {
        for pooling in [PoolingKind::Last, PoolingKind::Cls, PoolingKind::Mean] {
            let mut whole = embedder(&data(model), pooling);
            assert_eq!(whole.step_tokens, STEP_TOKENS, "{model} looks back only");
            let expected = whole.embed(&texts).expect("they fit");
            whole.step_tokens = 16;
            let found = whole.embed(&texts).expect("they fit");
            for (found, expected) in found.iter().zip(&expected) {
                if pooling != PoolingKind::Mean {
                    assert_eq!(found, expected, "{model}, {pooling:?}");
                    continue;
                }
                // Sums of sums round in another order.
                let off: f32 = found.iter().zip(expected).map(|(a, b)| (a - b).powi(2)).sum();
                let of: f32 = expected.iter().map(|value| value.powi(2)).sum();
                assert!(off < 1e-11 * of, "{model}: {off:e} of {of:e}");
            }
        }
    }
}

#[test]
fn encoders_see_a_text_as_a_whole() {
    let mut plan = embedder(&data("models/stories260K-f32.v3.gguf"), PoolingKind::Mean).loaded.plan;
    assert_eq!(Embedder::step_tokens(&plan, 8000), STEP_TOKENS);
    for op in &mut plan.ops {
        if let Op::Attend { shape, .. } = op {
            shape.causal = false;
        }
    }
    assert_eq!(Embedder::step_tokens(&plan, 8000), 8000);
    assert_eq!(Embedder::step_tokens(&plan, 100), STEP_TOKENS);
}
