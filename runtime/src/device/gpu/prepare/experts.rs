//! Experts, and the other products of which each row takes its own: a matrix for each head.
//!
//! A row and one of its experts are a pair; pairs are sorted by expert on the GPU, which reads an expert's weights once for some of
//! its pairs. What is between the products has a row for each pair, so it is a row of `used` times the columns.

use satchel_gpu::call::Words;
use satchel_gpu::{Buffer, ExpertsKernel, Function, Gpu, GpuError, Grid, Kernel, StackProduct, Tiling};

use super::Preparing;
use crate::plan::{AdaptedStack, ExpertActivation, Experts, Gating, Op, Router, Slot, SlotShape, Weight};

/// Memory between the products, of one operation at a time.
pub(in crate::device::gpu) struct PairBuffers {
    /// The order of pairs.
    shares: Buffer,
    /// Results of gate and up, and weighed inputs or what comes between.
    first: Buffer,
    second: Buffer,
    hidden: Buffer,
    /// Of adapters: products with `A`, and these as int8.
    low: Buffer,
    low_quantized: Buffer,
}

/// What a row takes of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::device::gpu) struct PairSizes {
    used: usize,
    first: usize,
    second: usize,
    hidden: usize,
    low: usize,
    /// Columns that are made int8 at once, elsewhere.
    pub(in crate::device::gpu) quantized: usize,
}

impl PairSizes {
    /// The most that any operation takes; `facts` gives the rows and columns of a stack's matrices, and their number.
    pub(in crate::device::gpu) fn of(
        ops: &[Op],
        slots: &[SlotShape],
        facts: impl Fn(Weight) -> (usize, usize, usize),
    ) -> Self {
        let mut most = Self::default();
        for op in ops {
            match op {
                Op::LinearHeads { x, weight, .. } => {
                    most.used = most.used.max(facts(*weight).2);
                    most.quantized = most.quantized.max(slots[x.0].columns);
                }
                Op::Experts { x, routes, experts, .. } => {
                    let used = slots[routes.0].columns / 2;
                    let columns = slots[x.0].columns * if experts.weigh_input { used } else { 1 };
                    let (inner, down) = (used * facts(experts.up).0, used * facts(experts.down).0);
                    let adapted = experts.adapters.iter().flat_map(|of| [of.gate, of.up, of.down]).flatten();
                    let low = adapted.map(|stack| used * facts(stack.a).0).max().unwrap_or(0);
                    most.used = most.used.max(used);
                    most.first = most.first.max(inner).max(down);
                    most.second = most.second.max(inner);
                    most.hidden = most.hidden.max(inner).max(columns);
                    most.low = most.low.max(low);
                    most.quantized = most.quantized.max(inner).max(columns);
                }
                _ => {}
            }
        }
        most
    }
}

impl PairBuffers {
    /// Memory for so many rows.
    pub(in crate::device::gpu) fn new(gpu: &Gpu, sizes: PairSizes, rows: usize) -> Result<Self, GpuError> {
        let buffer = |bytes: usize| gpu.buffer("activations of experts", bytes as u64);
        let tiling = Tiling { used: sizes.used, experts: 1 };
        Ok(Self {
            shares: buffer(4 * tiling.words(rows))?,
            first: buffer(4 * rows * sizes.first)?,
            second: buffer(4 * rows * sizes.second)?,
            hidden: buffer(4 * rows * sizes.hidden)?,
            low: buffer(4 * rows * sizes.low)?,
            low_quantized: buffer(48 * rows * sizes.low.div_ceil(32))?,
        })
    }

    /// All of them.
    pub(in crate::device::gpu) fn all(&self) -> impl Iterator<Item = &Buffer> {
        [&self.shares, &self.first, &self.second, &self.hidden, &self.low, &self.low_quantized].into_iter()
    }
}

/// The input of products.
#[derive(Clone, Copy)]
struct Input<'b> {
    plain: &'b Buffer,
    quantized: &'b Buffer,
    of_pairs: bool,
}

/// What a product of pairs adds to or multiplies by, and whether to add to what is there.
#[derive(Clone, Copy, Default)]
struct After {
    factors: Option<Weight>,
    bias: Option<Weight>,
    add: bool,
}

/// A layer's experts while their calls are made.
#[derive(Clone, Copy)]
struct Pairs {
    tiling: Tiling,
    wanted_only: bool,
}

impl<'a> Preparing<'a> {
    /// A call with a thread for each element of rows of `columns`.
    fn each(
        &mut self,
        kernel: Kernel,
        of: Pairs,
        columns: usize,
        parameters: impl FnOnce(Words) -> Words,
        reads: &[&Buffer],
        out: &Buffer,
    ) -> Result<(), GpuError> {
        let words = parameters(Words::default().flag(of.wanted_only).count(columns));
        let grid = Grid::Threads(columns);
        let call = self.gpu.call(kernel, of.wanted_only, grid, &words, self.step, reads, &[out])?;
        self.calls.push(call);
        Ok(())
    }

