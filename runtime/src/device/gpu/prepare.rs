//! A plan's operations as calls of shaders: which shader, its parameters, its buffers.

use std::ops::Range;

use satchel_gpu::attention::{Output, When};
use satchel_gpu::call::{Product, Words};
use satchel_gpu::{Call, Embedding, Function, Gpu, GpuError, Grid, Kernel, Norm};

use super::lookup::Lookup;
use super::packed::{Joined, Packed};
use super::state::State;
use super::weights::Weights;
use crate::plan::{self, NormKind, Op, Recurrence, Rope, RopePairs, Rows, Slot, SlotShape, Weight, Window};

mod experts;
mod recurrent;

pub(super) use experts::{PairBuffers, PairSizes};

/// What calls are made of.
pub(super) struct Preparing<'a> {
    pub(super) gpu: &'a Gpu,
    pub(super) weights: &'a mut Weights,
    pub(super) packed: &'a mut Packed,
    pub(super) state: &'a State,
    pub(super) slots: &'a [SlotShape],
    /// The slots' memory.
    pub(super) buffers: &'a [satchel_gpu::Buffer],
    pub(super) step: &'a satchel_gpu::Buffer,
    /// Activations as int8, of one product at a time.
    pub(super) quantized: &'a satchel_gpu::Buffer,
    /// The slot whose values these are already, for the operation that is prepared.
    pub(super) quantized_slot: Option<Slot>,
    /// Sums of attention that is split over the context, and the segments of a row's head for which there is room.
    pub(super) split: Option<(&'a satchel_gpu::Buffer, usize)>,
    /// Cosines and sines of each rotation.
    pub(super) angles: &'a [(Rope, satchel_gpu::Buffer)],
    /// Memory between the products of experts.
    pub(super) pairs: &'a PairBuffers,
    /// What the CPU looks up, with its memory, of the operations that follow.
    pub(super) lookups: &'a [(Lookup, satchel_gpu::Buffer)],
    /// The token table, if it is there, and the rows' tokens.
    pub(super) table: Option<(Weight, &'a satchel_gpu::Buffer)>,
    pub(super) calls: Vec<Call>,
    /// Of the calls, those that belong to an adapter.
    pub(super) adapted: Vec<(Range<usize>, usize)>,
}

impl Preparing<'_> {
    /// A slot's memory.
    pub(super) fn buffer(&self, slot: Slot) -> &satchel_gpu::Buffer {
        &self.buffers[self.slots[slot.0].buffer]
    }

    pub(super) fn columns(&self, slot: Slot) -> usize {
        self.slots[slot.0].columns
    }

    pub(super) fn wanted_only(&self, slot: Slot) -> bool {
        self.slots[slot.0].rows == Rows::Outputs
    }

    /// Sends the weights of an operation, so that they can be read while calls are made.
    pub(super) fn send(&mut self, op: &Op) -> Result<(), GpuError> {
        let mut vectors: Vec<Weight> = Vec::new();
        let mapped = self.weights.mapped();
        match op {
            Op::Bias { vector, .. } | Op::MultiplyVector { vector, .. } | Op::DivideVector { vector, .. } => {
                vectors.push(*vector);
            }
            Op::Norm { norm, .. } => vectors.extend([norm.weight, norm.bias].into_iter().flatten()),
            Op::Attend { shape, .. } => {
                vectors.extend(shape.sinks);
                Joined::of(shape).map_or(Ok(()), |slopes| self.packed.send(self.gpu, mapped, slopes))?;
            }
            Op::Embed { .. } => {
                if let Some((table, _)) = self.table {
                    self.weights.send_matrix(self.gpu, table)?;
                }
            }
            Op::LinearHeads { weight, .. } => self.packed.send_stack(self.gpu, mapped, *weight)?,
            Op::Route { router, .. } => vectors.extend(router.bias),
            Op::Experts { experts, .. } => {
                for stack in experts.stacks() {
                    self.packed.send_stack(self.gpu, mapped, stack)?;
                }
                let of = experts;
                let biases = [of.gate_bias, of.up_bias, of.down_bias];
                vectors.extend(biases.into_iter().chain([of.gate_factor, of.up_factor, of.down_factor]).flatten());
            }
            Op::Convolve { weight, bias, .. } => vectors.extend([Some(*weight), *bias].into_iter().flatten()),
            Op::Recur { recurrence: Recurrence::Mamba { a, d, .. } | Recurrence::Mamba2 { a, d, .. }, .. } => {
                self.packed.send(self.gpu, mapped, Joined::Two(*a, *d))?;
            }
            Op::Linear { products, .. } => {
                for product in products {
                    self.weights.send_matrix(self.gpu, product.weight)?;
                    vectors.extend(product.bias);
                }
            }
            _ => {}
        }
        vectors.into_iter().try_for_each(|vector| self.weights.send_vector(self.gpu, vector))
    }

    /// Makes the calls of an operation that is covered.
    pub(super) fn add(&mut self, op: &Op) -> Result<(), GpuError> {
        self.send(op)?;
        match op {
            Op::Embed { out, .. } => self.looked_up(*out, false),
            Op::Position { x, .. } => self.looked_up(*x, true),
            Op::Norm { x, norm, out } => self.norm(*x, norm, *out),
            Op::Linear { x, products } => self.linear(*x, products),
            Op::Rope { x, rope, heads, first } => self.rope(*x, rope, *heads, *first),
            Op::Store { kept, key, value } => self.store(*kept, *key, *value),
            Op::Attend { kept, shape, query, out } => self.attend(*kept, shape, *query, *out, false),
            Op::Bias { vector, x } => self.elementwise(Kernel::Bias, *x, &[], Some(*vector), |words| words),
            Op::Activate { activation, x, out } => {
                self.elementwise(Kernel::Activate(Function::of(*activation)), *out, &[*x], None, |words| words)
            }
            Op::Gate { activation, gate, up, out } => {
                self.elementwise(Kernel::Gate(Function::of(*activation)), *out, &[*gate, *up], None, |words| words)
            }
            Op::Add { x, to } => self.elementwise(Kernel::Add, *to, &[*x], None, |words| words),
            Op::DivideVector { vector, to } => {
                self.elementwise(Kernel::DivideVector, *to, &[], Some(*vector), |words| words)
            }
            Op::Clamp { x, limit } => self.elementwise(Kernel::Clamp, *x, &[], None, |words| words.number(*limit)),
            Op::Temperature { x, scale, length, offset } => {
                let parameters = |words: Words| words.number(*scale).number(*length as f32).number(*offset);
                self.elementwise(Kernel::Temperature, *x, &[], None, parameters)
            }
            Op::Join { x, y, heads, out } => {
                let x_width = self.columns(*x) / heads;
                let y_width = self.columns(*out) / heads - x_width;
                let shared = self.columns(*y) == y_width;
                let parameters = |words: Words| words.count(*heads).count(x_width).count(y_width).flag(shared);
                self.elementwise(Kernel::Join, *out, &[*x, *y], None, parameters)
            }
            Op::Adapt { x, adapter, scale } => {
                self.elementwise(Kernel::Adapt, *x, &[], None, |words| words.count(*adapter).number(*scale))
            }
            Op::LinearHeads { x, weight, out } => self.linear_heads(*x, *weight, *out),
            Op::Route { scores, router, out } => self.route(*scores, router, *out),
            Op::Experts { x, routes, experts, out } => self.experts(*x, *routes, experts, *out),
            Op::Convolve { x, kept, kernel, weight, bias, activation, out } => {
                self.convolve(*x, *kept, *kernel, *weight, *bias, *activation, *out)
            }
            Op::Recur { kept, recurrence, out } => self.recur(*kept, recurrence, *out),
            Op::Multiply { x, to, width } => {
                self.elementwise(Kernel::Multiply, *to, &[*x], None, |words| words.count(*width))
            }
            Op::MultiplyVector { vector, to, width } => {
                self.elementwise(Kernel::MultiplyVector, *to, &[], Some(*vector), |words| words.count(*width))
            }
            Op::Scale { x, factor } => self.elementwise(Kernel::Scale, *x, &[], None, |words| words.number(*factor)),
            Op::Softcap { x, cap } => self.elementwise(Kernel::Softcap, *x, &[], None, |words| words.number(*cap)),
            Op::Select { x, out } => self.elementwise(Kernel::Select, *out, &[*x], None, |words| words),
            Op::Split { x, first, width, stride, out } => {
                let parameters = |words: Words| words.count(*first).count(*width).count(*stride);
                self.elementwise(Kernel::Split, *out, &[*x], None, parameters)
            }
            Op::Pool { .. } => Err(GpuError::Unusable("pooling has no shader".to_owned())),
        }
    }

    /// Rows that the CPU looked up: they are there, or are copied or added to what is.
    fn looked_up(&mut self, slot: Slot, add: bool) -> Result<(), GpuError> {
        let lookups = self.lookups;
        let ((lookup, buffer), rest) = lookups.split_first().expect("there is one for every such operation");
        self.lookups = rest;
        debug_assert_eq!(lookup.slot, slot);
        if lookup.direct {
            let Some((table, tokens)) = self.table else { return Ok(()) };
            let of = Embedding { step: self.step, tokens, scale: lookup.scale, out: self.buffer(slot) };
            let calls = self.gpu.embed(self.weights.matrix(table), &of)?;
            self.calls.extend(calls);
            return Ok(());
        }
        let columns = self.columns(slot);
        let words = Words::default().flag(false).count(columns);
        // All of every row.
        let words = if add { words } else { words.count(0).count(columns).count(columns) };
        let kernel = if add { Kernel::Add } else { Kernel::Split };
        let grid = Grid::Threads(columns);
        let call = self.gpu.call(kernel, false, grid, &words, self.step, &[buffer], &[self.buffer(slot)])?;
        self.calls.push(call);
        Ok(())
    }

    /// An operation with a thread for each element of `out`.
    fn elementwise(
        &mut self,
        kernel: Kernel,
        out: Slot,
        slots: &[Slot],
        vector: Option<Weight>,
        parameters: impl FnOnce(Words) -> Words,
    ) -> Result<(), GpuError> {
        let (wanted_only, columns) = (self.wanted_only(out), self.columns(out));
        let words = parameters(Words::default().flag(wanted_only).count(columns));
        let mut reads: Vec<_> = slots.iter().map(|slot| self.buffer(*slot)).collect();
        reads.extend(vector.map(|vector| self.weights.vector(vector)));
        let grid = Grid::Threads(columns);
        let call = self.gpu.call(kernel, wanted_only, grid, &words, self.step, &reads, &[self.buffer(out)])?;
        self.calls.push(call);
        Ok(())
    }

    fn norm(&mut self, x: Slot, norm: &plan::Norm, out: Slot) -> Result<(), GpuError> {
        let (wanted_only, columns) = (self.wanted_only(x), self.columns(x));
        let kind = norm_kind(norm.kind);
        let elements = |vector: Option<Weight>| vector.map_or(0, |vector| self.weights.elements(vector));
        let words = Words::default()
            .flag(wanted_only)
            .count(columns)
            .count(norm.width)
            .count(elements(norm.weight))
            .count(elements(norm.bias))
            .number(norm.epsilon);
        let vector = |vector: Option<Weight>| vector.map_or(self.step, |vector| self.weights.vector(vector));
        let reads = [self.buffer(x), vector(norm.weight), vector(norm.bias)];
        let grid = Grid::Workgroups(columns / norm.width);
        let call =
            self.gpu.call(Kernel::Norm(kind), wanted_only, grid, &words, self.step, &reads, &[self.buffer(out)])?;
        self.calls.push(call);
        Ok(())
    }

    fn linear(&mut self, x: Slot, products: &[plan::Product]) -> Result<(), GpuError> {
        let (wanted_only, columns) = (self.wanted_only(x), self.columns(x));
        let plain = |product: &plan::Product| self.weights.matrix(product.weight).form.is_plain();
        if self.quantized_slot != Some(x) && !products.iter().all(plain) {
            let words = Words::default().flag(wanted_only).count(columns);
            let grid = Grid::Threads(columns / 4);
            let (reads, writes) = ([self.buffer(x)], [self.quantized]);
            let call = self.gpu.call(Kernel::Quantize, wanted_only, grid, &words, self.step, &reads, &writes)?;
            self.calls.push(call);
        }
        let of = products.iter().map(|product| Product {
            step: self.step,
            x: if plain(product) { self.buffer(x) } else { self.quantized },
            bias: product.bias.map(|bias| self.weights.vector(bias)),
            nothing: self.step,
            out: self.buffer(product.out),
            wanted_only,
            add: product.add,
            factor: product.factor.map_or(1.0, |factor| self.weights.mapped().vector(factor.weight)[0]),
            factor_covers_bias: product.factor.is_some_and(|factor| factor.covers_bias),
        });
        let of: Vec<_> = of.collect();
        let matrices = products.iter().map(|product| self.weights.matrix(product.weight));
        let calls = self.gpu.products(&matrices.zip(&of).collect::<Vec<_>>())?;
        self.calls.extend(calls);
        Ok(())
    }

    /// The angles of a rotation.
    pub(super) fn angles_of(&self, rope: &Rope) -> &satchel_gpu::Buffer {
        let (_, angles) = self.angles.iter().find(|(known, _)| known == rope).expect("every rotation has its angles");
        angles
    }

    fn rope(&mut self, x: Slot, rope: &Rope, heads: usize, first: usize) -> Result<(), GpuError> {
        let pairs = rope.dimensions / 2;
        let words = Words::default()
            .count(self.columns(x))
            .count(heads)
            .count(first)
            .count(pairs)
            .flag(rope.pairs == RopePairs::Adjacent);
        let grid = Grid::Threads(heads * pairs);
        let call =
            self.gpu.call(Kernel::Rope, false, grid, &words, self.step, &[self.angles_of(rope)], &[self.buffer(x)])?;
        self.calls.push(call);
        Ok(())
    }

    fn store(&mut self, kept: plan::Kept, key: Slot, value: Slot) -> Result<(), GpuError> {
        let (key_columns, value_columns) = (self.columns(key), self.columns(value));
        let words = Words::default().count(kept.group).count(key_columns).count(value_columns);
        let (keys, values) = self.state.of(kept);
        let grid = Grid::Threads((key_columns + value_columns) / 2);
        let reads = [self.buffer(key), self.buffer(value)];
        let call = self.gpu.call(Kernel::Store, false, grid, &words, self.step, &reads, &[keys, values])?;
        self.calls.push(call);
        Ok(())
    }

    /// Attention in both ways, of which a step takes one: all of the context in a workgroup, or split over some and merged.
    pub(super) fn attend(
        &mut self,
        kept: plan::Kept,
        shape: &plan::Attention,
        query: Slot,
        out: Slot,
        quantize: bool,
    ) -> Result<(), GpuError> {
        let (kind, window) = match shape.window {
            None => (0, 0),
            Some(Window::Sliding(window)) => (1, window),
            Some(Window::Chunked(window)) => (2, window),
        };
        let words = Words::default()
            .count(kept.group)
            .count(shape.heads)
            .count(shape.kv_heads)
            .count(kind)
            .count(window)
            .flag(shape.sinks.is_some())
            .number(shape.scale)
            .number(shape.softcap.unwrap_or(0.0))
            .flag(shape.alibi.is_some())
            .count(self.split.map_or(1, |(_, segments)| segments));
        let (keys, values) = self.state.of(kept);
        let sinks = match Joined::of(shape) {
            Some(slopes) => self.packed.joined(slopes),
            None => shape.sinks.map_or(self.step, |sinks| self.weights.vector(sinks)),
        };
        let (key_dim, value_dim) = (shape.key_dim as u32, shape.value_dim as u32);
        let reads = [self.buffer(query), keys, values, sinks];
        let target = if quantize { self.quantized } else { self.buffer(out) };
        let call = |into: Output, target: &satchel_gpu::Buffer| {
            let kernel = Kernel::Attend { key_dim, value_dim, queries: 1, into };
            let grid = Grid::Attend { kv_heads: shape.kv_heads, group: shape.heads / shape.kv_heads };
            self.gpu.call(kernel, false, grid, &words, self.step, &reads, &[target])
        };
        let whole = call(if quantize { Output::Levels } else { Output::Values }, target)?;
        let Some((split, _)) = self.split else {
            self.calls.push(whole);
            return Ok(());
        };
        let parts = call(Output::Split, split)?;
        let kernel = Kernel::AttendMerge { value_dim, quantize };
        let grid = Grid::Workgroups(shape.heads);
        let merge = self.gpu.call(kernel, false, grid, &words, self.step, &[split, sinks], &[target])?;
        self.calls.push(whole.when(When::Whole(shape.heads)));
        self.calls.extend([parts, merge].map(|call| call.when(When::Split(shape.heads))));
        Ok(())
    }
}

/// What the shader of a norm computes.
pub(super) fn norm_kind(kind: NormKind) -> Norm {
    match kind {
        NormKind::Rms => Norm::Rms,
        NormKind::Layer => Norm::Layer,
        NormKind::L2 => Norm::L2,
    }
}
