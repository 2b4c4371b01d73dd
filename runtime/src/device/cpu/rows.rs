//! Operations that move rows and columns: lookups at the start, parts of rows, the wanted rows at the end.

use super::program::CpuProgram;
use crate::kernels::elementwise;
use crate::plan::{Pooling, RowInput, Slot, Weight};

impl CpuProgram {
    pub(super) fn embed(&mut self, table: Weight, scale: f32, out: Slot) {
        let columns = self.columns(out);
        self.write_rows(out, columns, |program, range, out| {
            for (input, row) in program.step.inputs[range].iter().zip(out.chunks_exact_mut(columns)) {
                match input {
                    RowInput::Token(token) => program.weights.row(table, *token as usize, row),
                    RowInput::Embedding(embedding) if embedding.len() == columns => row.copy_from_slice(embedding),
                    // An adapter of the table has nothing for what is not in it.
                    RowInput::Embedding(_) => row.fill(0.0),
                }
                if scale != 1.0 && matches!(input, RowInput::Token(_)) {
                    row.iter_mut().for_each(|value| *value *= scale);
                }
            }
        });
    }

    pub(super) fn add_position(&mut self, table: Weight, x: Slot) {
        let columns = self.columns(x);
        self.write_rows(x, columns, |program, range, x| {
            let mut positional = vec![0.0; columns];
            for (&position, row) in program.step.positions[range].iter().zip(x.chunks_exact_mut(columns)) {
                program.weights.row(table, position, &mut positional);
                elementwise::add(program.kernels, &program.threads, row, &positional);
            }
        });
    }

    pub(super) fn add_vector(&mut self, vector: Weight, x: Slot) {
        let columns = self.columns(x);
        self.write_rows(x, columns, |program, _, x| {
            let vector = program.weights.vector(vector);
            for row in x.chunks_exact_mut(columns) {
                elementwise::add(program.kernels, &program.threads, row, vector);
            }
        });
    }

    pub(super) fn split(&mut self, x: Slot, first: usize, width: usize, stride: usize, out: Slot) {
        let columns = self.columns(out);
        self.write_rows(out, columns, |program, range, out| {
            let parts = program.values(x).chunks_exact(stride).skip(range.start * (columns / width));
            for (from, to) in parts.zip(out.chunks_exact_mut(width)) {
                to.copy_from_slice(&from[first..first + width]);
            }
        });
    }

    /// Concatenates two parts per head; `y` is shared by all heads if it is only one head wide.
    pub(super) fn join(&mut self, x: Slot, y: Slot, heads: usize, out: Slot) {
        let columns = self.columns(out);
        let (x_width, out_width) = (self.columns(x) / heads, columns / heads);
        let y_width = out_width - x_width;
        let shared = self.columns(y) == y_width;
        self.write_rows(out, columns, |program, range, out| {
            let (x, y) = (program.values(x), program.values(y));
            let parts = x.chunks_exact(x_width).enumerate().skip(range.start * heads);
            for (out, (head, x)) in out.chunks_exact_mut(out_width).zip(parts) {
                let (first, second) = out.split_at_mut(x_width);
                first.copy_from_slice(x);
                let part = if shared { head / heads } else { head };
                second.copy_from_slice(&y[part * y_width..][..y_width]);
            }
        });
    }

    pub(super) fn select(&mut self, x: Slot, out: Slot) {
        let columns = self.columns(x);
        self.write_rows(out, columns, |program, range, out| {
            let x = program.values(x);
            for (&row, target) in program.step.outputs[range].iter().zip(out.chunks_exact_mut(columns)) {
                target.copy_from_slice(&x[row * columns..(row + 1) * columns]);
            }
        });
    }

    /// One row for each wanted row's sequence. A mean is added up in order of position, so that it does not depend on what
    /// stands beside the sequence.
    pub(super) fn pool(&mut self, pooling: Pooling, x: Slot, out: Slot) {
        let columns = self.columns(x);
        self.write(out, |program, out| {
            let x = program.values(x);
            let runs = program.step.runs();
            for (&wanted, target) in program.step.outputs.iter().zip(out.chunks_exact_mut(columns)) {
                let run = runs.iter().find(|(_, rows)| rows.contains(&wanted));
                let rows = run.expect("a wanted row is a row of the step").1.clone();
                let row = |row: usize| &x[row * columns..(row + 1) * columns];
                match pooling {
                    Pooling::First => target.copy_from_slice(row(rows.start)),
                    Pooling::Last => target.copy_from_slice(row(rows.end - 1)),
                    Pooling::Mean => {
                        target.fill(0.0);
                        let count = rows.len() as f32;
                        for at in rows {
                            target.iter_mut().zip(row(at)).for_each(|(sum, value)| *sum += value);
                        }
                        target.iter_mut().for_each(|sum| *sum /= count);
                    }
                }
            }
        });
    }
}
