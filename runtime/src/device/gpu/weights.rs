//! A plan's weights in a GPU's memory: sent when the first operation that reads them is prepared, kept from then on.

use std::collections::HashMap;

use satchel_gpu::{Gpu, GpuError, Matrix};

use crate::device::MappedPart;
use crate::device::cpu::Weights as Mapped;
use crate::plan::{Plan, Weight};

/// The weights.
pub(super) struct Weights {
    mapped: Mapped,
    matrices: HashMap<Weight, Matrix>,
    vectors: HashMap<Weight, satchel_gpu::Buffer>,
}

impl Weights {
    pub(super) fn new(plan: &Plan, parts: &[MappedPart]) -> Self {
        Self { mapped: Mapped::new(&plan.weights, parts), matrices: HashMap::new(), vectors: HashMap::new() }
    }

    /// The weights as they are mapped.
    pub(super) fn mapped(&self) -> &Mapped {
        &self.mapped
    }

    /// Sends a matrix unless it is there.
    pub(super) fn send_matrix(&mut self, gpu: &Gpu, weight: Weight) -> Result<(), GpuError> {
        if !self.matrices.contains_key(&weight) {
            let mapped = self.mapped.matrix(weight, 0);
            let sent = Matrix::upload(gpu, mapped.ty, mapped.rows, mapped.columns, mapped.bytes)?;
            self.matrices.insert(weight, sent);
        }
        Ok(())
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

    /// Whether some matrix that was sent is of a block type.
    pub(super) fn has_blocks(&self) -> bool {
        self.matrices.values().any(|matrix| !matrix.form.is_plain())
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
