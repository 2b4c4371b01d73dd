//! Weights in a GPU's memory: blocks on whole words, split into buffers that a shader can address.

use std::ops::Range;

use satchel_compute::quant::{self, Block, Group, supports};
use satchel_gguf::TensorType;

use crate::kernel::{Form, LANES};
use crate::product::Reading;
use crate::{Gpu, GpuError, Upload, pack};

/// Some rows of a matrix.
pub struct Part {
    pub(crate) buffer: wgpu::Buffer,
    /// The first of them.
    pub first: usize,
    /// How many.
    pub rows: usize,
}

/// A matrix.
pub struct Matrix {
    /// How it lies there.
    pub form: Form,
    /// Its rows.
    pub rows: usize,
    /// Elements of a row.
    pub columns: usize,
    /// Words of a row.
    pub row_words: usize,
    /// Its rows, in as many buffers as it takes.
    pub parts: Vec<Part>,
}

/// Words that a row of `columns` elements takes in a GPU's memory.
pub fn row_words(ty: TensorType, columns: usize) -> usize {
    let form = Form::of(ty);
    pack::row_words(form, columns).unwrap_or_else(|| {
        let (elements, words) = form.block();
        columns.div_ceil(elements) * words
    })
}

impl Matrix {
    /// Makes room for a matrix.
    ///
    /// # Errors
    /// If the type cannot be read, or memory is out.
    pub fn reserve(gpu: &Gpu, ty: TensorType, rows: usize, columns: usize) -> Result<Self, GpuError> {
        if ty.row_bytes(columns as u64).is_none() || !supports(ty) {
            return Err(GpuError::Unusable(format!("there is no shader for {ty} weights")));
        }
        let row_words = row_words(ty, columns);
        let most_rows = usize::try_from(gpu.binding_bytes()).unwrap_or(usize::MAX) / (4 * row_words);
        if most_rows == 0 {
            return Err(GpuError::Unusable(format!(
                "a row of {columns} columns is more than a buffer of this GPU holds"
            )));
        }
        let parts = (0..rows).step_by(most_rows).map(|first| {
            let rows = most_rows.min(rows - first);
            Ok(Part { buffer: gpu.buffer("weights", (4 * row_words * rows) as u64)?, first, rows })
        });
        let parts = parts.collect::<Result<_, GpuError>>()?;
        Ok(Self { form: Form::of(ty), rows, columns, row_words, parts })
    }

    /// Sends its rows, in a GGUF's blocks of `ty`; `sent` is told of bytes on their way.
    ///
    /// # Errors
    /// If memory is out, or the device is lost.
    pub fn fill(
        &self,
        upload: &mut Upload<'_>,
        ty: TensorType,
        bytes: &[u8],
        sent: &dyn Fn(u64),
    ) -> Result<(), GpuError> {
        let row_bytes = bytes.len() / self.rows;
        let packed_bytes = 4 * self.row_words;
        for part in &self.parts {
            let rows = &bytes[part.first * row_bytes..(part.first + part.rows) * row_bytes];
            let pack_rows = |some: Range<usize>, out: &mut Vec<u8>| {
                for row in rows[some.start * row_bytes..some.end * row_bytes].chunks_exact(row_bytes) {
                    pack(ty, row, out);
                    out.resize(out.len().next_multiple_of(packed_bytes), 0);
                }
            };
            upload.send(&part.buffer, part.rows, packed_bytes, &pack_rows, sent)?;
        }
        Ok(())
    }

    /// Sends a matrix in a GGUF's blocks to the GPU.
    ///
    /// # Errors
    /// As [`Matrix::reserve`] and [`Matrix::fill`].
    pub fn upload(gpu: &Gpu, ty: TensorType, rows: usize, columns: usize, bytes: &[u8]) -> Result<Self, GpuError> {
        let matrix = Self::reserve(gpu, ty, rows, columns)?;
        let mut upload = Upload::new(gpu, matrix.bytes(), 4 * matrix.row_words);
        matrix.fill(&mut upload, ty, bytes, &|_| {})?;
        upload.finish().map(|()| matrix)
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> u64 {
        4 * (self.row_words * self.rows) as u64
    }

    /// The threads that share a row: as many as have something to do, and always the same for a number of columns.
    pub fn lanes(&self) -> u32 {
        match self.columns / (32 * self.form.unit() as usize) {
            32.. => LANES[2],
            16..32 => LANES[1],
            _ => LANES[0],
        }
    }

    /// How shaders read it.
    pub fn reading(&self) -> Reading {
        Reading { form: self.form, lanes: self.lanes() }
    }
}

/// A row's blocks on whole words, in the order that `shaders/blocks` describes.
fn pack(ty: TensorType, row: &[u8], out: &mut Vec<u8>) {
    if pack::take_apart(ty, row, out) {
        return;
    }
    match Form::of(ty) {
        Form::Iq4Nl => {
            // Two unused bytes behind the scale.
            for block in row.chunks_exact(ty.block_bytes()) {
                out.extend([block[0], block[1], 0, 0]);
                out.extend(&block[2..]);
            }
        }
        Form::Q3K => {
            for block in row.chunks_exact(ty.block_bytes()) {
                out.extend(block);
                out.extend([0, 0]);
            }
        }
        Form::Mxfp4 => {
            for block in row.chunks_exact(ty.block_bytes()) {
                // A byte of scale would be padded to four: these hold its value.
                out.extend(quant::MXFP4::group(block, 0).scale[0].to_le_bytes());
                out.extend(&block[1..]);
            }
        }
        Form::Wide => wide(ty, row, out),
        _ => out.extend(row),
    }
}

/// A row of any block type that has no form of its own.
fn wide(ty: TensorType, row: &[u8], out: &mut Vec<u8>) {
    fn groups<B: Block>(row: &[u8], out: &mut Vec<u8>) {
        for block in row.chunks_exact(B::BYTES) {
            for group in 0..B::GROUPS {
                let Group { levels, scale, multipliers, offset } = B::group(block, group);
                out.extend(levels.map(|level| level as u8));
                let scales = [0, 1].map(|half| scale[half] * multipliers[half] as f32);
                out.extend(scales.into_iter().chain(offset).flat_map(f32::to_le_bytes));
            }
        }
    }
    let groups = match ty {
        TensorType::IQ1_S => groups::<quant::IQ1S>,
        TensorType::IQ1_M => groups::<quant::IQ1M>,
        TensorType::IQ2_XXS => groups::<quant::IQ2XXS>,
        TensorType::IQ2_XS => groups::<quant::IQ2XS>,
        TensorType::IQ2_S => groups::<quant::IQ2S>,
        TensorType::IQ3_XXS => groups::<quant::IQ3XXS>,
        TensorType::IQ3_S => groups::<quant::IQ3S>,
        TensorType::TQ1_0 => groups::<quant::TQ1_0>,
        TensorType::TQ2_0 => groups::<quant::TQ2_0>,
        TensorType::NVFP4 => groups::<quant::NVFP4>,
        other => panic!("{other} has a form of its own or is not supported"),
    };
    groups(row, out);
}
