//! Operations between matrix products: norms, activations, sums and scaling, rotations.

use super::program::CpuProgram;
use super::rotation;
use crate::kernels::elementwise::{self, Heads};
use crate::plan::{Activation, Norm, NormKind, Rope, Rows, Slot, Weight};

impl CpuProgram {
    pub(super) fn norm(&mut self, x: Slot, norm: &Norm, out: Slot) {
        self.write(out, |program, out| {
            let vector = |weight: Option<Weight>| weight.map(|weight| program.weights.vector(weight));
            let norm = elementwise::Norm {
                kind: match norm.kind {
                    NormKind::Rms => elementwise::NormKind::Rms,
                    NormKind::Layer => elementwise::NormKind::Layer,
                    NormKind::L2 => elementwise::NormKind::L2,
                },
                width: norm.width,
                weight: vector(norm.weight),
                bias: vector(norm.bias),
                eps: norm.epsilon,
            };
            elementwise::norm(program.kernels, &program.threads, &norm, program.values(x), out);
        });
    }

    pub(super) fn activate(&mut self, activation: Activation, x: Slot, out: Slot) {
        self.write(out, |program, out| {
            elementwise::activate(program.kernels, &program.threads, activation, program.values(x), out);
        });
    }

    pub(super) fn gate(&mut self, activation: Activation, gate: Slot, up: Slot, out: Slot) {
        self.write(out, |program, out| {
            let (gate, up) = (program.values(gate), program.values(up));
            elementwise::gate(program.kernels, &program.threads, activation, gate, up, out);
        });
    }

    pub(super) fn add(&mut self, x: Slot, to: Slot) {
        self.write(to, |program, to| elementwise::add(program.kernels, &program.threads, to, program.values(x)));
    }

    /// Multiplies each `width` columns of `to` by one column of `x`.
    pub(super) fn multiply(&mut self, x: Slot, to: Slot, width: usize) {
        self.write(to, |program, to| {
            let (kernels, threads, x) = (program.kernels, &program.threads, program.values(x));
            match width {
                1 => elementwise::multiply(kernels, threads, to, x),
                _ => elementwise::multiply_rows(kernels, threads, to, x, width),
            }
        });
    }

    /// Multiplies each `width` columns of `to` by one element of `vector`.
    pub(super) fn multiply_vector(&mut self, vector: Weight, to: Slot, width: usize) {
        let columns = self.columns(to);
        self.write_rows(to, columns, |program, _, to| {
            let (kernels, threads, vector) = (program.kernels, &program.threads, program.weights.vector(vector));
            for row in to.chunks_exact_mut(columns) {
                match width {
                    1 => elementwise::multiply(kernels, threads, row, vector),
                    _ => elementwise::multiply_rows(kernels, threads, row, vector, width),
                }
            }
        });
    }

    pub(super) fn divide_vector(&mut self, vector: Weight, to: Slot) {
        let columns = self.columns(to);
        self.write_rows(to, columns, |program, _, to| {
            let vector = program.weights.vector(vector);
            for row in to.chunks_exact_mut(columns) {
                row.iter_mut().zip(vector).for_each(|(value, divisor)| *value /= divisor);
            }
        });
    }

    pub(super) fn scale(&mut self, x: Slot, factor: f32) {
        self.write(x, |program, x| elementwise::scale(program.kernels, &program.threads, x, factor));
    }

    /// Scales the rows whose sequence uses the adapter, and clears the others.
    pub(super) fn adapt(&mut self, x: Slot, adapter: usize, scale: f32) {
        let (columns, rows) = (self.columns(x), self.slot_rows(x));
        self.write_rows(x, columns, |program, range, x| {
            for (at, row) in range.zip(x.chunks_exact_mut(columns)) {
                let at = if rows == Rows::Outputs { program.step.outputs[at] } else { at };
                match program.step.adapts(at, adapter) {
                    true => row.iter_mut().for_each(|value| *value *= scale),
                    false => row.fill(0.0),
                }
            }
        });
    }

    pub(super) fn softcap(&mut self, x: Slot, cap: f32) {
        self.write(x, |program, x| elementwise::softcap(program.kernels, &program.threads, x, cap));
    }

    pub(super) fn clamp(&mut self, x: Slot, limit: f32) {
        self.write(x, |program, x| elementwise::clamp(program.kernels, &program.threads, x, -limit, limit));
    }

    /// Rotates `heads` of `x`, each from its element `first` on.
    pub(super) fn rope(&mut self, x: Slot, rope: &Rope, heads: usize, first: usize) {
        let columns = self.columns(x);
        let heads = Heads { columns, count: heads, stride: columns / heads, first };
        let kind = rotation::kind(rope.pairs);
        let mut rotations = std::mem::take(&mut self.rotations);
        self.write(x, |program, x| {
            let factors = rope.factors.map(|factors| program.weights.vector(factors));
            let rows = rotations.rows(&program.threads, rope, factors, &program.step.positions);
            elementwise::rope_heads(program.kernels, &program.threads, kind, x, heads, rope.dimensions, rows);
        });
        self.rotations = rotations;
    }
}
