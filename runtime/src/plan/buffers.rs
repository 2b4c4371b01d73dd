//! Assigns memory to slots: slots that are never live at the same time share a buffer.
//!
//! A slot is live from the first operation that writes it to the last that uses it. One pass over the operations in order gives
//! each slot the best fitting free buffer (linear scan, as in register allocation).

use super::{BufferShape, Op, Slot, SlotShape};

/// What a slot has rows for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Every row of the step.
    Tokens,
    /// Every wanted row; if rows are pooled, each stands for its sequence (see [`super::Step::outputs`]).
    Outputs,
}

impl Op {
    /// The slots it reads, including those it modifies.
    pub fn reads(&self) -> Vec<Slot> {
        use super::Recurrence::{GatedDelta, Mamba, Mamba2};
        match self {
            Self::Embed { .. } => Vec::new(),
            Self::Linear { x, products } => {
                let added = products.iter().filter(|product| product.add).map(|product| product.out);
                std::iter::once(*x).chain(added).collect()
            }
            Self::Position { x, .. }
            | Self::Bias { x, .. }
            | Self::Norm { x, .. }
            | Self::LinearHeads { x, .. }
            | Self::Split { x, .. }
            | Self::Rope { x, .. }
            | Self::Activate { x, .. }
            | Self::Scale { x, .. }
            | Self::Adapt { x, .. }
            | Self::Softcap { x, .. }
            | Self::Clamp { x, .. }
            | Self::Temperature { x, .. }
            | Self::Convolve { x, .. }
            | Self::Select { x, .. }
            | Self::Pool { x, .. }
            | Self::Route { scores: x, .. }
            | Self::Attend { query: x, .. }
            | Self::MultiplyVector { to: x, .. }
            | Self::DivideVector { to: x, .. } => vec![*x],
            Self::Store { key: x, value: y, .. }
            | Self::Join { x, y, .. }
            | Self::Gate { gate: x, up: y, .. }
            | Self::Add { x, to: y }
            | Self::Multiply { x, to: y, .. }
            | Self::Experts { x, routes: y, .. } => vec![*x, *y],
            Self::Recur { recurrence, .. } => match *recurrence {
                Mamba { x, dt, b, c, .. } | Mamba2 { x, dt, b, c, .. } => vec![x, dt, b, c],
                GatedDelta { query, key, value, decay, beta, .. } => vec![query, key, value, decay, beta],
            },
        }
    }

    /// The slots it overwrites or modifies.
    pub fn writes(&self) -> Vec<Slot> {
        match self {
            Self::Store { .. } => Vec::new(),
            Self::Linear { products, .. } => products.iter().map(|product| product.out).collect(),
            Self::Embed { out, .. }
            | Self::Norm { out, .. }
            | Self::LinearHeads { out, .. }
            | Self::Split { out, .. }
            | Self::Join { out, .. }
            | Self::Attend { out, .. }
            | Self::Activate { out, .. }
            | Self::Gate { out, .. }
            | Self::Route { out, .. }
            | Self::Experts { out, .. }
            | Self::Convolve { out, .. }
            | Self::Recur { out, .. }
            | Self::Select { out, .. }
            | Self::Pool { out, .. } => vec![*out],
            Self::Position { x, .. }
            | Self::Bias { x, .. }
            | Self::Rope { x, .. }
            | Self::Scale { x, .. }
            | Self::Adapt { x, .. }
            | Self::Softcap { x, .. }
            | Self::Clamp { x, .. }
            | Self::Temperature { x, .. } => vec![*x],
            Self::Add { to, .. }
            | Self::Multiply { to, .. }
            | Self::MultiplyVector { to, .. }
            | Self::DivideVector { to, .. } => vec![*to],
        }
    }
}

/// Assigns a buffer to every slot; those in `kept` stay live after the last operation.
pub(super) fn assign(ops: &[Op], slots: &mut [SlotShape], kept: &[Slot]) -> Vec<BufferShape> {
    let mut last_use = vec![0; slots.len()];
    for (at, op) in ops.iter().enumerate() {
        for slot in op.reads().into_iter().chain(op.writes()) {
            last_use[slot.0] = at;
        }
    }
    for slot in kept {
        last_use[slot.0] = ops.len();
    }
    let mut buffers: Vec<BufferShape> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut placed = vec![false; slots.len()];
    for (at, op) in ops.iter().enumerate() {
        for slot in op.writes() {
            if !std::mem::replace(&mut placed[slot.0], true) {
                slots[slot.0].buffer = take(&mut buffers, &mut free, slots[slot.0]);
            }
        }
        // A slot last used here is free for the next operation, but not for this one's result.
        let mut ended: Vec<Slot> =
            op.reads().into_iter().chain(op.writes()).filter(|slot| last_use[slot.0] == at).collect();
        ended.sort_by_key(|slot| slot.0);
        ended.dedup();
        free.extend(ended.into_iter().map(|slot| slots[slot.0].buffer));
    }
    buffers
}

/// The best fitting free buffer: the narrowest that is wide enough, or else the widest, enlarged.
fn take(buffers: &mut Vec<BufferShape>, free: &mut Vec<usize>, slot: SlotShape) -> usize {
    let candidates = free.iter().enumerate().filter(|(_, buffer)| buffers[**buffer].rows == slot.rows);
    let best = candidates.min_by_key(|(_, buffer)| {
        let columns = buffers[**buffer].columns;
        (columns < slot.columns, columns.abs_diff(slot.columns), **buffer)
    });
    let Some((at, &buffer)) = best else {
        buffers.push(BufferShape { columns: slot.columns, rows: slot.rows });
        return buffers.len() - 1;
    };
    free.swap_remove(at);
    buffers[buffer].columns = buffers[buffer].columns.max(slot.columns);
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Activation, Weight};

    fn shapes(columns: &[usize]) -> Vec<SlotShape> {
        columns.iter().map(|&columns| SlotShape { columns, rows: Rows::Tokens, buffer: usize::MAX }).collect()
    }

    fn activate(x: usize, out: usize) -> Op {
        Op::Activate { activation: Activation::Silu, x: Slot(x), out: Slot(out) }
    }

    #[test]
    fn slots_that_are_not_needed_at_once_share_memory() {
        let mut slots = shapes(&[64, 64, 64, 64, 32]);
        let ops = [
            Op::Embed { table: Weight(0), scale: 1.0, out: Slot(0) },
            activate(0, 1),
            activate(1, 2),
            Op::Add { x: Slot(2), to: Slot(0) },
            activate(0, 3),
            activate(3, 4),
        ];
        let buffers = assign(&ops, &mut slots, &[Slot(4)]);
        let of: Vec<usize> = slots.iter().map(|slot| slot.buffer).collect();
        assert_ne!(of[0], of[1]);
        assert_ne!(of[1], of[2], "an operation never writes what it reads");
        assert_ne!(of[0], of[2], "the residual stream lives on");
        assert_eq!(of[3], of[1]);
        assert_eq!(buffers.len(), 3, "{buffers:?}");
        assert_eq!(of[4], of[0], "the first to be free again");
    }

    #[test]
    fn what_is_kept_is_not_given_away() {
        let mut slots = shapes(&[8, 8, 8]);
        let ops = [Op::Embed { table: Weight(0), scale: 1.0, out: Slot(0) }, activate(0, 1), activate(1, 2)];
        assign(&ops, &mut slots, &[Slot(0)]);
        assert_ne!(slots[2].buffer, slots[0].buffer);
    }
}
