//! Weights in the kernels' form: matrices and tables as mapped, a few kilobytes of vectors as f32.

use std::sync::Arc;

use crate::device::MappedPart;
use crate::kernels::matmul::Matrix;
use crate::plan::{Role, Weight, WeightUse};
use crate::quant::dequantize_row;

/// The weights of a plan.
pub(in crate::device) struct Weights {
    parts: Vec<MappedPart>,
    uses: Vec<WeightUse>,
    /// Those used as vectors.
    vectors: Vec<Option<Arc<[f32]>>>,
}

impl Weights {
    /// Resolves the weights; vectors are converted here.
    pub(in crate::device) fn new(uses: &[WeightUse], parts: &[MappedPart]) -> Self {
        let mut weights = Self { parts: parts.to_vec(), uses: uses.to_vec(), vectors: Vec::with_capacity(uses.len()) };
        for weight in uses {
            let vector = (weight.role == Role::Vector).then(|| weights.convert(weight));
            weights.vectors.push(vector);
        }
        weights
    }

    fn convert(&self, weight: &WeightUse) -> Arc<[f32]> {
        let mut values = vec![0.0; weight.elements()];
        let (row_bytes, bytes) = (weight.row_bytes() as usize, self.bytes(weight));
        let mut rows = values.chunks_exact_mut(weight.columns);
        for matrix in bytes.chunks(weight.stack_bytes as usize) {
            let blocks = matrix.chunks_exact(row_bytes).take(weight.rows);
            blocks.zip(rows.by_ref()).for_each(|(blocks, row)| dequantize_row(weight.ty, blocks, row));
        }
        values.into()
    }

    /// All bytes from the first to the last block used.
    fn bytes(&self, weight: &WeightUse) -> &[u8] {
        let part = &self.parts[weight.part];
        let start = part.start + weight.offset as usize;
        &part.file[start..start + weight.bytes() as usize]
    }

    /// A vector.
    pub(in crate::device) fn vector(&self, weight: Weight) -> &[f32] {
        let vector = self.vectors[weight.0].as_deref();
        vector.unwrap_or_else(|| panic!("{} is used as a vector and is none", self.uses[weight.0].name))
    }

    /// A matrix, or one of a stack.
    pub(in crate::device) fn matrix(&self, weight: Weight, of_stack: usize) -> Matrix<'_> {
        let weight = &self.uses[weight.0];
        let bytes = weight.row_bytes() as usize * weight.rows;
        let start = weight.stack_bytes as usize * of_stack;
        Matrix {
            ty: weight.ty,
            rows: weight.rows,
            columns: weight.columns,
            bytes: &self.bytes(weight)[start..start + bytes],
        }
    }

    /// All matrices of a stack.
    pub(in crate::device) fn stack_bytes(&self, stack: Weight) -> &[u8] {
        self.bytes(&self.uses[stack.0])
    }

    /// How a weight is used.
    pub(in crate::device) fn facts(&self, weight: Weight) -> &WeightUse {
        &self.uses[weight.0]
    }

    /// Dequantises a row of a table.
    pub(in crate::device) fn row(&self, table: Weight, row: usize, out: &mut [f32]) {
        let weight = &self.uses[table.0];
        let row_bytes = weight.row_bytes() as usize;
        dequantize_row(weight.ty, &self.bytes(weight)[row * row_bytes..][..row_bytes], out);
    }
}
