//! A loaded plan: its buffers, and each operation's way to the kernels.

use std::ops::Range;
use std::sync::Arc;

use super::recur::Convolving;
use super::rotation::{self, Rotations};
use super::state::{State, zeros};
use super::weights::Weights;
use crate::device::{DeviceError, MappedPart, MemoryUse, Program};
use crate::kernels::Kernels;
use crate::kernels::elementwise;
use crate::kernels::experts::ExpertsBuffers;
use crate::kernels::matmul::Activations;
use crate::kernels::threads::Threads;
use crate::plan::{
    Activation, CacheTypes, Norm, NormKind, Op, PageId, Plan, Rope, RowInput, Rows, Slot, SlotShape, Step, Weight,
};

/// A plan on the processor.
pub(super) struct CpuProgram {
    pub(super) kernels: &'static Kernels,
    pub(super) threads: Arc<Threads>,
    pub(super) weights: Weights,
    pub(super) state: State,
    pub(super) activations: Activations,
    pub(super) step: Step,
    pub(super) experts_scratch: ExpertsBuffers,
    /// Of heads that are multiplied with a matrix each.
    pub(super) head_activations: Vec<Activations>,
    rotations: Rotations,
    ops: Arc<[Op]>,
    /// Of `ops`, those from here on have a row for each wanted row only.
    first_output_op: usize,
    slots: Vec<SlotShape>,
    /// Columns of a row, and what has rows.
    shapes: Vec<(usize, Rows)>,
    /// At least as long as the step needs; what is behind that is left from other steps.
    buffers: Vec<Vec<f32>>,
    result: Slot,
}

impl CpuProgram {
    pub(super) fn new(
        kernels: &'static Kernels,
        threads: Arc<Threads>,
        cache: CacheTypes,
        plan: &Plan,
        ops: Range<usize>,
        parts: &[MappedPart],
    ) -> Result<Self, DeviceError> {
        Ok(Self {
            kernels,
            threads,
            weights: Weights::new(&plan.weights, parts),
            state: State::new(&plan.state, cache)?,
            activations: Activations::new(),
            step: Step::default(),
            experts_scratch: ExpertsBuffers::new(),
            head_activations: Vec::new(),
            rotations: Rotations::default(),
            first_output_op: plan.first_output_op.clamp(ops.start, ops.end) - ops.start,
            ops: plan.ops[ops].into(),
            slots: plan.slots.clone(),
            shapes: plan.buffers.iter().map(|buffer| (buffer.columns, buffer.rows)).collect(),
            buffers: vec![Vec::new(); plan.buffers.len()],
            result: plan.head.slot(),
        })
    }

    fn rows_of(&self, rows: Rows) -> usize {
        match rows {
            Rows::Tokens => self.step.len(),
            Rows::Outputs => self.step.outputs.len(),
        }
    }

    /// Rows of a slot in this step.
    pub(super) fn rows(&self, slot: Slot) -> usize {
        self.rows_of(self.slots[slot.0].rows)
    }

    /// Elements of a slot's row.
    pub(super) fn columns(&self, slot: Slot) -> usize {
        self.slots[slot.0].columns
    }

    /// Elements of a slot in this step.
    pub(super) fn elements(&self, slot: Slot) -> usize {
        self.rows(slot) * self.columns(slot)
    }

    /// A slot's values, `(rows, columns)`.
    pub(super) fn values(&self, slot: Slot) -> &[f32] {
        &self.buffers[self.slots[slot.0].buffer][..self.elements(slot)]
    }

    /// Takes the memory of a slot out, to be written; it may be longer than the slot.
    pub(super) fn take(&mut self, slot: Slot) -> Vec<f32> {
        std::mem::take(&mut self.buffers[self.slots[slot.0].buffer])
    }

    /// Puts back what was taken out.
    pub(super) fn put(&mut self, slot: Slot, buffer: Vec<f32>) {
        self.buffers[self.slots[slot.0].buffer] = buffer;
    }

