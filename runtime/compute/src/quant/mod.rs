//! GGML's block types: how GGUF stores weights and which values they encode.
//!
//! This is the definition, in plain scalar code; `kernels` has the fast readers and is tested against it.
//! The one idea to know: every quantised type here is groups of 32 columns, and a group is `scale × multiplier[half] × level +
//! offset` with small integer levels; if integers cannot relate the halves, each has its own scale and offset. Dequantising and
//! the integer matrix product both start from that view ([`Group`]), so a new block type is one implementation of [`Block`] and
//! one row in `for_block!`.

pub mod encode;
mod fp4;
pub(crate) mod grids;
mod iq1;
mod iq2;
mod iq3;
mod iq4;
mod k;
mod legacy;
mod plain;
pub mod random;
mod ternary;

use satchel_gguf::TensorType;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) use fp4::LEVELS as FP4_LEVELS;
pub use fp4::{MXFP4, NVFP4};
pub use iq1::{IQ1M, IQ1S};
pub use iq2::{IQ2S, IQ2XS, IQ2XXS};
pub use iq3::{IQ3S, IQ3XXS};
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) use iq4::LEVELS as IQ4_LEVELS;
pub use iq4::{IQ4NL, IQ4XS};
pub use k::{Q2K, Q3K, Q4K, Q5K, Q6K};
pub use legacy::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
pub use plain::{BF16, F16, F32, Plain};
pub use ternary::{TQ1_0, TQ2_0};

/// Columns per group: the unit in which activations are quantised, and the widest that shares one offset.
pub const GROUP: usize = 32;

/// 32 consecutive weights: column `i`, of half `h = i / 16`, is `scale[h] * multipliers[h] * levels[i] + offset[h]`.
#[derive(Clone, Debug)]
pub struct Group {
    /// The stored (or looked-up) integers, shifted to be signed if the type has no offset of its own.
    pub levels: [i8; GROUP],
    /// Value of one level (before the multiplier); equal in both halves, unless the type is [`Block::APART`].
    pub scale: [f32; 2],
    /// Integer scale of each half of the group; 1 for types whose scale covers the group or is not an integer.
    pub multipliers: [i32; 2],
    /// Added to every weight; 0 for types symmetric around zero. The same in both halves, as above.
    pub offset: [f32; 2],
}

impl Group {
    /// A group with one scale and no offset.
    fn new(levels: [i8; GROUP], scale: f32) -> Self {
        Group { levels, scale: [scale; 2], multipliers: [1; 2], offset: [0.0; 2] }
    }
}

/// A quantised block type.
pub trait Block {
    /// Its GGML type, which gives the block's elements and bytes.
    const TYPE: TensorType;
    /// Each half of a group has its own scale and offset: products add them one after the other.
    const APART: bool = false;

    /// Columns `group * 32 ..` of a block of `TYPE.block_bytes()` bytes.
    fn group(block: &[u8], group: usize) -> Group;
}

/// Calls `$body` with `$B` as the [`Block`] (or, in the second arm, [`Plain`]) type of a tensor type; `$other` for a type that is
/// not implemented.
macro_rules! for_block {
    ($ty:expr, $B:ident => $body:expr, plain $P:ident => $plain:expr, else $other:expr) => {
        $crate::quant::for_block!(@match $ty, $B $body, $P $plain, $other,
            [Q8_0 Q8_0] [Q4_0 Q4_0] [Q4_1 Q4_1] [Q5_0 Q5_0] [Q5_1 Q5_1] [Q2_K Q2K] [Q3_K Q3K] [Q4_K Q4K] [Q5_K Q5K] [Q6_K Q6K]
            [IQ1_S IQ1S] [IQ1_M IQ1M] [IQ2_XXS IQ2XXS] [IQ2_XS IQ2XS] [IQ2_S IQ2S] [IQ3_XXS IQ3XXS] [IQ3_S IQ3S]
            [IQ4_NL IQ4NL] [IQ4_XS IQ4XS] [TQ1_0 TQ1_0] [TQ2_0 TQ2_0] [MXFP4 MXFP4] [NVFP4 NVFP4])
    };
    (@match $ty:expr, $B:ident $body:expr, $P:ident $plain:expr, $other:expr, $([$name:ident $block:ident])*) => {
        match $ty {
            satchel_gguf::TensorType::F32 => {
                type $P = $crate::quant::F32;
                $plain
            }
            satchel_gguf::TensorType::F16 => {
                type $P = $crate::quant::F16;
                $plain
            }
            satchel_gguf::TensorType::BF16 => {
                type $P = $crate::quant::BF16;
                $plain
            }
            $(satchel_gguf::TensorType::$name => {
                type $B = $crate::quant::$block;
                $body
            })*
            _ => $other,
        }
    };
}
pub(crate) use for_block;

