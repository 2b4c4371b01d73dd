//! Rows of the token table, looked up where the next step's tokens may be the only ones who know.

use crate::call::{Call, Grid, Words};
use crate::{Gpu, GpuError, Kernel, Matrix};

/// A lookup's buffers.
pub struct Embedding<'a> {
    /// The step's.
    pub step: &'a wgpu::Buffer,
    /// A token for each row; one outside the table leaves its row as it is.
    pub tokens: &'a wgpu::Buffer,
    /// Multiplies the rows.
    pub scale: f32,
    /// The result.
    pub out: &'a wgpu::Buffer,
}

impl Gpu {
    /// Prepares a lookup: a call for each part of the table.
    ///
    /// # Errors
    /// If memory is out.
    pub fn embed(&self, table: &Matrix, of: &Embedding<'_>) -> Result<Vec<Call>, GpuError> {
        let threads = if table.form.is_plain() { table.columns.div_ceil(4) } else { table.columns / 32 };
        let parts = table.parts.iter().map(|part| {
            let words = Words::default()
                .count(table.columns)
                .count(table.row_words)
                .count(part.first)
                .count(part.rows)
                .number(of.scale);
            let (kernel, grid) = (Kernel::Embed(table.form), Grid::Threads(threads));
            self.call(kernel, false, grid, &words, of.step, &[&part.buffer, of.tokens], &[of.out])
        });
        parts.collect()
    }
}