    /// Calls `work` with the values of `slot` to be written, and all else to be read.
    pub(super) fn write(&mut self, slot: Slot, work: impl FnOnce(&mut Self, &mut [f32])) {
        let mut buffer = self.take(slot);
        let count = self.elements(slot);
        work(self, &mut buffer[..count]);
        self.put(slot, buffer);
    }

    /// Makes the buffers long enough for the step.
    fn size_buffers(&mut self) -> Result<(), DeviceError> {
        for at in 0..self.buffers.len() {
            let (columns, rows) = self.shapes[at];
            let count = columns * self.rows_of(rows);
            if self.buffers[at].len() < count {
                // What was there is not needed any more: given back before more is taken.
                self.buffers[at] = Vec::new();
                self.buffers[at] = zeros(count, "activations")?;
            }
        }
        Ok(())
    }

    fn execute(&mut self, op: &Op) {
        match op {
            Op::Embed { table, scale, out } => self.embed(*table, *scale, *out),
            Op::Position { table, x } => self.add_position(*table, *x),
            Op::Bias { vector, x } => self.add_vector(*vector, *x),
            Op::Norm { x, norm, out } => self.norm(*x, norm, *out),
            Op::Linear { x, products } => self.linear(*x, products),
            Op::Split { x, first, width, stride, out } => self.split(*x, *first, *width, *stride, *out),
            Op::Rope { x, rope, heads, first } => self.rope(*x, rope, *heads, *first),
            Op::LinearHeads { x, weight, out } => self.linear_heads(*x, *weight, *out),
            Op::Temperature { x, scale, length, offset } => self.temperature(*x, *scale, *length, *offset),
            Op::Route { scores, router, out } => self.route(*scores, router, *out),
            Op::Experts { x, routes, experts, out } => self.experts(*x, *routes, experts, *out),
            Op::Convolve { x, kept, kernel, weight, bias, activation, out } => {
                let (kernel, weight, bias, activation) = (*kernel, *weight, *bias, *activation);
                self.convolve(*x, *kept, &Convolving { kernel, weight, bias, activation }, *out);
            }
            Op::Recur { kept, recurrence, out } => self.recur(*kept, recurrence, *out),
            Op::Store { kept, key, value } => self.store(*kept, *key, *value),
            Op::Attend { kept, shape, query, out } => self.attend(*kept, shape, *query, *out),
            Op::Gate { activation, gate, up, out } => self.gate(*activation, *gate, *up, *out),
            Op::Add { x, to } => self.write(*to, |program, to| {
                elementwise::add(program.kernels, &program.threads, to, program.values(*x));
            }),
            Op::Scale { x, factor } => self.write(*x, |program, x| {
                elementwise::scale(program.kernels, &program.threads, x, *factor);
            }),
            Op::Select { x, out } => self.select(*x, *out),
            other => unreachable!("{other:?} was refused when the plan was loaded"),
        }
    }

    fn embed(&mut self, table: Weight, scale: f32, out: Slot) {
        let columns = self.columns(out);
        self.write(out, |program, out| {
            for (input, row) in program.step.inputs.iter().zip(out.chunks_exact_mut(columns)) {
                match input {
                    RowInput::Token(token) => program.weights.row(table, *token as usize, row),
                    RowInput::Embedding(embedding) => row.copy_from_slice(embedding),
                }
                if scale != 1.0 && matches!(input, RowInput::Token(_)) {
                    row.iter_mut().for_each(|value| *value *= scale);
                }
            }
        });
    }

    fn add_position(&mut self, table: Weight, x: Slot) {
        let columns = self.columns(x);
        let mut positional = vec![0.0; columns];
        self.write(x, |program, x| {
            for (&position, row) in program.step.positions.iter().zip(x.chunks_exact_mut(columns)) {
                program.weights.row(table, position, &mut positional);
                row.iter_mut().zip(&positional).for_each(|(value, positional)| *value += positional);
            }
        });
    }

