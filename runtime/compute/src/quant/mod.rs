//! GGML's block types: how GGUF stores weights and which values they encode.
//!
//! This is the definition, in plain scalar code; `kernels` has the fast readers and is tested against it.
//! The one idea to know: every quantised type here is groups of 32 columns, and a group is `scale × multiplier[half] × level +
//! offset` with small integer levels; if integers cannot relate the halves, each has its own scale and offset. Dequantising and
//! the integer matrix product both start from that view ([`Group`]), so a new block type is one implementation of [`Block`],
//! from which readers take what they need to know, and one row in `list.rs`.

pub mod encode;
mod form;
mod fp4;
pub(crate) mod grids;
mod iq1;
mod iq2;
mod iq3;
mod iq4;
mod k;
mod legacy;
mod list;
mod plain;
pub mod random;
mod ternary;

use std::ops::RangeInclusive;

use satchel_gguf::TensorType;

pub use form::{Apart, ApartWithOffset, Form, Halves, Scaled, ScaledBytes, WithOffset};
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) use fp4::CODES as FP4_CODES;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) use iq4::CODES as IQ4_CODES;
pub(crate) use list::{by_listed, by_type, declare, for_block, for_listed, with_types};
pub use plain::{BF16, F16, F32, Plain};

with_types!(declare,);

/// Columns per group: the unit in which activations are quantised, and the widest that shares one offset.
pub const GROUP: usize = 32;

/// 32 consecutive weights: column `i`, of half `h = i / 16`, is `scale[h] * multipliers[h] * levels[i] + offset[h]`.
#[derive(Clone, Debug)]
pub struct Group {
    /// The stored (or looked-up) integers, shifted to be signed if the type has no offset of its own.
    pub levels: [i8; GROUP],
    /// Value of one level (before the multiplier); equal in both halves, unless the form is [`Form::APART`].
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

/// A quantised block type: what every reader needs to know of it. The implementing type lists the block's fields, as bytes, for
/// their offsets.
pub trait Block: Sized {
    /// Its GGML type, which gives the block's elements and bytes.
    const TYPE: TensorType;
    /// The smallest and the largest level that a group can have; from 0 on if it has an offset.
    const LEVELS: RangeInclusive<i8>;
    /// What groups hold besides levels.
    type Form: Form;
    /// Its f16 fields, and the value of each relative to the first that gives random levels a mean of zero; none if scales are
    /// stored in another way.
    const F16: &[(usize, f32)];

    /// Bytes per block.
    const BYTES: usize = {
        assert!(size_of::<Self>() == Self::TYPE.block_bytes(), "the fields of a block are all its bytes");
        size_of::<Self>()
    };
    /// Groups of 32 columns per block.
    const GROUPS: usize = Self::TYPE.block_elements() / GROUP;
    /// The level that stands for 0, counted from the smallest.
    const ZERO_POINT: i32 = -(*Self::LEVELS.start() as i32);

    /// Columns `group * 32 ..` of a block of `BYTES` bytes.
    fn group(block: &[u8], group: usize) -> Group;
}

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
    for (block, out) in bytes.chunks_exact(B::BYTES).zip(out.chunks_exact_mut(B::GROUPS * GROUP)) {
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

/// The bytes of a field at `offset`, or of a part of one.
fn array_at<const N: usize>(block: &[u8], offset: usize) -> &[u8; N] {
    block[offset..].first_chunk().expect("a whole block")
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
    use crate::kernels::matmul::tests::noise::{Noise, Scales, weights};
    use std::path::Path;

    /// Every type against the values that gguf-py reads from the same blocks: exact equality.
    #[test]
    fn every_type_reads_the_reference_values() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/quants");
        let files = std::fs::read_dir(&folder).expect("reference blocks").map(|file| file.expect("a file").path());
        let references = files.filter(|file| file.extension().is_some_and(|extension| extension == "blocks")).count();
        assert_eq!(SUPPORTED.len(), references, "types, and those with a reference");
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

    /// Random blocks have no level outside the type's, and hold what its form says.
    #[test]
    fn groups_keep_within_what_the_type_declares() {
        fn check<B: Block>() {
            let (from, to) = (i16::from(*B::LEVELS.start()), i16::from(*B::LEVELS.end()));
            assert!(from <= 0 && !(B::Form::OFFSET && from != 0), "{}: levels from {from}", B::TYPE);
            assert_eq!(B::Form::LARGE, from.abs().max(to) > 64, "{}: levels {from} to {to}", B::TYPE);
            assert!(!(B::Form::APART && B::Form::HALVES), "{}", B::TYPE);
            let blocks = weights(&mut Noise(7), B::TYPE, 1, 400 * B::TYPE.block_elements(), Scales::Usual);
            let groups = blocks.chunks_exact(B::BYTES).flat_map(|block| (0..B::GROUPS).map(|at| B::group(block, at)));
            let (mut lowest, mut highest, mut offset, mut halves, mut apart) = (0, 0, false, false, false);
            for group in groups {
                lowest = lowest.min(group.levels.into_iter().min().expect("32 levels"));
                highest = highest.max(group.levels.into_iter().max().expect("32 levels"));
                offset |= group.offset != [0.0; 2];
                halves |= group.multipliers != [1; 2];
                apart |= group.scale[0] != group.scale[1] || group.offset[0] != group.offset[1];
            }
            assert_eq!(lowest..=highest, B::LEVELS, "{}", B::TYPE);
            let declared = (B::Form::OFFSET, B::Form::HALVES, B::Form::APART);
            assert_eq!((offset, halves, apart), declared, "{}: offset, halves, apart", B::TYPE);
        }
        for ty in SUPPORTED {
            for_block!(ty, B => check::<B>(), plain P => assert_eq!(P::BYTES, ty.block_bytes()), else unreachable!());
        }
    }

    #[test]
    #[should_panic(expected = "64 elements in 35 bytes")]
    fn a_wrong_length_is_refused() {
        dequantize_row(TensorType::Q4_0, &[0; 35], &mut [0.0; 64]);
    }
}
