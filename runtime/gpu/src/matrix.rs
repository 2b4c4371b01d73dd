//! Weights in a GPU's memory: blocks on whole words, split into buffers that a shader can address.

use satchel_compute::quant::{self, Block, Group, supports};
use satchel_gguf::TensorType;

use crate::kernel::{Form, LANES};
use crate::product::Reading;
use crate::{Gpu, GpuError, pack};

/// Bytes that are packed and sent together.
const PIECE_BYTES: usize = 16 << 20;

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
    /// Sends a matrix in a GGUF's blocks to the GPU.
    ///
    /// # Errors
    /// If the type cannot be read, or memory is out.
    pub fn upload(gpu: &Gpu, ty: TensorType, rows: usize, columns: usize, bytes: &[u8]) -> Result<Self, GpuError> {
        let row_bytes = ty.row_bytes(columns as u64).filter(|_| supports(ty));
        let row_bytes = row_bytes.ok_or_else(|| GpuError::Unusable(format!("there is no shader for {ty} weights")))?;
        let (row_bytes, row_words) = (row_bytes as usize, row_words(ty, columns));
        let most_rows = usize::try_from(gpu.binding_bytes()).unwrap_or(usize::MAX) / (4 * row_words);
        if most_rows == 0 {
            return Err(GpuError::Unusable(format!(
                "a row of {columns} columns is more than a buffer of this GPU holds"
            )));
        }
        let mut parts = Vec::new();
        let piece = (PIECE_BYTES / (4 * row_words)).max(1);
        let mut packed = Vec::new();
        for first in (0..rows).step_by(most_rows) {
            let count = most_rows.min(rows - first);
            let buffer = gpu.buffer("weights", (4 * row_words * count) as u64)?;
            for row in (first..first + count).step_by(piece) {
                let some = piece.min(first + count - row);
                packed.clear();
                for row in bytes[row * row_bytes..(row + some) * row_bytes].chunks_exact(row_bytes) {
                    pack(ty, row, &mut packed);
                    packed.resize(packed.len().next_multiple_of(4 * row_words), 0);
                }
                gpu.write(&buffer, (4 * row_words * (row - first)) as u64, &packed);
                if packed.len() >= PIECE_BYTES / 2 {
                    gpu.flush();
                }
            }
            parts.push(Part { buffer, first, rows: count });
        }
        gpu.check()?;
        Ok(Self { form: Form::of(ty), rows, columns, row_words, parts })
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
        TensorType::Q2_K => groups::<quant::Q2K>,
        TensorType::Q3_K => groups::<quant::Q3K>,
        TensorType::IQ1_S => groups::<quant::IQ1S>,
        TensorType::IQ1_M => groups::<quant::IQ1M>,
        TensorType::IQ2_XXS => groups::<quant::IQ2XXS>,
        TensorType::IQ2_XS => groups::<quant::IQ2XS>,
        TensorType::IQ2_S => groups::<quant::IQ2S>,
        TensorType::IQ3_XXS => groups::<quant::IQ3XXS>,
        TensorType::IQ3_S => groups::<quant::IQ3S>,
        TensorType::IQ4_NL => groups::<quant::IQ4NL>,
        TensorType::IQ4_XS => groups::<quant::IQ4XS>,
        TensorType::TQ1_0 => groups::<quant::TQ1_0>,
        TensorType::TQ2_0 => groups::<quant::TQ2_0>,
        TensorType::MXFP4 => groups::<quant::MXFP4>,
        TensorType::NVFP4 => groups::<quant::NVFP4>,
        other => panic!("{other} has a form of its own or is not supported"),
    };
    groups(row, out);
}
