//! A plan loaded on a GPU: memory that grows with the largest step, the calls over it, and a step's way there and back.

use std::ops::Range;
use std::sync::Arc;

use satchel_gpu::attention::{SPLIT_ROWS, segments};
use satchel_gpu::measure::choose_shapes;
use satchel_gpu::pick::Picking;
use satchel_gpu::{Call, Extent, Gpu, GpuError};

use super::ahead::Ahead;
use super::lookup::{Lookup, lookups};
use super::packed::Packed;
use super::prepare::{PairBuffers, PairSizes, Preparing};
use super::state::State;
use super::step;
use super::weights::Weights;
use super::{picking, place}; //
use crate::device::cpu::{Rotations, adapters_of, check_positions, check_rotations, learned_positions};
use crate::device::{Crossing, DeviceError, MappedPart, MemoryUse, PickLimits, Picked, Program, Wish};
use crate::kernels::threads::Threads;
use crate::plan::{
    AdapterSet, BLOCK_TOKENS, BufferShape, Head, Op, PageId, Plan, Rope, RowInput, Rows, Slot, SlotShape, Step, Weight,
};

/// Tokens of a step from which on products may have a prompt's shape.
const TOGETHER: usize = 8;

/// A plan loaded on a GPU.
pub(super) struct GpuProgram {
    pub(super) gpu: Arc<Gpu>,
    weights: Weights,
    packed: Packed,
    state: State,
    pub(super) groups: usize,
    ops: Vec<Op>,
    /// The adapter that each operation belongs to.
    adapters: Vec<Option<usize>>,
    lookups: Vec<Lookup>,
    /// Number of positions, if they are learned.
    learned_positions: Option<usize>,
    pair_sizes: PairSizes,
    pub(super) slots: Vec<SlotShape>,
    shapes: Vec<BufferShape>,
    /// Index in `ops` of the first operation that has a row only for each wanted row.
    first_output_op: usize,
    /// The model's result, if it is made here.
    pub(super) result: Option<Slot>,
    /// Whether it is logits.
    gives_logits: bool,
    /// The token table or the matrix that has its rows, if rows are looked up on the GPU.
    pub(super) table: Option<Weight>,
    /// A step that was begun before it was asked for.
    pub(super) ahead: Option<Ahead>,
    /// Columns of the widest product of block types.
    quantized_columns: usize,
    rotations: Rotations,
    pub(super) memory: Option<Memory>,
    logits: Vec<f32>,
}

/// What depends on the size of steps.
pub(super) struct Memory {
    /// Rows, wanted rows, and words of a step, for which there is room.
    tokens: usize,
    wanted: usize,
    words: usize,
    pub(super) buffers: Vec<satchel_gpu::Buffer>,
    quantized: satchel_gpu::Buffer,
    pub(super) step: satchel_gpu::Buffer,
    /// The rows' tokens.
    pub(super) tokens_buffer: satchel_gpu::Buffer,
    angles: Vec<(Rope, satchel_gpu::Buffer)>,
    pairs: PairBuffers,
    lookups: Vec<(Lookup, satchel_gpu::Buffer)>,
    calls: Vec<Call>,
    /// Of the calls, those that belong to an adapter.
    adapted: Vec<(Range<usize>, usize)>,
    /// Of the calls, the first that has a row only for each wanted row.
    first_output_call: usize,
    /// Calls behind them that pick tokens, once that was asked for.
    pub(super) picking: Option<Picking>,
}

impl Memory {
    /// The calls of a step: without those of adapters that it does not use, and of what is only for wanted rows if there are none.
    pub(super) fn calls_for<'m>(&'m self, step: &Step) -> impl Iterator<Item = &'m Call> {
        let used = adapters_in_use(step);
        let idle: Vec<_> = self.adapted.iter().filter(|(_, adapter)| !used.has(*adapter)).collect();
        let end = if step.outputs.is_empty() { self.first_output_call } else { self.calls.len() };
        let calls = self.calls[..end].iter().enumerate();
        calls.filter(move |(at, _)| !idle.iter().any(|(calls, _)| calls.contains(at))).map(|(_, call)| call)
    }
}

