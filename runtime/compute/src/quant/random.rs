//! Random weights of any type, for benchmarks and tests, which need files and matrices of every shape.
//!
//! Levels are random bits. Scales are chosen to give the requested deviation, and offsets to give a mean near zero, as in real
//! models, which keeps a forward pass finite.

use std::mem::offset_of;

use half::{bf16, f16};
use oorandom::Rand64;
use satchel_gguf::TensorType;

use super::{Block, IQ1M, dequantize_row, for_block, fp4};

/// A source of weights of one type.
#[derive(Debug)]
pub struct RandomWeights {
    ty: TensorType,
    random: Rand64,
    /// A block's scale, give or take a quarter.
    scale: f32,
}

/// Blocks sampled to measure the magnitude of weights at a scale of 1.
const SAMPLE: usize = 64;

impl RandomWeights {
    /// Weights with a root mean square of about `deviation`; the same `seed` gives the same weights.
    ///
    /// # Panics
    /// If the type is not supported.
    pub fn new(ty: TensorType, deviation: f32, seed: u64) -> Self {
        let mut weights = Self { ty, random: Rand64::new(u128::from(seed)), scale: 1.0 };
        let mut blocks = vec![0; SAMPLE * ty.block_bytes()];
        weights.fill(&mut blocks);
        let mut values = vec![0.0; SAMPLE * ty.block_elements()];
        dequantize_row(ty, &blocks, &mut values);
        let square: f32 = values.iter().map(|value| value * value).sum();
        weights.scale = deviation / (square / values.len() as f32).sqrt();
        weights
    }

    /// The next weights.
    ///
    /// # Panics
    /// If `out` is not a whole number of blocks.
    pub fn fill(&mut self, out: &mut [u8]) {
        assert!(out.len().is_multiple_of(self.ty.block_bytes()), "{} bytes of {}", out.len(), self.ty);
        for bytes in out.chunks_mut(8) {
            bytes.copy_from_slice(&self.random.rand_u64().to_le_bytes()[..bytes.len()]);
        }
        for block in out.chunks_exact_mut(self.ty.block_bytes()) {
            let unit = self.random.rand_float() as f32;
            let (scale, value) = (self.scale * (0.75 + 0.5 * unit), self.scale * (2.0 * unit - 1.0));
            match self.ty {
                TensorType::F32 => block.copy_from_slice(&value.to_le_bytes()),
                TensorType::F16 => block.copy_from_slice(&f16::from_f32(value).to_le_bytes()),
                TensorType::BF16 => block.copy_from_slice(&bf16::from_f32(value).to_le_bytes()),
                TensorType::MXFP4 => block[0] = fp4::nearest_e8m0(scale),
                TensorType::NVFP4 => block[..4].fill(fp4::next_ue4m3(scale)),
                TensorType::TQ2_0 => {
                    // Two bits could encode a 2, which occurs in no file and would shift the mean: use 0 instead.
                    block.iter_mut().for_each(|byte| *byte &= !((*byte & *byte >> 1 & 0x55) << 1));
                    set_f16_scales(self.ty, block, |_| f16::from_f32(scale).to_bits());
                }
                ty => set_f16_scales(ty, block, |factor| f16::from_f32(scale * factor).to_bits()),
            }
        }
    }
}

/// See [`Block::F16`].
fn f16_fields(ty: TensorType) -> &'static [(usize, f32)] {
    for_block!(ty, B => B::F16, plain P => &[(0, 1.0)], else &[])
}

/// Sets the f16 fields of a block, if its type has any: `bits` maps each field's value relative to the first to its bits.
pub(crate) fn set_f16_scales(ty: TensorType, block: &mut [u8], mut bits: impl FnMut(f32) -> u16) {
    if ty == TensorType::IQ1_M {
        // A nibble at the top of each word.
        let bits = bits(1.0);
        for (nibble, byte) in block[offset_of!(IQ1M, words)..].iter_mut().skip(1).step_by(2).enumerate() {
            *byte = *byte & 15 | (bits >> (4 * nibble) << 4) as u8;
        }
        return;
    }
    for &(offset, factor) in f16_fields(ty) {
        block[offset..offset + 2].copy_from_slice(&bits(factor).to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::SUPPORTED;

    #[test]
    fn weights_have_the_deviation_asked_for() {
        for ty in SUPPORTED {
            let mut blocks = vec![0; 8192 / ty.block_elements() * ty.block_bytes()];
            RandomWeights::new(ty, 0.02, 5).fill(&mut blocks);
            let mut values = vec![f32::NAN; 8192];
            dequantize_row(ty, &blocks, &mut values);
            let mean = values.iter().sum::<f32>() / 8192.0;
            let deviation = (values.iter().map(|value| value * value).sum::<f32>() / 8192.0).sqrt();
            // Powers of two cannot get closer than this.
            assert!(
                (0.013..0.03).contains(&deviation) && mean.abs() < 0.004,
                "{ty}: mean {mean}, deviation {deviation}"
            );
        }
    }
}
