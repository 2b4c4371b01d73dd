//! A plan's operations as calls of shaders: which shader, its parameters, its buffers.

use satchel_gpu::call::{Product, Words};
use satchel_gpu::{Call, Function, Gpu, GpuError, Grid, Kernel, Norm};

use super::state::State;
use super::weights::Weights;
use crate::plan::{self, NormKind, Op, Rope, RopePairs, Rows, Slot, SlotShape, Weight, Window};

/// What calls are made of.
pub(super) struct Preparing<'a> {
    pub(super) gpu: &'a Gpu,
    pub(super) weights: &'a mut Weights,
    pub(super) state: &'a State,
    pub(super) slots: &'a [SlotShape],
    /// The slots' memory.
    pub(super) buffers: &'a [satchel_gpu::Buffer],
    pub(super) step: &'a satchel_gpu::Buffer,
    /// Activations as int8, of one product at a time.
    pub(super) quantized: &'a satchel_gpu::Buffer,
    /// Cosines and sines of each rotation.
    pub(super) angles: &'a [(Rope, satchel_gpu::Buffer)],
    pub(super) calls: Vec<Call>,
}

impl Preparing<'_> {
    /// A slot's memory.
    fn buffer(&self, slot: Slot) -> &satchel_gpu::Buffer {
        &self.buffers[self.slots[slot.0].buffer]
    }

    fn columns(&self, slot: Slot) -> usize {
        self.slots[slot.0].columns
    }

    fn wanted_only(&self, slot: Slot) -> bool {
        self.slots[slot.0].rows == Rows::Outputs
    }

    /// Sends the weights of an operation, so that they can be read while calls are made.
    fn send(&mut self, op: &Op) -> Result<(), GpuError> {
        let mut vectors: Vec<Weight> = Vec::new();
        match op {
            Op::Bias { vector, .. } | Op::MultiplyVector { vector, .. } => vectors.push(*vector),
            Op::Norm { norm, .. } => vectors.extend([norm.weight, norm.bias].into_iter().flatten()),
            Op::Attend { shape, .. } => vectors.extend(shape.sinks),
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
            // Written by the CPU before the first call.
            Op::Embed { .. } => Ok(()),
            Op::Norm { x, norm, out } => self.norm(*x, norm, *out),
            Op::Linear { x, products } => self.linear(*x, products),
            Op::Rope { x, rope, heads, first } => self.rope(*x, rope, *heads, *first),
            Op::Store { kept, key, value } => self.store(*kept, *key, *value),
            Op::Attend { kept, shape, query, out } => self.attend(*kept, shape, *query, *out),
            Op::Bias { vector, x } => self.elementwise(Kernel::Bias, *x, &[], Some(*vector), |words| words),
            Op::Activate { activation, x, out } => {
                self.elementwise(Kernel::Activate(Function::of(*activation)), *out, &[*x], None, |words| words)
            }
            Op::Gate { activation, gate, up, out } => {
                self.elementwise(Kernel::Gate(Function::of(*activation)), *out, &[*gate, *up], None, |words| words)
            }
            Op::Add { x, to } => self.elementwise(Kernel::Add, *to, &[*x], None, |words| words),
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
            other => Err(GpuError::Unusable(format!("an operation has no shader: {other:?}"))),
        }
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
        let kind = match norm.kind {
            NormKind::Rms => Norm::Rms,
            NormKind::Layer => Norm::Layer,
            NormKind::L2 => Norm::L2,
        };
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
        if !products.iter().all(plain) {
            let words = Words::default().flag(wanted_only).count(columns);
            let grid = Grid::Threads(columns / 32);
            let (reads, writes) = ([self.buffer(x)], [self.quantized]);
            let call = self.gpu.call(Kernel::Quantize, wanted_only, grid, &words, self.step, &reads, &writes)?;
            self.calls.push(call);
        }
        for product in products {
            let factor = product.factor.map_or(1.0, |factor| self.weights.mapped().vector(factor.weight)[0]);
            let of = Product {
                step: self.step,
                x: if plain(product) { self.buffer(x) } else { self.quantized },
                bias: product.bias.map(|bias| self.weights.vector(bias)),
                nothing: self.step,
                out: self.buffer(product.out),
                wanted_only,
                add: product.add,
                factor,
                factor_covers_bias: product.factor.is_some_and(|factor| factor.covers_bias),
            };
            let calls = self.gpu.product(self.weights.matrix(product.weight), &of)?;
            self.calls.extend(calls);
        }
        Ok(())
    }

    fn rope(&mut self, x: Slot, rope: &Rope, heads: usize, first: usize) -> Result<(), GpuError> {
        let (_, angles) = self.angles.iter().find(|(known, _)| known == rope).expect("every rotation has its angles");
        let pairs = rope.dimensions / 2;
        let words = Words::default()
            .count(self.columns(x))
            .count(heads)
            .count(first)
            .count(pairs)
            .flag(rope.pairs == RopePairs::Adjacent);
        let grid = Grid::Threads(heads * pairs);
        let call = self.gpu.call(Kernel::Rope, false, grid, &words, self.step, &[angles], &[self.buffer(x)])?;
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

    fn attend(&mut self, kept: plan::Kept, shape: &plan::Attention, query: Slot, out: Slot) -> Result<(), GpuError> {
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
            .number(shape.softcap.unwrap_or(0.0));
        let (keys, values) = self.state.of(kept);
        let sinks = shape.sinks.map_or(self.step, |sinks| self.weights.vector(sinks));
        let kernel = Kernel::Attend { key_dim: shape.key_dim as u32, value_dim: shape.value_dim as u32 };
        let reads = [self.buffer(query), keys, values, sinks];
        let grid = Grid::Workgroups(shape.heads);
        let call = self.gpu.call(kernel, false, grid, &words, self.step, &reads, &[self.buffer(out)])?;
        self.calls.push(call);
        Ok(())
    }
}