impl GpuProgram {
    pub(super) fn new(
        gpu: Arc<Gpu>,
        plan: &Plan,
        ops: Range<usize>,
        parts: &[MappedPart],
        tell: &(dyn Fn(f64) + Send + Sync),
    ) -> Result<Self, DeviceError> {
        let weights = Weights::new(plan, parts);
        check_rotations(&plan.ops[ops.clone()], weights.mapped())?;
        let first_output_op = plan.first_output_op.clamp(ops.start, ops.end) - ops.start;
        let table = place::table_of(plan, &ops);
        let (is_start, adapters) = (ops.start == 0, adapters_of(plan, ops.clone()));
        let ops = plan.ops[ops].to_vec();
        let lookups = lookups(&ops, &adapters, &plan.slots, is_start);
        let pair_sizes = PairSizes::of(&ops, &plan.slots, |weight| {
            let facts = weights.mapped().facts(weight);
            (facts.rows, facts.columns, facts.stack)
        });
        let linear = ops.iter().filter_map(|op| match op {
            Op::Linear { x, .. } => Some(plan.slot(*x).columns),
            _ => None,
        });
        let quantized_columns = linear.max().unwrap_or(0).max(pair_sizes.quantized);
        let result = Some(plan.head.slot()).filter(|head| ops.iter().flat_map(Op::writes).any(|slot| slot == *head));
        let mut program = Self {
            state: State::new(&gpu, plan)?,
            gpu,
            weights,
            packed: Packed::default(),
            groups: plan.state.groups.len(),
            ops,
            adapters,
            lookups,
            learned_positions: learned_positions(plan),
            pair_sizes,
            slots: plan.slots.clone(),
            shapes: plan.buffers.clone(),
            first_output_op,
            result,
            gives_logits: result.is_some() && matches!(plan.head, Head::Logits(_)),
            table,
            ahead: None,
            quantized_columns,
            rotations: Rotations::default(),
            memory: None,
            logits: Vec::new(),
        };
        let memory = program.prepare(1, 1, 256)?;
        // Weights go up and pipelines are compiled now, not with the first step.
        let gpu = Arc::clone(&program.gpu);
        std::thread::scope(|scope| {
            let compiling = scope.spawn(|| gpu.compile(&memory.calls));
            let sent = program.weights.send(&gpu, tell);
            compiling.join().map_err(|_| DeviceError::Failed("a shader cannot be compiled".to_owned()))?;
            sent.and_then(|()| gpu.check()).map_err(DeviceError::from)
        })?;
        program.memory = Some(memory);
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
        let tokens_buffer = gpu.buffer("a step", 4 * tokens as u64)?;
        let pairs = PairBuffers::new(&gpu, self.pair_sizes, tokens.max(wanted))?;
        let lookups = self.lookups.iter().map(|lookup| Ok((*lookup, lookup.buffer(&gpu, tokens)?)));
        let lookups = lookups.collect::<Result<Vec<_>, GpuError>>()?;
        let split = self.split()?;
        let mut preparing = Preparing {
            gpu: &gpu,
            weights: &mut self.weights,
            packed: &mut self.packed,
            pairs: &pairs,
            table: self.table.map(|table| (table, &tokens_buffer)),
            lookups: &lookups,
            adapted: Vec::new(),
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
            let begin = preparing.calls.len();
            let count = preparing.add_fused(&self.ops, &self.adapters, at)?;
            if let Some(adapter) = self.adapters[at] {
                preparing.adapted.push((begin..preparing.calls.len(), adapter));
            }
            at += count;
        }
        if self.first_output_op >= self.ops.len() {
            first_output_call = preparing.calls.len();
        }
        let (calls, adapted) = (preparing.calls, preparing.adapted);
        Ok(Memory {
            tokens,
            wanted,
            words,
            buffers,
            quantized,
            step,
            tokens_buffer,
            angles,
            pairs,
            lookups,
            calls,
            adapted,
            first_output_call,
            picking: None,
        })
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

    /// Memory for a step, with what the CPU computes of it.
    pub(super) fn ready(&mut self, step: &Step) -> Result<Memory, DeviceError> {
        check_positions(step, self.learned_positions)?;
        let words = step::words(step, self.extent(step), self.groups);
        let memory = self.sized(step.len(), step.outputs.len(), words.len())?;
        if self.extent(step).lanes > TOGETHER {
            for is_plain in [false, true].into_iter().filter(|is_plain| self.weights.has(*is_plain)) {
                choose_shapes(&self.gpu, is_plain)?;
            }
        }
        self.write(step, &words, &memory);
        Ok(memory)
    }

    /// A step's size.
    pub(super) fn extent(&self, step: &Step) -> Extent {
        step::extent(step, self.gpu.matrices().is_some())
    }

    /// Keeps a result that was read.
    pub(super) fn take_logits(&mut self, bytes: &[u8]) {
        self.logits.clear();
        self.logits.extend(floats(bytes));
    }

    /// Writes what the CPU computes of a step: its words, the rows' embeddings, the angles of rotations.
    pub(super) fn write(&mut self, step: &Step, words: &[u32], memory: &Memory) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.gpu.write(&memory.step, 0, &bytes);
        let used = adapters_in_use(step);
        for (lookup, own) in &memory.lookups {
            if lookup.direct && self.table.is_some() {
                let tokens: Vec<u32> = step.inputs.iter().map(token_of).collect();
                let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
                self.gpu.write(&memory.tokens_buffer, 0, &bytes);
                if tokens.iter().all(|token| *token != NO_TOKEN) {
                    continue;
                }
            }
            if lookup.adapter.is_none_or(|adapter| used.has(adapter)) {
                let to = if lookup.direct { &memory.buffers[self.slots[lookup.slot.0].buffer] } else { own };
                lookup.write(&self.gpu, self.weights.mapped(), step, to);
            }
        }
        self.rotations.begin();
        // A step on a GPU has no pool; its angles take one thread a fraction of a millisecond.
        let alone = Threads::new(1);
        for (rope, buffer) in &memory.angles {
            let factors = rope.factors.map(|factors| self.weights.mapped().vector(factors));
            let rows = self.rotations.rows(&alone, rope, factors, &step.positions);
            self.gpu.write(buffer, 0, &bytes_of(rows));
        }
    }
}

