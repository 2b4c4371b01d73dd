//! Experts' matrices in a GPU's memory, and products with those that rows are sent to.

use satchel_gguf::TensorType;

use crate::call::{Call, Grid, Words};
use crate::kernel::{ExpertsKernel, TOKENS, Tiling};
use crate::{Form, Gpu, GpuError, Kernel, Matrix};

/// Some whole experts.
struct Part {
    matrix: Matrix,
    first: usize,
    count: usize,
}

/// One matrix of every expert, or of every head.
pub struct Stack {
    /// How they lie there.
    pub form: Form,
    /// Rows of a matrix.
    pub rows: usize,
    /// Its columns.
    pub columns: usize,
    /// How many there are.
    pub count: usize,
    parts: Vec<Part>,
}

/// What a stack is in a file.
#[derive(Clone, Copy, Debug)]
pub struct StackShape {
    /// How elements are stored.
    pub ty: TensorType,
    /// Rows of a matrix.
    pub rows: usize,
    /// Its columns.
    pub columns: usize,
    /// How many there are.
    pub count: usize,
    /// Bytes from one to the next.
    pub stride: usize,
}

impl Stack {
    /// Sends a stack to the GPU, in as many buffers as it takes.
    ///
    /// # Errors
    /// If the type cannot be read, an expert is more than a buffer holds, or memory is out.
    pub fn upload(gpu: &Gpu, shape: StackShape, bytes: &[u8]) -> Result<Self, GpuError> {
        let StackShape { ty, rows, columns, count, stride } = shape;
        let unusable =
            |why: &str| GpuError::Unusable(format!("experts of {rows} rows of {columns} {ty} weights {why}"));
        let row_bytes = ty.row_bytes(columns as u64).ok_or_else(|| unusable("are no whole blocks"))?;
        let size = row_bytes as usize * rows;
        let words = crate::matrix::row_words(ty, columns) * rows;
        let most = usize::try_from(gpu.binding_bytes()).unwrap_or(usize::MAX) / (4 * words.max(1));
        if most == 0 {
            return Err(unusable("are more each than a buffer of this GPU holds"));
        }
        let mut parts = Vec::new();
        for first in (0..count).step_by(most) {
            let count = most.min(count - first);
            // One after the other, unless two stacks share a tensor.
            let gathered: Vec<u8>;
            let part = if stride == size {
                &bytes[first * size..(first + count) * size]
            } else {
                let each = (first..first + count).map(|expert| &bytes[expert * stride..][..size]);
                gathered = each.flatten().copied().collect();
                &gathered
            };
            parts.push(Part { matrix: Matrix::upload(gpu, ty, rows * count, columns, part)?, first, count });
        }
        Ok(Self { form: Form::of(ty), rows, columns, count, parts })
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.matrix.bytes()).sum()
    }
}

/// The buffers of a product with a stack.
#[derive(Clone, Copy)]
pub struct StackProduct<'a> {
    /// The step's.
    pub step: &'a wgpu::Buffer,
    /// Activations, in the form that the stack is multiplied with.
    pub x: &'a wgpu::Buffer,
    /// Whether these have a row for each of a row's experts.
    pub x_of_pairs: bool,
    /// Pairs and tiles, as `assign.wgsl` writes them.
    pub shares: &'a wgpu::Buffer,
    /// A factor for each expert.
    pub factors: Option<&'a wgpu::Buffer>,
    /// `(experts, rows)`, added to the result.
    pub bias: Option<&'a wgpu::Buffer>,
    /// The result, a row for each pair.
    pub out: &'a wgpu::Buffer,
    /// Whether only wanted rows are computed.
    pub wanted_only: bool,
    /// Whether the result is added to what is there.
    pub add: bool,
    /// How pairs are shared out.
    pub tiling: Tiling,
}

impl Gpu {
    /// Prepares the product of a stack: a call for each of its parts.
    ///
    /// # Errors
    /// If memory is out.
    pub fn stack_product(&self, stack: &Stack, product: &StackProduct<'_>) -> Result<Vec<Call>, GpuError> {
        let parts = stack.parts.iter().map(|part| {
            let lanes = part.matrix.lanes();
            let workgroups = stack.rows.div_ceil(2 * (64 / lanes as usize));
            let grid = Grid::Tiles { workgroups, weights: stack.rows * stack.columns, tiling: product.tiling };
            let parameters = Words::default()
                .flag(product.wanted_only)
                .count(stack.columns)
                .count(stack.rows)
                .count(part.matrix.row_words)
                .count(part.first)
                .count(part.count)
                .count(product.tiling.used)
                .flag(product.x_of_pairs)
                .flag(product.add)
                .flag(product.factors.is_some())
                .flag(product.bias.is_some());
            let kernel = Kernel::Experts(ExpertsKernel::Product { form: stack.form, lanes, tokens: TOKENS[0] });
            let nothing = product.step;
            let (factors, bias) = (product.factors.unwrap_or(nothing), product.bias.unwrap_or(nothing));
            let reads = [&part.matrix.parts[0].buffer, product.x, product.shares, factors, bias];
            self.call(kernel, product.wanted_only, grid, &parameters, product.step, &reads, &[product.out])
        });
        parts.collect()
    }
}
