//! A loaded plan: its buffers, and the dispatch of each operation to the kernels.

use std::ops::Range;
use std::sync::Arc;

use super::check;
use super::recur::Convolving;
use super::rotation::Rotations;
use super::state::{State, zeros};
use super::weights::Weights;
use crate::device::{Crossing, DeviceError, MappedPart, MemoryUse, PickLimits, Program};
use crate::kernels::experts::ExpertsBuffers;
use crate::kernels::matmul::{Activations, Tokens};
use crate::kernels::threads::Threads;
use crate::kernels::{Kernels, elementwise};
use crate::plan::{AdapterSet, CacheTypes, Op, PageId, Plan, Rows, Slot, SlotShape, Step};

/// A plan loaded on the CPU.
pub(super) struct CpuProgram {
    pub(super) kernels: &'static Kernels,
    pub(super) threads: Arc<Threads>,
    pub(super) weights: Weights,
    pub(super) state: State,
    pub(super) activations: Activations,
    pub(super) step: Step,
    pub(super) experts_scratch: ExpertsBuffers,
    /// For heads that are each multiplied by their own matrix.
    pub(super) head_activations: Vec<Activations>,
    pub(super) rotations: Rotations,
    /// Copies of queries or keys, and of values, transformed for a quantised cache.
    pub(super) turned: [Vec<f32>; 2],
    /// Number of positions, if they are learned.
    learned_positions: Option<usize>,
    ops: Arc<[Op]>,
    /// The adapter that each operation belongs to.
    adapters: Arc<[Option<usize>]>,
    /// Index in `ops` of the first operation that has a row only for each wanted row.
    first_output_op: usize,
    slots: Vec<SlotShape>,
    /// Per slot, columns and kind of rows.
    shapes: Vec<(usize, Rows)>,
    /// At least as long as the step needs; the rest is left over from earlier steps.
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
        let weights = Weights::new(&plan.weights, parts);
        check::rotations(&plan.ops[ops.clone()], &weights)?;
        Ok(Self {
            kernels,
            threads,
            weights,
            learned_positions: check::learned_positions(plan),
            state: State::new(&plan.state, cache)?,
            activations: Activations::new(),
            step: Step::default(),
            experts_scratch: ExpertsBuffers::new(),
            head_activations: Vec::new(),
            rotations: Rotations::default(),
            turned: Default::default(),
            first_output_op: plan.first_output_op.clamp(ops.start, ops.end) - ops.start,
            adapters: check::adapters_of(plan, ops.clone()).into(),
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

    /// What has a row in a slot.
    pub(super) fn slot_rows(&self, slot: Slot) -> Rows {
        self.slots[slot.0].rows
    }

    /// Rows of a slot in this step.
    pub(super) fn rows(&self, slot: Slot) -> usize {
        self.rows_of(self.slots[slot.0].rows)
    }

    /// Rows of a slot as products tell them apart. Wanted rows count as answers', whose kernels read weights in place: of a prompt
    /// one is wanted, and the vocabulary is large.
    pub(super) fn tokens(&self, slot: Slot) -> Tokens {
        let rows = self.rows(slot);
        let answers = if self.slot_rows(slot) == Rows::Tokens { self.step.answers } else { rows };
        Tokens { answers, prompts: rows - answers }
    }

    /// Columns of a slot.
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

    /// Takes a slot's memory out for writing; it may be longer than the slot.
    pub(super) fn take(&mut self, slot: Slot) -> Vec<f32> {
        std::mem::take(&mut self.buffers[self.slots[slot.0].buffer])
    }

    /// Puts back what [`Self::take`] took out.
    pub(super) fn put(&mut self, slot: Slot, buffer: Vec<f32>) {
        self.buffers[self.slots[slot.0].buffer] = buffer;
    }

    /// Calls `work` with mutable access to `slot` and read access to everything else.
    pub(super) fn write(&mut self, slot: Slot, work: impl FnOnce(&mut Self, &mut [f32])) {
        let mut buffer = self.take(slot);
        let count = self.elements(slot);
        work(self, &mut buffer[..count]);
        self.put(slot, buffer);
    }

    /// The same for ranges of rows of `slot`, on any thread; a row costs about as much as `cost` sums.
    pub(super) fn write_rows(
        &mut self,
        slot: Slot,
        cost: usize,
        work: impl Fn(&Self, Range<usize>, &mut [f32]) + Sync,
    ) {
        let columns = self.columns(slot);
        self.write(slot, |program, rows| {
            let program = &*program;
            elementwise::for_rows(&program.threads, rows, columns, cost, &|range, rows| work(program, range, rows));
        });
    }

    /// Grows the buffers to fit the step.
    fn size_buffers(&mut self) -> Result<(), DeviceError> {
        for at in 0..self.buffers.len() {
            let (columns, rows) = self.shapes[at];
            let count = columns * self.rows_of(rows);
            if self.buffers[at].len() < count {
                // Its contents are no longer needed: free before allocating.
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
            Op::Join { x, y, heads, out } => self.join(*x, *y, *heads, *out),
            Op::Activate { activation, x, out } => self.activate(*activation, *x, *out),
            Op::Gate { activation, gate, up, out } => self.gate(*activation, *gate, *up, *out),
            Op::Add { x, to } => self.add(*x, *to),
            Op::Multiply { x, to, width } => self.multiply(*x, *to, *width),
            Op::MultiplyVector { vector, to, width } => self.multiply_vector(*vector, *to, *width),
            Op::DivideVector { vector, to } => self.divide_vector(*vector, *to),
            Op::Scale { x, factor } => self.scale(*x, *factor),
            Op::Adapt { x, adapter, scale } => self.adapt(*x, *adapter, *scale),
            Op::Softcap { x, cap } => self.softcap(*x, *cap),
            Op::Clamp { x, limit } => self.clamp(*x, *limit),
            Op::Select { x, out } => self.select(*x, *out),
            Op::Pool { pooling, x, out } => self.pool(*pooling, *x, *out),
        }
    }
}

impl CpuProgram {
    /// Makes room for a step and checks it.
    fn begin(&mut self, step: &Step) -> Result<(), DeviceError> {
        check::positions(step, self.learned_positions)?;
        self.step.clone_from(step);
        self.rotations.begin();
        self.size_buffers()
    }

    fn execute_all(&mut self, step: &Step) {
        let ops = Arc::clone(&self.ops);
        let end = if step.outputs.is_empty() { self.first_output_op } else { ops.len() };
        let adapters = Arc::clone(&self.adapters);
        let used = step.adapters.iter().fold(AdapterSet::default(), |all, set| all.with(*set));
        for (op, adapter) in ops[..end].iter().zip(&*adapters) {
            if adapter.is_none_or(|adapter| used.has(adapter)) {
                self.execute(op);
            }
        }
    }
}

impl Program for CpuProgram {
    fn run(&mut self, step: &Step) -> Result<(), DeviceError> {
        self.run_between(step, &[], &[]).map(|_| ())
    }

    fn run_between(
        &mut self,
        step: &Step,
        entering: &[Crossing],
        leaving: &[Slot],
    ) -> Result<Vec<Crossing>, DeviceError> {
        self.begin(step)?;
        for (slot, values) in entering {
            self.write(*slot, |_, out| out.copy_from_slice(values));
        }
        self.execute_all(step);
        Ok(leaving.iter().map(|slot| (*slot, self.values(*slot).to_vec())).collect())
    }

    fn pick_limits(&self) -> PickLimits {
        // All logits are in memory anyway.
        PickLimits::default()
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

    fn gives_pages(&self) -> bool {
        true
    }

    fn read_page(&self, group: usize, page: PageId, out: &mut Vec<u8>) -> Result<(), DeviceError> {
        self.state.read_page(group, page, out);
        Ok(())
    }

    fn write_page(&mut self, group: usize, page: PageId, contents: &[u8]) -> Result<(), DeviceError> {
        match self.state.write_page(group, page, contents) {
            true => Ok(()),
            false => Err(DeviceError::Unsupported("a page of another size".to_owned())),
        }
    }

    fn memory(&self) -> MemoryUse {
        let buffers = self.buffers.iter().map(|buffer| buffer.capacity() * size_of::<f32>()).sum::<usize>();
        let turned = self.turned.iter().map(|copy| copy.capacity() * size_of::<f32>()).sum::<usize>();
        MemoryUse {
            state_bytes: self.state.bytes(),
            scratch_bytes: (buffers + turned + self.activations.bytes() + self.experts_scratch.bytes()) as u64,
        }
    }
}
