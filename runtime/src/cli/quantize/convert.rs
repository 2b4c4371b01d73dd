//! Converts a tensor in batches of rows: read, widen to f32, encode, write.
//!
//! Rows are read, not mapped: pages of a mapping would add up in this process's resident memory.

use std::io::{self, Read, Write};

use rayon::prelude::*;
use satchel_gguf::{TensorInfo, TensorType};
use satchel_packer::Observer;

use crate::quant::dequantize_row;
use crate::quant::encode::{Encoder, LARGEST, encoder};

/// Approximate weights per batch; at least one row per thread.
const BATCH_ELEMENTS: u64 = 1 << 20;

/// Why a tensor cannot be converted. Travels inside an [`io::Error`].
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("{tensor}, row {row}: {value} is not a weight; the file is damaged, or was made from a damaged one")]
    NotFinite { tensor: String, row: u64, value: f32 },
    #[error("{tensor}, row {row}: {value} is beyond what {ty} can hold; BF16 and F32 can hold it")]
    TooLarge { tensor: String, row: u64, value: f32, ty: TensorType },
    #[error("cannot read {tensor}: {error}")]
    Unreadable { tensor: String, error: io::Error },
    #[error("interrupted")]
    Interrupted,
}

/// Converts the tensor at `input`'s position to blocks of type `to`; `observer` sees every batch.
///
/// # Errors
/// The writer's own, and [`Refused`] inside an [`io::Error`].
pub(super) fn write_tensor(
    tensor: &TensorInfo,
    input: &mut impl Read,
    to: TensorType,
    out: &mut impl Write,
    observer: &dyn Observer,
) -> io::Result<()> {
    let row_bytes =
        |ty: TensorType| ty.row_bytes(tensor.columns()).expect("a row is whole blocks: the table was checked") as usize;
    let (from_bytes, to_bytes) = (row_bytes(tensor.ty), row_bytes(to));
    let most = (BATCH_ELEMENTS / tensor.columns().max(1)).max(rayon::current_num_threads() as u64);
    let (mut bytes, mut blocks) = (Vec::new(), Vec::new());
    let mut first = 0;
    while first < tensor.rows() {
        if observer.interrupted() {
            return Err(io::Error::other(Refused::Interrupted));
        }
        let count = most.min(tensor.rows() - first) as usize;
        bytes.resize(count * from_bytes, 0);
        input.read_exact(&mut bytes).map_err(|error| {
            let tensor = tensor.name.clone();
            io::Error::other(Refused::Unreadable { tensor, error })
        })?;
        if tensor.ty == to {
            out.write_all(&bytes)?;
        } else {
            blocks.resize(count * to_bytes, 0);
            let encode = encoder(to).expect("tensors are assigned types that can be written");
            Rows { tensor, first, from_bytes, to, encode }
                .convert(&bytes, &mut blocks, to_bytes)
                .map_err(io::Error::other)?;
            out.write_all(&blocks)?;
        }
        observer.advance(bytes.len() as u64);
        first += count as u64;
    }
    Ok(())
}

/// Some consecutive rows of a tensor.
struct Rows<'a> {
    tensor: &'a TensorInfo,
    first: u64,
    from_bytes: usize,
    to: TensorType,
    encode: Encoder,
}

impl Rows<'_> {
    /// Runs on the thread pool; of several bad rows, the first is reported.
    fn convert(&self, bytes: &[u8], blocks: &mut [u8], to_bytes: usize) -> Result<(), Refused> {
        let columns = self.tensor.columns() as usize;
        let rows = bytes.par_chunks(self.from_bytes).zip(blocks.par_chunks_mut(to_bytes)).enumerate();
        let refused = rows.map_init(
            || vec![0.0; columns],
            |values, (row, (bytes, blocks))| {
                dequantize_row(self.tensor.ty, bytes, values);
                let refused = self.refused(self.first + row as u64, values);
                if refused.is_none() {
                    (self.encode)(values, blocks);
                }
                refused
            },
        );
        refused.find_map_first(|refused| refused).map_or(Ok(()), Err)
    }

    fn refused(&self, row: u64, values: &[f32]) -> Option<Refused> {
        let most = if matches!(self.to, TensorType::F32 | TensorType::BF16) { f32::MAX } else { LARGEST };
        // A comparison that NaN fails as well.
        let value =
            *values.iter().find(|value| !matches!(value.abs().partial_cmp(&most), Some(order) if order.is_le()))?;
        let tensor = self.tensor.name.clone();
        Some(match value.is_finite() {
            true => Refused::TooLarge { tensor, row, value, ty: self.to },
            false => Refused::NotFinite { tensor, row, value },
        })
    }
}
