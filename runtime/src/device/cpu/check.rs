//! Checks of a plan before it runs, so that nothing in a file can cause a panic later.

use super::weights::Weights;
use crate::device::DeviceError;
use crate::plan::{Op, Plan, Rope};

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
pub(super) fn learned_positions(plan: &Plan) -> Option<usize> {
    let tables = plan.ops.iter().filter_map(|op| match op {
        Op::Position { table, .. } => Some(plan.weights[table.0].rows),
        _ => None,
    });
    tables.min()
}
