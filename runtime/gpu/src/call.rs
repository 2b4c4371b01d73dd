//! Operations with their buffers, prepared once, and how a step of them is submitted: one encoder and one pass, several only where
//! a driver's watchdog could take the GPU for hung.

use std::collections::HashSet;
use std::sync::PoisonError;
use std::time::Instant;

use crate::attention::{self, When};
use crate::kernel::{ExpertsKernel, Kernel, TOKENS, Tiling};
use crate::matrix::Part;
use crate::product::{MOST, Matrices, Reading, Shape, may_be_halves};
use crate::{Gpu, GpuError, Matrix};

/// The size of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Rows.
    pub tokens: usize,
    /// The first of them, which lanes or int8 tiles multiply; cooperative matrices multiply the others.
    pub lanes: usize,
    /// Rows that need a result.
    pub wanted: usize,
    /// Positions that rows look back over at most.
    pub seen: usize,
}

impl Extent {
    /// Rows without positions, none of which cooperative matrices multiply.
    pub fn rows(tokens: usize, wanted: usize) -> Self {
        Self { tokens, lanes: tokens, wanted, seen: 0 }
    }
}

/// How many workgroups an operation takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grid {
    /// So many threads a row, 64 a workgroup.
    Threads(usize),
    /// So many workgroups a row.
    Workgroups(usize),
    /// A product: the rows of each matrix, and how many weights all have.
    Product {
        /// None where there are fewer matrices.
        rows: [usize; MOST],
        /// Their elements.
        weights: usize,
    },
    /// The one workgroup that shares pairs out.
    Shares(Tiling),
    /// A product with experts: so many workgroups for a tile of pairs.
    Tiles {
        /// For all rows of an expert.
        workgroups: usize,
        /// An expert's elements.
        weights: usize,
        /// How pairs are shared out.
        tiling: Tiling,
    },
    /// Attention: heads of keys, and of queries for each.
    Attend {
        /// Heads of keys and values.
        kv_heads: usize,
        /// Query heads that share one.
        group: usize,
    },
}

/// An operation that is ready to run.
pub struct Call {
    kernel: Kernel,
    bindings: wgpu::BindGroup,
    grid: Grid,
    wanted_only: bool,
    when: When,
}

impl Call {
    /// Makes the call only then.
    #[must_use]
    pub fn when(mut self, when: When) -> Self {
        self.when = when;
        self
    }
}

impl Call {
    /// The rows that it computes in such a step; `None`: the step leaves the call out.
    pub(crate) fn rows(&self, of: Extent) -> Option<usize> {
        let rows = if self.wanted_only { of.wanted } else { of.tokens };
        self.when.holds(rows, of.seen).then_some(rows)
    }
}

/// What steps have cost since the GPU was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Operations started.
    pub dispatches: u64,
    /// Compute passes.
    pub passes: u64,
    /// Submissions.
    pub submissions: u64,
    /// Bytes read back.
    pub read_bytes: u64,
}

/// Parameters of a call, as words of the shader's `Params`.
#[derive(Clone, Debug, Default)]
pub struct Words(Vec<u8>);

impl Words {
    /// Appends an integer.
    #[must_use]
    pub fn count(mut self, value: usize) -> Self {
        self.0.extend((value as u32).to_le_bytes());
        self
    }

    /// Appends a flag.
    #[must_use]
    pub fn flag(self, value: bool) -> Self {
        self.count(usize::from(value))
    }

    /// Appends a number.
    #[must_use]
    pub fn number(mut self, value: f32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }
}