/// Stands for a row that is no token's.
const NO_TOKEN: u32 = u32::MAX;

fn token_of(input: &RowInput) -> u32 {
    match input {
        RowInput::Token(token) => *token,
        RowInput::Embedding(_) => NO_TOKEN,
    }
}

/// The adapters that any sequence of a step uses.
fn adapters_in_use(step: &Step) -> AdapterSet {
    step.adapters.iter().fold(AdapterSet::default(), |all, set| all.with(*set))
}

pub(super) fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word))
}

impl Program for GpuProgram {
    fn run(&mut self, step: &Step) -> Result<(), DeviceError> {
        self.run_between(step, &[], &[]).map(|_| ())
    }

    fn run_between(
        &mut self,
        step: &Step,
        entering: &[Crossing],
        leaving: &[Slot],
    ) -> Result<Vec<Crossing>, DeviceError> {
        self.ahead = None;
        let memory = self.ready(step)?;
        for (slot, values) in entering {
            self.gpu.write(&memory.buffers[self.slots[slot.0].buffer], 0, &bytes_of(values));
        }
        let wanted = step.outputs.len();
        let result = self.result.filter(|_| wanted > 0).map(|result| self.slots[result.0]);
        let read = result.map(|result| (&memory.buffers[result.buffer], 4 * wanted * result.columns));
        let bytes = self.gpu.run_step(memory.calls_for(step), self.extent(step), read)?;
        self.take_logits(&bytes);
        let mut crossing = Vec::new();
        for slot in leaving {
            let SlotShape { columns, rows, buffer } = self.slots[slot.0];
            let rows = if rows == Rows::Tokens { step.len() } else { wanted };
            let bytes = self.gpu.read_back(&memory.buffers[buffer], 4 * rows * columns)?;
            crossing.push((*slot, floats(&bytes).collect()));
        }
        self.memory = Some(memory);
        Ok(crossing)
    }

    fn pick_limits(&self) -> PickLimits {
        if self.gives_logits { picking::LIMITS } else { PickLimits::default() }
    }

    fn run_picking(&mut self, step: &Step, wishes: &[Wish]) -> Result<Option<Vec<Picked>>, DeviceError> {
        self.pick(step, wishes)
    }

    fn output(&self) -> &[f32] {
        &self.logits
    }

    fn allocate(&mut self, group: usize, page: PageId) -> Result<(), DeviceError> {
        self.ahead = None;
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
        self.ahead = None;
        // A driver's failure is reported by the next step.
        let _ = self.state.copy(&self.gpu, group, from, to);
    }

    fn memory(&self) -> MemoryUse {
        let memory = self.memory.as_ref();
        let buffers = memory.iter().flat_map(|memory| memory.buffers.iter().chain([&memory.quantized, &memory.step]));
        let buffers = buffers.chain(memory.iter().flat_map(|memory| memory.pairs.all()));
        let scratch_bytes =
            self.weights.bytes() + self.packed.bytes() + buffers.map(satchel_gpu::Buffer::size).sum::<u64>();
        let picking = memory.and_then(|memory| memory.picking.as_ref()).map_or(0, Picking::bytes);
        MemoryUse { state_bytes: self.state.bytes(), scratch_bytes: scratch_bytes + picking }
    }
}
