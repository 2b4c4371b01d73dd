//! What of a plan the shaders cover. Everything else is said by name, before anything is loaded.

use std::collections::BTreeSet;
use std::ops::Range;

use satchel_gpu::Form;

use crate::plan::{Attention, CacheType, CacheTypes, Head, Op, Plan, Role};
use crate::quant;

/// Why these operations of a plan cannot run on a GPU: one line that names the operation; `None` if they can.
pub fn uncovered(plan: &Plan, ops: Range<usize>, cache: CacheTypes) -> Option<String> {
    if !plan.adapted.is_empty() {
        return Some("there are no shaders yet for adapters (--lora)".to_owned());
    }
    if cache != CacheTypes::both(CacheType::F16) {
        return Some(format!("there is no shader yet for a KV cache in {cache}, only in F16"));
    }
    if !matches!(plan.head, Head::Logits(_)) {
        return Some("there are no shaders yet for embeddings and scores".to_owned());
    }
    if let Some(weight) = plan.weights.iter().find(|weight| weight.role == Role::Matrix && !quant::supports(weight.ty))
    {
        return Some(format!("tensor `{}`: there is no shader for {} weights", weight.name, weight.ty));
    }
    let first = ops.start;
    let mut ops = plan.ops[ops].iter().enumerate();
    let lacking = ops.find_map(|(at, op)| lacking(op, first + at == 0))?;
    Some(format!("there is no shader yet for {lacking}"))
}

/// What is said of weights that are kept in another form than the file's; `None` if there are none.
pub fn converted(plan: &Plan) -> Option<String> {
    let matrices =
        plan.weights.iter().filter(|weight| weight.role == Role::Matrix && Form::of(weight.ty) == Form::Wide);
    let types: BTreeSet<&str> = matrices.map(|weight| weight.ty.name()).collect();
    let types: Vec<&str> = types.into_iter().collect();
    (!types.is_empty()).then(|| format!("{} kept as levels of a byte, 12 bits a weight", types.join(", ")))
}

/// The name of an operation that is not covered.
fn lacking(op: &Op, is_first: bool) -> Option<&'static str> {
    match op {
        Op::Embed { .. } if is_first => None,
        Op::Embed { .. } => Some("a second embedding"),
        Op::Attend { shape, .. } => lacking_of_attention(shape),
        Op::Bias { .. }
        | Op::Norm { .. }
        | Op::Linear { .. }
        | Op::Split { .. }
        | Op::Rope { .. }
        | Op::Store { .. }
        | Op::Activate { .. }
        | Op::Gate { .. }
        | Op::Add { .. }
        | Op::Multiply { .. }
        | Op::MultiplyVector { .. }
        | Op::Scale { .. }
        | Op::Softcap { .. }
        | Op::Select { .. } => None,
        Op::Position { .. } => Some("learned positions"),
        Op::LinearHeads { .. } => Some("a matrix for each head"),
        Op::Join { .. } => Some("joining parts of heads"),
        Op::DivideVector { .. } => Some("division by a vector"),
        Op::Adapt { .. } => Some("an adapter"),
        Op::Clamp { .. } => Some("clamping"),
        Op::Temperature { .. } => Some("a temperature by position"),
        Op::Route { .. } => Some("expert routing"),
        Op::Experts { .. } => Some("experts"),
        Op::Convolve { .. } => Some("a convolution"),
        Op::Recur { .. } => Some("a recurrence"),
        Op::Pool { .. } => Some("pooling"),
    }
}

fn lacking_of_attention(shape: &Attention) -> Option<&'static str> {
    if !shape.causal {
        return Some("attention to later positions");
    }
    if shape.alibi.is_some() {
        return Some("attention with distance biases");
    }
    // Keys are read four elements at a time, values two; a workgroup holds a query.
    let fits = shape.key_dim.is_multiple_of(4)
        && shape.value_dim.is_multiple_of(2)
        && shape.key_dim.max(shape.value_dim) <= 1024;
    (!fits).then_some("attention with heads of this size")
}