    fn add_vector(&mut self, vector: Weight, x: Slot) {
        let columns = self.columns(x);
        self.write(x, |program, x| {
            let vector = program.weights.vector(vector);
            for row in x.chunks_exact_mut(columns) {
                row.iter_mut().zip(vector).for_each(|(value, added)| *value += added);
            }
        });
    }

    fn norm(&mut self, x: Slot, norm: &Norm, out: Slot) {
        self.write(out, |program, out| {
            let x = program.values(x);
            let weight = program.weights.vector(norm.weight.expect("checked when the plan was loaded"));
            let bias = norm.bias.map(|bias| program.weights.vector(bias));
            match norm.kind {
                NormKind::Rms => {
                    elementwise::rms_norm(program.kernels, &program.threads, x, weight, norm.epsilon, out);
                }
                NormKind::Layer | NormKind::L2 => {
                    elementwise::layer_norm(program.kernels, &program.threads, x, weight, bias, norm.epsilon, out);
                }
            }
        });
    }

    fn split(&mut self, x: Slot, first: usize, width: usize, stride: usize, out: Slot) {
        self.write(out, |program, out| {
            let parts = program.values(x).chunks_exact(stride);
            for (from, to) in parts.zip(out.chunks_exact_mut(width)) {
                to.copy_from_slice(&from[first..first + width]);
            }
        });
    }

    fn rope(&mut self, x: Slot, rope: &Rope, heads: usize, _first: usize) {
        let head_dim = self.columns(x) / heads;
        let kind = rotation::kind(rope.pairs);
        let mut rotations = std::mem::take(&mut self.rotations);
        self.write(x, |program, x| {
            let factors = rope.factors.map(|factors| program.weights.vector(factors));
            let rows = rotations.rows(rope, factors, &program.step.positions);
            let (kernels, threads) = (program.kernels, &program.threads);
            elementwise::rope(kernels, threads, kind, x, heads, head_dim, rope.dimensions, rows);
        });
        self.rotations = rotations;
    }

    fn gate(&mut self, activation: Activation, gate: Slot, up: Slot, out: Slot) {
        self.write(out, |program, out| {
            let (kernels, threads) = (program.kernels, &program.threads);
            let (gate, up) = (program.values(gate), program.values(up));
            match activation {
                Activation::Silu => elementwise::silu_mul(kernels, threads, gate, up, out),
                Activation::Gelu => elementwise::gelu_mul(kernels, threads, gate, up, out),
                other => elementwise::gate(kernels, threads, other, gate, up, out),
            }
        });
    }

    fn select(&mut self, x: Slot, out: Slot) {
        let columns = self.columns(x);
        self.write(out, |program, out| {
            let x = program.values(x);
            for (&row, target) in program.step.outputs.iter().zip(out.chunks_exact_mut(columns)) {
                target.copy_from_slice(&x[row * columns..(row + 1) * columns]);
            }
        });
    }
}

impl Program for CpuProgram {
    fn run(&mut self, step: &Step) -> Result<(), DeviceError> {
        self.step.clone_from(step);
        self.rotations.begin();
        self.size_buffers()?;
        let ops = Arc::clone(&self.ops);
        let end = if step.outputs.is_empty() { self.first_output_op } else { ops.len() };
        for op in &ops[..end] {
            self.execute(op);
        }
        Ok(())
    }

    fn output(&self) -> &[f32] {
        self.values(self.result)
    }

    fn allocate(&mut self, group: usize, page: PageId) -> Result<(), DeviceError> {
        self.state.allocate(group, page)
    }

    fn free(&mut self, group: usize, page: PageId) {
        self.state.free(group, page);
    }

    fn copy(&mut self, group: usize, from: PageId, to: PageId) {
        self.state.copy(group, from, to);
    }

    fn memory(&self) -> MemoryUse {
        let buffers = self.buffers.iter().map(|buffer| buffer.capacity() * size_of::<f32>()).sum::<usize>();
        MemoryUse {
            state_bytes: self.state.bytes(),
            scratch_bytes: (buffers + self.activations.bytes() + self.experts_scratch.bytes()) as u64,
        }
    }
}