impl Gpu {
    /// Prepares a kernel with its parameters, the step's buffer, and the buffers that it reads and writes.
    ///
    /// # Errors
    /// If memory is out.
    ///
    /// # Panics
    /// If the kernel has another number of buffers.
    #[allow(clippy::too_many_arguments, reason = "each is what a shader binds")]
    pub fn call(
        &self,
        kernel: Kernel,
        wanted_only: bool,
        grid: Grid,
        parameters: &Words,
        step: &wgpu::Buffer,
        reads: &[&wgpu::Buffer],
        writes: &[&wgpu::Buffer],
    ) -> Result<Call, GpuError> {
        assert_eq!(kernel.bindings(), (reads.len() as u32, writes.len() as u32), "buffers of {kernel:?}");
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let uniform = self.buffer_for("parameters", parameters.0.len() as u64, usage)?;
        self.write(&uniform, 0, &parameters.0);
        let buffers = [&uniform, step].into_iter().chain(reads.iter().copied()).chain(writes.iter().copied());
        let entries: Vec<_> = buffers
            .zip(0..)
            .map(|(buffer, binding)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        let bindings = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &self.pipelines.layout(kernel.bindings()),
            entries: &entries,
        });
        self.check()?;
        Ok(Call { kernel, bindings, grid, wanted_only, when: When::Always })
    }

    /// Prepares the product of a matrix: a call for each of its parts.
    ///
    /// # Errors
    /// If memory is out.
    pub fn product(&self, matrix: &Matrix, product: &Product<'_>) -> Result<Vec<Call>, GpuError> {
        self.products(&[(matrix, product)])
    }

    /// Prepares products with the same activations, in as few calls as the GPU's limits allow.
    ///
    /// # Errors
    /// If memory is out.
    pub fn products(&self, products: &[(&Matrix, &Product<'_>)]) -> Result<Vec<Call>, GpuError> {
        // The step, activations, and of each matrix its weights, bias and result.
        let fit = (self.most_buffers() as usize).saturating_sub(2) / 3;
        // A buffer is bound for writing once.
        let (whole, split): (Vec<_>, Vec<_>) = products.iter().partition(|(matrix, _)| matrix.parts.len() == 1);
        let (plain, blocks): (Vec<_>, Vec<_>) = whole.into_iter().partition(|(matrix, _)| matrix.form.is_plain());
        let mut calls = Vec::new();
        for alike in [plain, blocks] {
            for some in alike.chunks(fit.clamp(1, MOST)) {
                let some: Vec<_> = some.iter().map(|(matrix, product)| (*matrix, &matrix.parts[0], *product)).collect();
                calls.push(self.product_call(&some)?);
            }
        }
        for (matrix, product) in split {
            for part in &matrix.parts {
                calls.push(self.product_call(&[(matrix, part, product)])?);
            }
        }
        Ok(calls)
    }

    fn product_call(&self, of: &[(&Matrix, &Part, &Product<'_>)]) -> Result<Call, GpuError> {
        let (first, _, product) = of[0];
        let mut parameters = Words::default().flag(product.wanted_only).count(first.columns).count(0).count(0);
        let (mut matrices, mut rows, mut weights) = ([None; MOST], [0; MOST], 0);
        let (mut reads, mut writes) = (vec![product.x], Vec::new());
        for (at, (matrix, part, product)) in of.iter().enumerate() {
            parameters = parameters
                .count(part.rows)
                .count(matrix.row_words)
                .count(part.first)
                .count(matrix.rows)
                .flag(product.add)
                .flag(product.bias.is_some())
                .number(product.factor)
                .flag(product.factor_covers_bias);
            matrices[at] = Some(matrix.reading());
            rows[at] = part.rows;
            weights += part.rows * matrix.columns;
            reads.extend([&part.buffer, product.bias.unwrap_or(product.nothing)]);
            writes.push(product.out);
        }
        for _ in 8 * of.len()..8 * MOST {
            parameters = parameters.count(0);
        }
        let shape = self.choice.shape(first.form.is_plain(), 1);
        let (kernel, grid) = (Kernel::Product { matrices, shape }, Grid::Product { rows, weights });
        self.call(kernel, product.wanted_only, grid, &parameters, product.step, &reads, &writes)
    }

    /// Compiles all that these calls may run, several at a time.
    pub fn compile(&self, calls: &[Call]) {
        let mut kernels: Vec<Kernel> = Vec::new();
        for call in calls {
            match call.kernel {
                // One token, a prompt's end, and a prompt.
                Kernel::Product { matrices, .. } => {
                    let is_plain = matrices.iter().flatten().any(|reading| reading.form.is_plain());
                    let tokens = [1, TOKENS[TOKENS.len() - 1] as usize, usize::MAX];
                    let of = || matrices.into_iter().flatten();
                    let by_matrices = self.matrices().filter(|_| !call.wanted_only && may_be_halves(of()));
                    let tokens = if by_matrices.is_some() { &tokens[..2] } else { &tokens[..] };
                    let lanes = tokens.iter().map(|tokens| self.choice.shape(is_plain, *tokens));
                    let by_matrices = by_matrices.into_iter().flat_map(Matrices::shapes);
                    let shapes: HashSet<Shape> = lanes.chain(by_matrices).collect();
                    kernels.extend(shapes.into_iter().map(|shape| Kernel::Product { matrices, shape }));
                }
                other => kernels.push(other),
            }
        }
        self.pipelines.compile_all(&kernels.into_iter().collect::<HashSet<_>>().into_iter().collect::<Vec<_>>());
    }

    /// Copies parts of buffers: from, its offset, to, its offset, bytes.
    pub fn copy(&self, copies: &[(&wgpu::Buffer, u64, &wgpu::Buffer, u64, u64)]) {
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for (from, from_offset, to, to_offset, bytes) in copies {
            encoder.copy_buffer_to_buffer(from, *from_offset, to, *to_offset, *bytes);
        }
        self.queue.submit([encoder.finish()]);
    }

    /// Clears parts of buffers: the buffer, its offset, bytes.
    pub fn clear(&self, parts: &[(&wgpu::Buffer, u64, u64)]) {
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for (buffer, offset, bytes) in parts {
            encoder.clear_buffer(buffer, *offset, Some(*bytes));
        }
        self.queue.submit([encoder.finish()]);
    }

    /// What steps have cost.
    pub fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs calls in order on a step of so many rows, `wanted` of them at the end, and reads the first `read` bytes of a buffer.
    ///
    /// # Errors
    /// If the driver fails, or the device is lost.
    pub fn run<'a>(
        &self,
        calls: impl Iterator<Item = &'a Call>,
        tokens: usize,
        wanted: usize,
        read: Option<(&wgpu::Buffer, usize)>,
    ) -> Result<Vec<u8>, GpuError> {
        self.run_step(calls, Extent::rows(tokens, wanted), read)
    }

    /// [`Gpu::run`] of a step of this size.
    ///
    /// # Errors
    /// As there.
    pub fn run_step<'a>(
        &self,
        calls: impl Iterator<Item = &'a Call>,
        of: Extent,
        read: Option<(&wgpu::Buffer, usize)>,
    ) -> Result<Vec<u8>, GpuError> {
        let mut calls = calls.filter_map(|call| Some((call, call.rows(of)?))).peekable();
        let mut counts = Counts::default();
        let (begun, mut all_work) = (Instant::now(), 0);
        while calls.peek().is_some() {
            let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            let mut work = 0;
            while work < self.choice.submission()
                && let Some((call, rows)) = calls.next()
            {
                work += self.dispatch(&mut pass, call, rows, of, &mut counts);
            }
            drop(pass);
            all_work += work;
            self.queue.submit([encoder.finish()]);
            counts.passes += 1;
            counts.submissions += 1;
        }
        let bytes = match read {
            Some((buffer, bytes)) => self.read(buffer, bytes, &mut counts)?,
            // Wait for the end, so that a step's measured time includes the GPU's work.
            None => {
                self.flush();
                Vec::new()
            }
        };
        self.choice.note(all_work, begun.elapsed());
        let mut total = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        total.dispatches += counts.dispatches;
        total.passes += counts.passes;
        total.submissions += counts.submissions;
        total.read_bytes += counts.read_bytes;
        self.check().map(|()| bytes)
    }

    /// Starts a call; says how many multiplications it is.
    pub(crate) fn dispatch(
        &self,
        pass: &mut wgpu::ComputePass<'_>,
        call: &Call,
        rows: usize,
        of: Extent,
        counts: &mut Counts,
    ) -> u64 {
        let (mut kernel, mut deep, mut work) = (call.kernel, 1, 0);
        let workgroups = match call.grid {
            Grid::Threads(threads) => (rows * threads).div_ceil(64),
            Grid::Workgroups(workgroups) => rows * workgroups,
            Grid::Product { rows: of_matrices, weights } => {
                let Kernel::Product { matrices, .. } = kernel else { unreachable!("the grid of products") };
                let is_plain = matrices.iter().flatten().any(|reading| reading.form.is_plain());
                let lanes_only = call.wanted_only || !may_be_halves(matrices.into_iter().flatten());
                let by_lanes = if lanes_only { rows } else { of.lanes };
                let by_matrices = self.matrices().map(|matrices| matrices.shape(rows - by_lanes));
                let parts = [(by_lanes, self.choice.shape(is_plain, by_lanes))].into_iter();
                for (rows, shape) in parts.chain(by_matrices.map(|shape| (rows - by_lanes, shape))) {
                    let pairs = matrices.iter().flatten().zip(of_matrices);
                    let workgroups =
                        pairs.map(|(reading, rows): (&Reading, usize)| shape.workgroups(*reading, rows)).sum();
                    let kernel = Kernel::Product { matrices, shape };
                    self.start_kernel(pass, call, kernel, (workgroups, rows.div_ceil(shape.tokens())), counts);
                }
                return (weights * rows) as u64;
            }
            Grid::Attend { kv_heads, group } => {
                let Kernel::Attend { key_dim, value_dim, queries, into } = &mut kernel else {
                    unreachable!("the grid of attention")
                };
                deep = if *into == attention::Output::Split { attention::segments(of.seen) } else { 1 };
                let dims = (*key_dim, *value_dim);
                *queries = attention::queries(dims, kv_heads, rows * group, deep, self.workgroup_bytes());
                kv_heads * (rows * group).div_ceil(*queries as usize)
            }
            Grid::Shares(tiling) => {
                if let Kernel::Experts(ExpertsKernel::Assign { tokens }) = &mut kernel {
                    *tokens = tiling.tokens(rows);
                }
                rows.min(1)
            }
            Grid::Tiles { workgroups, weights, tiling } => {
                if let Kernel::Experts(ExpertsKernel::Product { tokens, .. }) = &mut kernel {
                    *tokens = tiling.tokens(rows);
                }
                deep = tiling.tiles(rows);
                work = (weights * rows * tiling.used) as u64;
                workgroups
            }
        };
        self.start_kernel(pass, call, kernel, (workgroups, deep), counts);
        work
    }

    /// Starts a call's kernel, unless there is nothing to do.
    fn start_kernel(
        &self,
        pass: &mut wgpu::ComputePass<'_>,
        call: &Call,
        kernel: Kernel,
        (workgroups, deep): (usize, usize),
        counts: &mut Counts,
    ) {
        if workgroups == 0 || deep == 0 {
            return;
        }
        pass.set_pipeline(&self.pipelines.get(kernel));
        pass.set_bind_group(0, &call.bindings, &[]);
        let wide = workgroups.min(self.most_workgroups() as usize);
        pass.dispatch_workgroups(wide as u32, workgroups.div_ceil(wide) as u32, deep as u32);
        counts.dispatches += 1;
    }

    /// The first bytes of a buffer, after all that was submitted.
    ///
    /// # Errors
    /// If the driver fails, or the device is lost.
    pub fn read_back(&self, buffer: &wgpu::Buffer, bytes: usize) -> Result<Vec<u8>, GpuError> {
        let mut counts = Counts::default();
        let read = self.read(buffer, bytes, &mut counts)?;
        let mut total = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        total.submissions += counts.submissions;
        total.read_bytes += counts.read_bytes;
        Ok(read)
    }

    fn read(&self, buffer: &wgpu::Buffer, bytes: usize, counts: &mut Counts) -> Result<Vec<u8>, GpuError> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = self.buffer_for("what is read back", bytes as u64, usage)?;
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, bytes as u64);
        self.queue.submit([encoder.finish()]);
        let (done, mapped) = std::sync::mpsc::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            let _ = done.send(result);
        });
        let failed = |what: String| GpuError::Failed(what);
        self.device.poll(wgpu::PollType::wait_indefinitely()).map_err(|error| failed(error.to_string()))?;
        self.check()?;
        match mapped.try_recv() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => return Err(failed("it did not answer".to_owned())),
        }
        let view = staging.get_mapped_range(..).map_err(|error| failed(error.to_string()))?;
        counts.submissions += 1;
        counts.read_bytes += bytes as u64;
        Ok(view[..bytes].to_vec())
    }
}

/// A product's buffers.
pub struct Product<'a> {
    /// The step's.
    pub step: &'a wgpu::Buffer,
    /// Activations, in the form that the matrix is multiplied with.
    pub x: &'a wgpu::Buffer,
    /// Added to the result.
    pub bias: Option<&'a wgpu::Buffer>,
    /// Any buffer, bound where there is no bias.
    pub nothing: &'a wgpu::Buffer,
    /// The result.
    pub out: &'a wgpu::Buffer,
    /// Whether only wanted rows are computed.
    pub wanted_only: bool,
    /// Whether the result is added to what is there.
    pub add: bool,
    /// The matrix's factor; 1 for none.
    pub factor: f32,
    /// Whether the bias is multiplied by it, too.
    pub factor_covers_bias: bool,
}
