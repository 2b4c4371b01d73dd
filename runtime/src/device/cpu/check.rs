//! Checks of a plan before it runs, so that nothing in a file can cause a panic later.

use std::ops::Range;

use super::weights::Weights;
use crate::device::DeviceError;
use crate::plan::{Op, Plan, Rope, Step};

/// An error if a rotation would divide by zero or a non-finite factor.
pub(in crate::device) fn rotations(ops: &[Op], weights: &Weights) -> Result<(), DeviceError> {
    let ropes = ops.iter().filter_map(|op| match op {
        Op::Rope { rope, .. } => Some(rope),
        _ => None,
    });
    for &Rope { dimensions, factors, .. } in ropes {
        let Some(factors) = factors else { continue };
        if weights.vector(factors).iter().any(|factor| !factor.is_finite() || *factor == 0.0) {
            let (name, count) = (&weights.facts(factors).name, dimensions / 2);
            return Err(DeviceError::Unsupported(format!(
                "tensor `{name}`: the rope factors must be {count} finite numbers other than 0, one a rotated pair"
            )));
        }
    }
    Ok(())
}

/// Number of positions, if they are learned.
pub(in crate::device) fn learned_positions(plan: &Plan) -> Option<usize> {
    let tables = plan.ops.iter().filter_map(|op| match op {
        Op::Position { table, .. } => Some(plan.weights[table.0].rows),
        _ => None,
    });
    tables.min()
}

/// An error if a step has positions beyond those that are learned.
pub(in crate::device) fn positions(step: &Step, learned: Option<usize>) -> Result<(), DeviceError> {
    match learned.filter(|&most| step.positions.iter().any(|&at| at >= most)) {
        None => Ok(()),
        Some(most) => {
            Err(DeviceError::Unsupported(format!("the model has learned {most} positions and knows no other")))
        }
    }
}

/// Of each of these operations, the adapter that it belongs to.
pub(in crate::device) fn adapters_of(plan: &Plan, ops: Range<usize>) -> Vec<Option<usize>> {
    let mut adapters = vec![None; plan.ops.len()];
    for adapted in &plan.adapted {
        adapters[adapted.ops.clone()].fill(Some(adapted.adapter));
    }
    adapters[ops].to_vec()
}
