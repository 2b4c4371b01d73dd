//! Operations with their buffers, prepared once, and how a step of them is submitted: one encoder and one pass, several only where
//! a driver's watchdog could take the GPU for hung.

use std::sync::PoisonError;

use crate::kernel::{ExpertsKernel, Kernel, TOKENS, Tiling};
use crate::{Gpu, GpuError, Matrix};

/// How many workgroups an operation takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grid {
    /// So many threads a row, 64 a workgroup.
    Threads(usize),
    /// So many workgroups a row.
    Workgroups(usize),
    /// A product: so many workgroups for some tokens, and weights to multiply with each.
    Product {
        /// For all rows of the weight.
        workgroups: usize,
        /// Its elements.
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
}

/// An operation that is ready to run.
pub struct Call {
    kernel: Kernel,
    bindings: wgpu::BindGroup,
    grid: Grid,
    wanted_only: bool,
}

impl Call {
    /// Whether it has a row only for each wanted row.
    pub(crate) fn wanted_only(&self) -> bool {
        self.wanted_only
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

/// Multiplications that are submitted at once: a tenth of a second on a small integrated GPU.
const SUBMISSION: usize = 20_000_000_000;

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
        Ok(Call { kernel, bindings, grid, wanted_only })
    }

    /// Prepares the product of a matrix: a call for each of its parts. `quantized` is the activations' form for block types.
    ///
    /// # Errors
    /// If memory is out.
    pub fn product(&self, matrix: &Matrix, product: &Product<'_>) -> Result<Vec<Call>, GpuError> {
        let lanes = matrix.lanes();
        let parts = matrix.parts.iter().map(|part| {
            let workgroups = part.rows.div_ceil(2 * (64 / lanes as usize));
            let grid = Grid::Product { workgroups, weights: part.rows * matrix.columns };
            let parameters = Words::default()
                .flag(product.wanted_only)
                .count(matrix.columns)
                .count(part.rows)
                .count(matrix.row_words)
                .count(part.first)
                .count(matrix.rows)
                .flag(product.add)
                .flag(product.bias.is_some())
                .number(product.factor)
                .flag(product.factor_covers_bias);
            let kernel = Kernel::Matmul { form: matrix.form, lanes, tokens: TOKENS[0] };
            let reads = [&part.buffer, product.x, product.bias.unwrap_or(product.nothing)];
            self.call(kernel, product.wanted_only, grid, &parameters, product.step, &reads, &[product.out])
        });
        parts.collect()
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
        let mut calls = calls.peekable();
        let mut counts = Counts::default();
        while calls.peek().is_some() {
            let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            let mut work = 0;
            while work < SUBMISSION
                && let Some(call) = calls.next()
            {
                let rows = if call.wanted_only { wanted } else { tokens };
                work += self.dispatch(&mut pass, call, rows);
                counts.dispatches += 1;
            }
            drop(pass);
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
        let mut total = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        total.dispatches += counts.dispatches;
        total.passes += counts.passes;
        total.submissions += counts.submissions;
        total.read_bytes += counts.read_bytes;
        self.check().map(|()| bytes)
    }

    /// Starts a call; says how many multiplications it is.
    pub(crate) fn dispatch(&self, pass: &mut wgpu::ComputePass<'_>, call: &Call, rows: usize) -> usize {
        let (mut kernel, mut deep, mut work) = (call.kernel, 1, 0);
        let workgroups = match call.grid {
            Grid::Threads(threads) => (rows * threads).div_ceil(64),
            Grid::Workgroups(workgroups) => rows * workgroups,
            Grid::Product { workgroups, weights } => {
                if let Kernel::Matmul { tokens, .. } = &mut kernel {
                    *tokens = tokens_together(rows);
                    deep = rows.div_ceil(*tokens as usize);
                }
                work = weights * rows;
                workgroups
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
                work = weights * rows * tiling.used;
                workgroups
            }
        };
        if workgroups == 0 || deep == 0 {
            return 0;
        }
        pass.set_pipeline(&self.pipelines.get(kernel));
        pass.set_bind_group(0, &call.bindings, &[]);
        let wide = workgroups.min(self.most_workgroups() as usize);
        pass.dispatch_workgroups(wide as u32, workgroups.div_ceil(wide) as u32, deep as u32);
        work
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

/// The tokens that are multiplied together in a step of so many rows.
fn tokens_together(rows: usize) -> u32 {
    TOKENS.into_iter().find(|tokens| rows <= *tokens as usize).unwrap_or(TOKENS[TOKENS.len() - 1])
}