    fn quantize(&mut self, of: Pairs, columns: usize, from: &Buffer, to: &Buffer) -> Result<(), GpuError> {
        let words = Words::default().flag(of.wanted_only).count(columns);
        let grid = Grid::Threads(columns / 4);
        let call = self.gpu.call(Kernel::Quantize, of.wanted_only, grid, &words, self.step, &[from], &[to])?;
        self.calls.push(call);
        Ok(())
    }

    /// Shares pairs out by routes, or by their place in a row.
    fn share(&mut self, of: Pairs, routes: Option<&Buffer>) -> Result<(), GpuError> {
        let words = Words::default().flag(of.wanted_only).flag(routes.is_some());
        let words = words.count(of.tiling.experts).count(of.tiling.used);
        let kernel = Kernel::Experts(ExpertsKernel::Assign { tokens: 1 });
        let grid = Grid::Shares(of.tiling);
        let reads = [routes.unwrap_or(self.step)];
        let writes = [&self.pairs.shares];
        let call = self.gpu.call(kernel, of.wanted_only, grid, &words, self.step, &reads, &writes)?;
        self.calls.push(call);
        Ok(())
    }

    fn stack_product(
        &mut self,
        of: Pairs,
        stack: Weight,
        input: Input<'_>,
        after: After,
        out: &Buffer,
    ) -> Result<(), GpuError> {
        let stack = self.packed.stack(stack);
        let product = StackProduct {
            step: self.step,
            x: if stack.form.is_plain() { input.plain } else { input.quantized },
            x_of_pairs: input.of_pairs,
            shares: &self.pairs.shares,
            factors: after.factors.map(|factors| self.weights.vector(factors)),
            bias: after.bias.map(|bias| self.weights.vector(bias)),
            out,
            wanted_only: of.wanted_only,
            add: after.add,
            tiling: of.tiling,
        };
        let calls = self.gpu.stack_product(stack, &product)?;
        self.calls.extend(calls);
        Ok(())
    }

    /// Adds what an adapter has for a stack to its product.
    fn add_low_rank(
        &mut self,
        of: Pairs,
        adapter: usize,
        low: Option<AdaptedStack>,
        input: Input<'_>,
        out: &Buffer,
    ) -> Result<(), GpuError> {
        let Some(AdaptedStack { a, b, scale }) = low else { return Ok(()) };
        let pairs = self.pairs;
        let begin = self.calls.len();
        self.stack_product(of, a, input, After::default(), &pairs.low)?;
        let columns = of.tiling.used * self.packed.stack(a).rows;
        self.each(Kernel::Adapt, of, columns, |words| words.count(adapter).number(scale), &[], &pairs.low)?;
        if !self.packed.stack(b).form.is_plain() {
            self.quantize(of, columns, &pairs.low, &pairs.low_quantized)?;
        }
        let input = Input { plain: &pairs.low, quantized: &pairs.low_quantized, of_pairs: true };
        self.stack_product(of, b, input, After { add: true, ..After::default() }, out)?;
        self.adapted.push((begin..self.calls.len(), adapter));
        Ok(())
    }

    fn has_blocks(&self, stacks: impl IntoIterator<Item = Option<Weight>>) -> bool {
        stacks.into_iter().flatten().any(|stack| !self.packed.stack(stack).form.is_plain())
    }

    /// Multiplies each head by its own matrix of a stack.
    pub(super) fn linear_heads(&mut self, x: Slot, weight: Weight, out: Slot) -> Result<(), GpuError> {
        let heads = self.packed.stack(weight).count;
        let of = Pairs { tiling: Tiling { used: heads, experts: heads }, wanted_only: self.wanted_only(x) };
        let (buffers, slots, quantized) = (self.buffers, self.slots, self.quantized);
        let (x_buffer, out) = (&buffers[slots[x.0].buffer], &buffers[slots[out.0].buffer]);
        if self.has_blocks([Some(weight)]) {
            self.quantize(of, self.columns(x), x_buffer, quantized)?;
        }
        self.share(of, None)?;
        let input = Input { plain: x_buffer, quantized, of_pairs: true };
        self.stack_product(of, weight, input, After::default(), out)
    }

    /// Chooses experts.
    pub(super) fn route(&mut self, scores: Slot, router: &Router, out: Slot) -> Result<(), GpuError> {
        let wanted_only = self.wanted_only(scores);
        let words = Words::default()
            .flag(wanted_only)
            .count(router.experts)
            .count(router.used)
            .count(match router.gating {
                Gating::Softmax => 0,
                Gating::Sigmoid => 1,
                Gating::SoftmaxOfChosen => 2,
            })
            .flag(router.bias.is_some())
            .flag(router.by_score)
            .count(router.groups)
            .count(router.groups_used)
            .flag(router.normalise)
            .number(router.scale);
        let bias = router.bias.map_or(self.step, |bias| self.weights.vector(bias));
        let reads = [self.buffer(scores), bias];
        let kernel = Kernel::Experts(ExpertsKernel::Route);
        let grid = Grid::Workgroups(1);
        let call = self.gpu.call(kernel, wanted_only, grid, &words, self.step, &reads, &[self.buffer(out)])?;
        self.calls.push(call);
        Ok(())
    }

