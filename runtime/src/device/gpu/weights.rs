//! A plan's weights in a GPU's memory: each gets its place when the first operation that reads it is prepared, and all are sent
//! together, while pipelines are compiled.

use std::cell::Cell;
use std::collections::HashMap;

use satchel_gpu::{Gpu, GpuError, Matrix, Upload};

use crate::device::MappedPart;
use crate::device::cpu::Weights as Mapped;
use crate::plan::{Plan, Weight};

/// The weights.
pub(super) struct Weights {
    mapped: Mapped,
    matrices: HashMap<Weight, Matrix>,
    vectors: HashMap<Weight, satchel_gpu::Buffer>,
    /// Matrices that have their place there and are not sent yet.
    unsent: Vec<Weight>,
}

impl Weights {
    pub(super) fn new(plan: &Plan, parts: &[MappedPart]) -> Self {
        let mapped = Mapped::new(&plan.weights, parts);
        Self { mapped, matrices: HashMap::new(), vectors: HashMap::new(), unsent: Vec::new() }
    }

    /// The weights as they are mapped.
    pub(super) fn mapped(&self) -> &Mapped {
        &self.mapped
    }

    /// Makes room for a matrix unless it is there; [`Weights::send`] sends it.
    pub(super) fn send_matrix(&mut self, gpu: &Gpu, weight: Weight) -> Result<(), GpuError> {
        if !self.matrices.contains_key(&weight) {
            let mapped = self.mapped.matrix(weight, 0);
            let reserved = Matrix::reserve(gpu, mapped.ty, mapped.rows, mapped.columns)?;
            self.matrices.insert(weight, reserved);
            self.unsent.push(weight);
        }
        Ok(())
    }

    /// Sends the matrices that have their place; `tell` is told how much of them is on its way, of 1.
    pub(super) fn send(&mut self, gpu: &Gpu, tell: &dyn Fn(f64)) -> Result<(), GpuError> {
        let unsent = std::mem::take(&mut self.unsent);
        let matrices: Vec<&Matrix> = unsent.iter().map(|weight| &self.matrices[weight]).collect();
        let total: u64 = matrices.iter().map(|matrix| matrix.bytes()).sum();
        let largest = matrices.iter().map(|matrix| matrix.bytes()).max().unwrap_or(0);
        let row = matrices.iter().map(|matrix| 4 * matrix.row_words).max().unwrap_or(0);
        let mut upload = Upload::new(gpu, largest, row);
        let sent = Cell::new(0);
        for (weight, matrix) in unsent.iter().zip(matrices) {
            let mapped = self.mapped.matrix(*weight, 0);
            matrix.fill(&mut upload, mapped.ty, mapped.bytes, &|bytes| {
                sent.set(sent.get() + bytes);
                tell(sent.get() as f64 / total as f64);
            })?;
        }
        upload.finish()
    }

    /// Sends a vector unless it is there.
    pub(super) fn send_vector(&mut self, gpu: &Gpu, weight: Weight) -> Result<(), GpuError> {
        if !self.vectors.contains_key(&weight) {
            let values = self.mapped.vector(weight);
            let buffer = gpu.buffer("weights", size_of_val(values) as u64)?;
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            gpu.write(&buffer, 0, &bytes);
            self.vectors.insert(weight, buffer);
        }
        Ok(())
    }

    /// A matrix that was sent.
    pub(super) fn matrix(&self, weight: Weight) -> &Matrix {
        &self.matrices[&weight]
    }

    /// Whether some matrix that was sent is plain, or of a block type.
    pub(super) fn has(&self, is_plain: bool) -> bool {
        self.matrices.values().any(|matrix| matrix.form.is_plain() == is_plain)
    }

    /// A vector that was sent.
    pub(super) fn vector(&self, weight: Weight) -> &satchel_gpu::Buffer {
        &self.vectors[&weight]
    }

    /// The number of a vector's elements.
    pub(super) fn elements(&self, weight: Weight) -> usize {
        self.mapped.vector(weight).len()
    }

    /// Bytes that matrices take there.
    pub(super) fn bytes(&self) -> u64 {
        self.matrices.values().map(Matrix::bytes).sum()
    }
}
