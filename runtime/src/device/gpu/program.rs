//! A plan loaded on a GPU: memory that grows with the largest step, the calls over it, and a step's way there and back.

use std::ops::Range;
use std::sync::Arc;

use satchel_gpu::attention::{SPLIT_ROWS, segments};
use satchel_gpu::measure::choose_shapes;
use satchel_gpu::{Call, Gpu, GpuError};

use super::prepare::Preparing;
use super::state::State;
use super::step;
use super::weights::Weights;
use crate::device::cpu::{Rotations, check_rotations};
use crate::device::{DeviceError, MappedPart, MemoryUse, Program};
use crate::plan::{BLOCK_TOKENS, BufferShape, Op, PageId, Plan, Rope, RowInput, Rows, Slot, SlotShape, Step, Weight};

/// Tokens of a step from which on products may have a prompt's shape.
const TOGETHER: usize = 8;

/// The first operation, which the CPU does.
#[derive(Clone, Copy)]
struct Embedding {
    table: Weight,
    scale: f32,
    out: Slot,
}

/// A plan loaded on a GPU.
pub(super) struct GpuProgram {
    gpu: Arc<Gpu>,
    weights: Weights,
    state: State,
    groups: usize,
    ops: Vec<Op>,
    slots: Vec<SlotShape>,
    shapes: Vec<BufferShape>,
    /// Index in `ops` of the first operation that has a row only for each wanted row.
    first_output_op: usize,
    embedding: Option<Embedding>,
    result: Slot,
    /// Columns of the widest product of block types.
    quantized_columns: usize,
    rotations: Rotations,
    memory: Option<Memory>,
    logits: Vec<f32>,
}

/// What depends on the size of steps.
struct Memory {
    /// Rows, wanted rows, and words of a step, for which there is room.
    tokens: usize,
    wanted: usize,
    words: usize,
    buffers: Vec<satchel_gpu::Buffer>,
    quantized: satchel_gpu::Buffer,
    step: satchel_gpu::Buffer,
    angles: Vec<(Rope, satchel_gpu::Buffer)>,
    calls: Vec<Call>,
    /// Of the calls, the first that has a row only for each wanted row.
    first_output_call: usize,
}

impl GpuProgram {
    pub(super) fn new(
        gpu: Arc<Gpu>,
        plan: &Plan,
        ops: Range<usize>,
        parts: &[MappedPart],
    ) -> Result<Self, DeviceError> {
        let weights = Weights::new(plan, parts);
        check_rotations(&plan.ops[ops.clone()], weights.mapped())?;
        let first_output_op = plan.first_output_op.clamp(ops.start, ops.end) - ops.start;
        let ops = plan.ops[ops].to_vec();
        let linear = ops.iter().filter_map(|op| match op {
            Op::Linear { x, .. } => Some(plan.slot(*x).columns),
            _ => None,
        });
        let quantized_columns = linear.max().unwrap_or(0);
        let embedding = ops.iter().find_map(|op| match *op {
            Op::Embed { table, scale, out } => Some(Embedding { table, scale, out }),
            _ => None,
        });
        let mut program = Self {
            state: State::new(&gpu, plan)?,
            gpu,
            weights,
            groups: plan.state.groups.len(),
            ops,
            slots: plan.slots.clone(),
            shapes: plan.buffers.clone(),
            first_output_op,
            embedding,
            result: plan.head.slot(),
            quantized_columns,
            rotations: Rotations::default(),
            memory: None,
            logits: Vec::new(),
        };
        // Weights go up now, not with the first step.
        program.memory = Some(program.prepare(1, 1, 256)?);
        Ok(program)
    }

    /// Memory and calls for steps of up to so many rows, wanted rows and words.
    fn prepare(&mut self, tokens: usize, wanted: usize, words: usize) -> Result<Memory, GpuError> {
        let gpu = Arc::clone(&self.gpu);
        let buffers = self.shapes.iter().map(|shape| {
            let rows = if shape.rows == Rows::Tokens { tokens } else { wanted };
            gpu.buffer("activations", (4 * rows * shape.columns) as u64)
        });
        let buffers = buffers.collect::<Result<Vec<_>, _>>()?;
        let quantized_bytes = 48 * tokens.max(wanted) * self.quantized_columns.div_ceil(32);
        let quantized = gpu.buffer("activations", quantized_bytes as u64)?;
        let step = gpu.buffer("a step", 4 * words as u64)?;
        let mut angles: Vec<(Rope, satchel_gpu::Buffer)> = Vec::new();
        for op in &self.ops {
            if let Op::Rope { rope, .. } = op
                && !angles.iter().any(|(known, _)| known == rope)
            {
                angles.push((rope.clone(), gpu.buffer("angles", (4 * tokens * rope.dimensions) as u64)?));
            }
        }
        let split = self.split()?;
        let mut preparing = Preparing {
            gpu: &gpu,
            weights: &mut self.weights,
            state: &self.state,
            slots: &self.slots,
            buffers: &buffers,
            step: &step,
            quantized: &quantized,
            quantized_slot: None,
            split: split.as_ref().map(|(buffer, segments)| (buffer, *segments)),
            angles: &angles,
            calls: Vec::new(),
        };
        let mut first_output_call = 0;
        let mut at = 0;
        while at < self.ops.len() {
            if at == self.first_output_op {
                first_output_call = preparing.calls.len();
            }
            at += preparing.add_fused(&self.ops, at)?;
        }
        if self.first_output_op >= self.ops.len() {
            first_output_call = preparing.calls.len();
        }
        let calls = preparing.calls;
        Ok(Memory { tokens, wanted, words, buffers, quantized, step, angles, calls, first_output_call })
    }