    /// The weighted sum of the chosen experts.
    pub(super) fn experts(&mut self, x: Slot, routes: Slot, of: &Experts, out: Slot) -> Result<(), GpuError> {
        let used = self.columns(routes) / 2;
        let experts = self.packed.stack(of.up).count;
        let pairs = Pairs { tiling: Tiling { used, experts }, wanted_only: self.wanted_only(x) };
        let (buffers, slots) = (self.buffers, self.slots);
        let buffer = |slot: Slot| &buffers[slots[slot.0].buffer];
        self.share(pairs, Some(buffer(routes)))?;
        let between = self.between(pairs, x, buffer(routes), of)?;
        self.outputs(pairs, between, of)?;
        let words = |words: Words| words.count(used).flag(!of.weigh_input);
        let kernel = Kernel::Experts(ExpertsKernel::Mix);
        let columns = self.packed.stack(of.down).rows;
        let reads = [&self.pairs.first, buffer(routes)];
        self.each(kernel, pairs, columns, words, &reads, buffer(out))
    }

    /// Gate, up and activation; returns the columns of a row of pairs.
    fn between(&mut self, of: Pairs, x: Slot, routes: &Buffer, experts: &Experts) -> Result<usize, GpuError> {
        let (buffers, slots, quantized, pairs) = (self.buffers, self.slots, self.quantized, self.pairs);
        let used = of.tiling.used;
        let mut plain = &buffers[slots[x.0].buffer];
        let mut columns = self.columns(x);
        if experts.weigh_input {
            columns *= used;
            let kernel = Kernel::Experts(ExpertsKernel::Weigh);
            self.each(kernel, of, columns, |words| words.count(used), &[plain, routes], &pairs.hidden)?;
            plain = &pairs.hidden;
        }
        let low = experts.adapters.iter().flat_map(|adapter| [adapter.gate, adapter.up]);
        let low = low.map(|stack| stack.map(|stack| stack.a));
        if self.has_blocks([experts.gate, Some(experts.up)].into_iter().chain(low)) {
            self.quantize(of, columns, plain, quantized)?;
        }
        let input = Input { plain, quantized, of_pairs: experts.weigh_input };
        let up = if experts.gate.is_some() { &pairs.second } else { &pairs.first };
        if let Some(gate) = experts.gate {
            let after = After { factors: experts.gate_factor, bias: experts.gate_bias, add: false };
            self.stack_product(of, gate, input, after, &pairs.first)?;
        }
        let after = After { factors: experts.up_factor, bias: experts.up_bias, add: false };
        self.stack_product(of, experts.up, input, after, up)?;
        for adapter in &experts.adapters {
            self.add_low_rank(of, adapter.adapter, adapter.gate, input, &pairs.first)?;
            self.add_low_rank(of, adapter.adapter, adapter.up, input, up)?;
        }
        let inner = used * self.packed.stack(experts.up).rows;
        let (one, two, hidden) = (&pairs.first, &pairs.second, &pairs.hidden);
        match experts.activation {
            ExpertActivation::Plain(activation) => {
                self.each(Kernel::Activate(Function::of(activation)), of, inner, |words| words, &[one], hidden)?;
            }
            ExpertActivation::Gated(activation) => {
                self.each(Kernel::Gate(Function::of(activation)), of, inner, |words| words, &[one, two], hidden)?;
            }
            ExpertActivation::SwigluOai { alpha, limit } => {
                let kernel = Kernel::Experts(ExpertsKernel::SwigluOai);
                let words = |words: Words| words.number(alpha).number(limit);
                self.each(kernel, of, inner, words, &[one, two], hidden)?;
            }
        }
        Ok(inner)
    }

    /// The last product, a row for each pair.
    fn outputs(&mut self, of: Pairs, inner: usize, experts: &Experts) -> Result<(), GpuError> {
        let (quantized, pairs) = (self.quantized, self.pairs);
        let low = experts.adapters.iter().map(|adapter| adapter.down.map(|stack| stack.a));
        if self.has_blocks(std::iter::once(Some(experts.down)).chain(low)) {
            self.quantize(of, inner, &pairs.hidden, quantized)?;
        }
        let input = Input { plain: &pairs.hidden, quantized, of_pairs: true };
        let after = After { factors: experts.down_factor, bias: experts.down_bias, add: false };
        self.stack_product(of, experts.down, input, after, &pairs.first)?;
        for adapter in &experts.adapters {
            self.add_low_rank(of, adapter.adapter, adapter.down, input, &pairs.first)?;
        }
        Ok(())
    }
}
