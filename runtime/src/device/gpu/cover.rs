//! What of a plan the shaders cover. Everything else is said by name, before anything is loaded.

use std::collections::BTreeSet;
use std::ops::Range;

use satchel_gpu::kernel::{MOST_EXPERTS, MOST_USED};
use satchel_gpu::{Form, RecurrentKernel};

use crate::plan::{Attention, CacheType, CacheTypes, Head, Op, Plan, Recurrence, Role, Slot};
use crate::quant;

/// Why these operations of a plan cannot run on a GPU: one line that names the operation; `None` if they can.
pub fn uncovered(plan: &Plan, ops: Range<usize>, cache: CacheTypes) -> Option<String> {
    refused(plan, cache).or_else(|| uncovered_ops(plan, ops))
}

/// Why no operation of a plan can run on a GPU.
pub(super) fn refused(plan: &Plan, cache: CacheTypes) -> Option<String> {
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
    None
}

fn uncovered_ops(plan: &Plan, ops: Range<usize>) -> Option<String> {
    let lacking = plan.ops[ops].iter().find_map(|op| lacking(plan, op))?;
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
pub(super) fn lacking(plan: &Plan, op: &Op) -> Option<&'static str> {
    match op {
        Op::Attend { shape, .. } => lacking_of_attention(shape),
        Op::Route { router, .. } => {
            let fits = router.experts <= MOST_EXPERTS && router.used.max(router.groups) <= MOST_USED;
            (!fits).then_some("so many experts")
        }
        Op::LinearHeads { weight, .. } => (plan.weights[weight.0].stack > MOST_EXPERTS).then_some("so many heads"),
        Op::Recur { recurrence, .. } => {
            let columns = |slot: Slot| plan.slot(slot).columns as u32;
            let kernel = match *recurrence {
                Recurrence::Mamba { b, .. } => RecurrentKernel::Mamba { states: columns(b), each: true },
                Recurrence::Mamba2 { b, groups, .. } => {
                    RecurrentKernel::Mamba { states: columns(b) / groups as u32, each: false }
                }
                Recurrence::GatedDelta { key, key_heads, .. } => {
                    RecurrentKernel::GatedDelta { key_dim: columns(key) / key_heads as u32 }
                }
            };
            (!kernel.fits()).then_some("a recurrent state of this size")
        }
        Op::Pool { .. } => Some("pooling"),
        _ => None,
    }
}

fn lacking_of_attention(shape: &Attention) -> Option<&'static str> {
    if !shape.causal {
        return Some("attention to later positions");
    }
    // Keys are read four elements at a time, values two; a workgroup holds a query.
    let fits = shape.key_dim.is_multiple_of(4)
        && shape.value_dim.is_multiple_of(2)
        && shape.key_dim.max(shape.value_dim) <= 1024;
    (!fits).then_some("attention with heads of this size")
}