    /// Memory for attention that is split over the context, and the segments of a row's head for which there is room: those of all
    /// pages, and what a window that has just begun another touches. None if it is more than a buffer of this GPU holds.
    fn split(&self) -> Result<Option<(satchel_gpu::Buffer, usize)>, GpuError> {
        let segments = segments(self.state.most_pages() * BLOCK_TOKENS) + 2;
        let floats = self.ops.iter().filter_map(|op| match op {
            Op::Attend { shape, .. } => Some(SPLIT_ROWS * shape.heads * segments * (shape.value_dim + 2)),
            _ => None,
        });
        let bytes = 4 * floats.max().unwrap_or(0) as u64;
        if bytes == 0 || bytes > self.gpu.binding_bytes() {
            return Ok(None);
        }
        Ok(Some((self.gpu.buffer("attention", bytes)?, segments)))
    }

    /// Memory that a step fits in.
    fn sized(&mut self, tokens: usize, wanted: usize, words: usize) -> Result<Memory, GpuError> {
        match self.memory.take() {
            Some(memory) if tokens <= memory.tokens && wanted <= memory.wanted && words <= memory.words => Ok(memory),
            before => {
                let most = |now: usize, before: Option<usize>| now.max(before.unwrap_or(0));
                let tokens = most(tokens, before.as_ref().map(|memory| memory.tokens));
                let wanted = most(wanted, before.as_ref().map(|memory| memory.wanted));
                // Lists of pages grow with every page.
                let words = most(2 * words, before.as_ref().map(|memory| memory.words));
                // Freed before there is more.
                drop(before);
                self.prepare(tokens, wanted, words)
            }
        }
    }

    /// Writes what the CPU computes of a step: its words, the rows' embeddings, the angles of rotations.
    fn write(&mut self, step: &Step, words: &[u32], memory: &Memory) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.gpu.write(&memory.step, 0, &bytes);
        if let Some(Embedding { table, scale, out }) = self.embedding {
            let columns = self.slots[out.0].columns;
            let mut rows = vec![0.0; step.len() * columns];
            for (input, row) in step.inputs.iter().zip(rows.chunks_exact_mut(columns)) {
                match input {
                    RowInput::Token(token) => {
                        self.weights.mapped().row(table, *token as usize, row);
                        row.iter_mut().for_each(|value| *value *= scale);
                    }
                    RowInput::Embedding(embedding) if embedding.len() == columns => row.copy_from_slice(embedding),
                    // Zeros, as on the CPU.
                    RowInput::Embedding(_) => {}
                }
            }
            self.gpu.write(&memory.buffers[self.slots[out.0].buffer], 0, &bytes_of(&rows));
        }
        self.rotations.begin();
        for (rope, buffer) in &memory.angles {
            let factors = rope.factors.map(|factors| self.weights.mapped().vector(factors));
            let rows = self.rotations.rows(rope, factors, &step.positions);
            self.gpu.write(buffer, 0, &bytes_of(rows));
        }
    }
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

impl Program for GpuProgram {
    fn run(&mut self, step: &Step) -> Result<(), DeviceError> {
        let words = step::words(step, self.groups);
        let memory = self.sized(step.len(), step.outputs.len(), words.len())?;
        if step.len() > TOGETHER && self.weights.has_blocks() {
            choose_shapes(&self.gpu)?;
        }
        self.write(step, &words, &memory);
        let wanted = step.outputs.len();
        let end = if wanted == 0 { memory.first_output_call } else { memory.calls.len() };
        let result = self.slots[self.result.0];
        let seen = step.positions.iter().max().map_or(0, |position| position + 1);
        let read = (wanted > 0).then(|| (&memory.buffers[result.buffer], 4 * wanted * result.columns));
        let bytes = self.gpu.run_seeing(memory.calls[..end].iter(), step.len(), wanted, seen, read)?;
        self.logits.clear();
        self.logits.extend(bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)));
        self.memory = Some(memory);
        Ok(())
    }

    fn output(&self) -> &[f32] {
        &self.logits
    }

    fn allocate(&mut self, group: usize, page: PageId) -> Result<(), DeviceError> {
        if self.state.allocate(&self.gpu, group, page)?
            && let Some(memory) = self.memory.take()
        {
            // Calls are bound to the buffers that were.
            let (tokens, wanted, words) = (memory.tokens, memory.wanted, memory.words);
            drop(memory);
            self.memory = Some(self.prepare(tokens, wanted, words)?);
        }
        Ok(())
    }

    fn free(&mut self, _group: usize, _page: PageId) {
        // Its place is the next page's of this number.
    }

    fn copy(&mut self, group: usize, from: PageId, to: PageId) {
        // A driver's failure is reported by the next step.
        let _ = self.state.copy(&self.gpu, group, from, to);
    }

    fn memory(&self) -> MemoryUse {
        let memory = self.memory.as_ref();
        let buffers = memory.iter().flat_map(|memory| memory.buffers.iter().chain([&memory.quantized, &memory.step]));
        let scratch_bytes = self.weights.bytes() + buffers.map(satchel_gpu::Buffer::size).sum::<u64>();
        MemoryUse { state_bytes: self.state.bytes(), scratch_bytes }
    }
}
