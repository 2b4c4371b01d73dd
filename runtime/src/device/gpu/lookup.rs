//! Rows of tables that the CPU looks up for each row of a step, and writes before the first call: a few kilobytes a token, of tables
//! that would take hundreds of megabytes there.
//!
//! The plan's first embedding is written where it belongs, or looked up on the GPU (`ahead` says why). Others come later, when their
//! slot's memory may still hold something else: they have a buffer of their own, which a call copies or adds from.

use satchel_gpu::{Gpu, GpuError};

use super::program::bytes_of;
use crate::device::cpu::Weights as Mapped;
use crate::plan::{Op, RowInput, Slot, SlotShape, Step, Weight};

/// What a table is looked up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Token,
    Position,
}

/// One operation's rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lookup {
    pub(super) table: Weight,
    pub(super) scale: f32,
    by: By,
    /// Where they go.
    pub(super) slot: Slot,
    /// Whether they are written right there.
    pub(super) direct: bool,
    pub(super) columns: usize,
    /// Whose they are.
    pub(super) adapter: Option<usize>,
}

/// The lookups of operations, in their order; `adapters` says which belong to one. The plan's first operation is `is_start`.
pub(super) fn lookups(ops: &[Op], adapters: &[Option<usize>], slots: &[SlotShape], is_start: bool) -> Vec<Lookup> {
    let lookups = ops.iter().zip(adapters).enumerate().filter_map(|(at, (op, &adapter))| match *op {
        Op::Embed { table, scale, out: slot } => Some((at, table, scale, By::Token, slot, adapter)),
        Op::Position { table, x: slot } => Some((at, table, 1.0, By::Position, slot, adapter)),
        _ => None,
    });
    let lookups = lookups.map(|(at, table, scale, by, slot, adapter)| {
        let direct = is_start && at == 0 && by == By::Token;
        Lookup { table, scale, by, slot, direct, columns: slots[slot.0].columns, adapter }
    });
    lookups.collect()
}

impl Lookup {
    /// Its own memory, for so many rows.
    pub(super) fn buffer(&self, gpu: &Gpu, tokens: usize) -> Result<satchel_gpu::Buffer, GpuError> {
        let rows = if self.direct { 0 } else { tokens };
        gpu.buffer("activations", (4 * rows * self.columns) as u64)
    }

    /// Writes the rows of a step.
    pub(super) fn write(&self, gpu: &Gpu, mapped: &Mapped, step: &Step, to: &satchel_gpu::Buffer) {
        let columns = self.columns;
        let mut rows = vec![0.0; step.len() * columns];
        for (at, row) in rows.chunks_exact_mut(columns).enumerate() {
            match (self.by, &step.inputs[at]) {
                (By::Position, _) => mapped.row(self.table, step.positions[at], row),
                (By::Token, RowInput::Token(token)) => {
                    mapped.row(self.table, *token as usize, row);
                    row.iter_mut().for_each(|value| *value *= self.scale);
                }
                (By::Token, RowInput::Embedding(given)) if given.len() == columns => row.copy_from_slice(given),
                // Zeros, as on the CPU.
                (By::Token, RowInput::Embedding(_)) => {}
            }
        }
        gpu.write(to, 0, &bytes_of(&rows));
    }
}
