//! Quantising: the inverse of [`super::dequantize_row`].
//!
//! A block type fixes what can be stored; finding the best values for given weights is a search. `legacy` uses the range as is.
//! `search` looks for scales (and minimums) that minimise the weighted squared error, and `k` packs what it finds. Nothing here
//! knows about models: importance matrices, which need a calibration text, are not used.

mod k;
mod legacy;
mod search;
#[cfg(test)]
mod tests;

use half::{bf16, f16};
use satchel_gguf::TensorType;

/// Writes the blocks of a row (or any whole number of blocks).
pub type Encoder = fn(values: &[f32], out: &mut [u8]);

/// The largest weight that any type's f16 scale can represent.
pub const LARGEST: f32 = 65504.0;

/// The encoder of a type; `None` for types that are only read.
pub fn encoder(ty: TensorType) -> Option<Encoder> {
    Some(match ty {
        TensorType::F32 => |values, out| plain(values, out, f32::to_le_bytes),
        TensorType::F16 => |values, out| plain(values, out, |value| f16::from_f32(value).to_le_bytes()),
        TensorType::BF16 => |values, out| plain(values, out, |value| bf16::from_f32(value).to_le_bytes()),
        TensorType::Q8_0 => |values, out| blocks(TensorType::Q8_0, values, out, legacy::q8_0),
        TensorType::Q4_0 => |values, out| blocks(TensorType::Q4_0, values, out, legacy::q4_0),
        TensorType::Q4_1 => |values, out| blocks(TensorType::Q4_1, values, out, legacy::q4_1),
        TensorType::Q5_0 => |values, out| blocks(TensorType::Q5_0, values, out, legacy::q5_0),
        TensorType::Q5_1 => |values, out| blocks(TensorType::Q5_1, values, out, legacy::q5_1),
        TensorType::Q2_K => |values, out| blocks(TensorType::Q2_K, values, out, k::q2_k),
        TensorType::Q3_K => |values, out| blocks(TensorType::Q3_K, values, out, k::q3_k),
        TensorType::Q4_K => |values, out| blocks(TensorType::Q4_K, values, out, k::q4_k),
        TensorType::Q5_K => |values, out| blocks(TensorType::Q5_K, values, out, k::q5_k),
        TensorType::Q6_K => |values, out| blocks(TensorType::Q6_K, values, out, k::q6_k),
        _ => return None,
    })
}

/// Q4_0 with the scale of each block chosen for the least squared error, see [`legacy::q4_0_fitted`].
pub(crate) fn q4_0_fitted(values: &[f32], out: &mut [u8]) {
    blocks(TensorType::Q4_0, values, out, legacy::q4_0_fitted);
}

/// Writes each value on its own.
fn plain<const BYTES: usize>(values: &[f32], out: &mut [u8], bytes: impl Fn(f32) -> [u8; BYTES]) {
    let (out, rest) = out.as_chunks_mut::<BYTES>();
    assert!(rest.is_empty() && out.len() == values.len(), "{} values in {} places", values.len(), out.len());
    for (out, &value) in out.iter_mut().zip(values) {
        *out = bytes(value);
    }
}

/// Writes block by block: `ELEMENTS` values each.
fn blocks<const ELEMENTS: usize>(
    ty: TensorType,
    values: &[f32],
    out: &mut [u8],
    encode: impl Fn(&[f32; ELEMENTS], &mut [u8]),
) {
    assert_eq!(ty.block_elements(), ELEMENTS, "{ty}");
    assert_eq!(ty.row_bytes(values.len() as u64), Some(out.len() as u64), "{ty}: {} values", values.len());
    for (values, out) in values.as_chunks().0.iter().zip(out.chunks_exact_mut(ty.block_bytes())) {
        encode(values, out);
    }
}

/// Writes an f16 at `offset` and returns the value a reader will decode.
fn put_f16(block: &mut [u8], offset: usize, value: f32) -> f32 {
    let stored = f16::from_f32(value);
    block[offset..offset + 2].copy_from_slice(&stored.to_le_bytes());
    stored.to_f32()
}

/// The nearest integer, ties to even, for |value| < 2²²: next to 1.5 · 2²³ an f32 has no fraction bits. Two additions, where
/// `round_ties_even` is a library call on baseline processors.
#[inline(always)]
fn nearest(value: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (value + SHIFT) - SHIFT
}

/// The inverse of `scale`; 0 if a scale of 0 makes levels meaningless.
#[inline(always)]
fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}
