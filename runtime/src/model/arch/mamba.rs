//! `mamba` (also FalconMamba): one state space mixer per layer, nothing else.

use crate::model::ModelError;
use crate::model::blocks::Blocks;
use crate::plan::{NormKind, Plan};

pub(super) fn plan(mut model: Blocks<'_, '_>) -> Result<Plan, ModelError> {
    let x = model.embed(1.0)?;
    for layer in 0..model.hyper.layers {
        model.at(layer);
        let normed = model.norm(NormKind::Rms, x, "attn_norm")?;
        let (mixed, output) = model.mamba(normed)?;
        model.plan.linear_add(mixed, output, x);
    }
    model.head(NormKind::Rms, x)
}