/// The types that can be read and multiplied; every kernel table covers all of them.
pub const SUPPORTED: [TensorType; 26] = [
    TensorType::F32,
    TensorType::F16,
    TensorType::BF16,
    TensorType::Q8_0,
    TensorType::Q4_0,
    TensorType::Q4_1,
    TensorType::Q5_0,
    TensorType::Q5_1,
    TensorType::Q2_K,
    TensorType::Q3_K,
    TensorType::Q4_K,
    TensorType::Q5_K,
    TensorType::Q6_K,
    TensorType::IQ1_S,
    TensorType::IQ1_M,
    TensorType::IQ2_XXS,
    TensorType::IQ2_XS,
    TensorType::IQ2_S,
    TensorType::IQ3_XXS,
    TensorType::IQ3_S,
    TensorType::IQ4_NL,
    TensorType::IQ4_XS,
    TensorType::TQ1_0,
    TensorType::TQ2_0,
    TensorType::MXFP4,
    TensorType::NVFP4,
];

/// Whether rows of this type can be read and multiplied.
pub fn supports(ty: TensorType) -> bool {
    SUPPORTED.contains(&ty)
}

/// Dequantises one row (or any whole number of blocks) to f32.
///
/// # Panics
/// If the type is not supported (see [`supports`]), or if `bytes` is not exactly what `out.len()` elements take.
pub fn dequantize_row(ty: TensorType, bytes: &[u8], out: &mut [f32]) {
    let expected = ty.row_bytes(out.len() as u64);
    assert_eq!(expected, Some(bytes.len() as u64), "{ty}: {} elements in {} bytes", out.len(), bytes.len());
    for_block!(ty, B => dequantize_blocks::<B>(bytes, out), plain P => P::widen(bytes, out), else panic!("no reader for {ty}"));
}

fn dequantize_blocks<B: Block>(bytes: &[u8], out: &mut [f32]) {
    let (elements, size) = (B::TYPE.block_elements(), B::TYPE.block_bytes());
    for (block, out) in bytes.chunks_exact(size).zip(out.chunks_exact_mut(elements)) {
        for (index, out) in out.chunks_exact_mut(GROUP).enumerate() {
            let group = B::group(block, index);
            // The half's scale is rounded before the multiplication with the level, as in the formats' reference reader.
            let scales = [0, 1].map(|half| group.scale[half] * group.multipliers[half] as f32);
            for (column, (out, &level)) in out.iter_mut().zip(&group.levels).enumerate() {
                *out = scales[column / 16] * f32::from(level) + group.offset[column / 16];
            }
        }
    }
}

/// The f16 at `offset` as f32.
fn f16_at(block: &[u8], offset: usize) -> f32 {
    half::f16::from_le_bytes([block[offset], block[offset + 1]]).to_f32()
}

/// The little-endian 16-bit word at `offset`.
fn u16_at(block: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes([block[offset], block[offset + 1]])
}

/// The little-endian 32-bit word at `offset`.
fn u32_at(block: &[u8], offset: usize) -> u32 {
    u32::from(u16_at(block, offset)) | u32::from(u16_at(block, offset + 2)) << 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Every type against the values that gguf-py reads from the same blocks: exact equality.
    #[test]
    fn every_type_reads_the_reference_values() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/quants");
        for ty in SUPPORTED {
            let blocks = std::fs::read(folder.join(format!("{ty}.blocks"))).expect("reference blocks");
            let expected: Vec<f32> = std::fs::read(folder.join(format!("{ty}.f32")))
                .expect("reference values")
                .chunks_exact(4)
                .map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes")))
                .collect();
            let mut values = vec![f32::NAN; expected.len()];
            dequantize_row(ty, &blocks, &mut values);
            for (index, (value, expected)) in values.iter().zip(&expected).enumerate() {
                assert!(value == expected, "{ty} element {index}: {value} is not {expected}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "64 elements in 35 bytes")]
    fn a_wrong_length_is_refused() {
        dequantize_row(TensorType::Q4_0, &[0; 35], &mut [0.0; 64]);
    }
}
